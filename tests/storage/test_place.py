"""A run's place in a bucket: what is refused in one line, what a refused start leaves, what one that goes on has."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, ConfigError
from azr_jax.monitor.console import log_to_file
from azr_jax.parallel.hosts import Hosts
from azr_jax.run import place as places
from azr_jax.run.place import Place, open_place, settled
from azr_jax.storage import bucket as module
from azr_jax.storage import mirror as mirrors
from azr_jax.storage.bucket import Bucket, Object
from azr_jax.storage.errors import StorageError
from azr_jax.storage.lease import NAME
from azr_jax.storage.reading import Reader
from tests.storage.conftest import bucket_at, client
from tests.storage.proxy import Fault, Proxy

TINY = configs.load("configs/tiny.py", {})[0]


@dataclass
class Here:
    bucket: Bucket
    proxy: Proxy

    def open(self) -> Place:
        return open_place(self.bucket.url, TINY, Config(), Hosts())

    def names(self) -> list[str]:
        return [each.name for each in self.bucket.list()[0]]


@pytest.fixture
def here(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(module, "_client", lambda: client(proxy.url))
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    return Here(bucket_at(proxy.url), proxy)


def refuse(here: Here, before: Callable[[Place], object] = lambda place: None, error: type = ConfigError) -> None:
    """A start that gets as far as its devices, and no further."""
    with pytest.raises(error), here.open() as place:
        log_to_file(place.folder)
        logging.getLogger("jax").warning("three does not divide eight")
        place.publish()
        here.bucket.write("compiled/jit_step-cache", b"x")
        before(place)
        raise error(["mesh.tensor=3: no"])


def test_a_start_that_is_refused_leaves_nothing_behind(here: Here):
    """It left config.json, owner.json and its log."""
    refuse(here)
    assert here.names() == []
    with here.open() as place:
        assert place.lease.term == 1
    assert set(here.names()) == {"config.json", "config_diff.txt", NAME}


def test_what_was_played_stays_and_so_does_what_is_no_mistake_of_the_user(here: Here):
    refuse(here, error=RuntimeError)
    assert {"config.json", "compiled/jit_step-cache"} <= set(here.names())

    def play(place: Place) -> None:
        (place.folder / "seeding.json").write_text("{}")

    refuse(here, play)
    assert {"config.json", "compiled/jit_step-cache", NAME} <= set(here.names())


def test_a_start_of_a_run_that_is_refused_changes_nothing_of_what_is_said_of_it(here: Here):
    """Its other mesh stood in config.json and in the run's history, and the next start changed that back."""
    with here.open() as place:
        (place.folder / "seeding.json").write_text("{}")
        place.publish()
    before = here.bucket.read("config.json")
    longer, wrong = configs.load("configs/tiny.py", {"iterations": "40", "mesh.fsdp": "3"})
    assert not wrong
    with pytest.raises(ConfigError), open_place(here.bucket.url, longer, Config(), Hosts()) as place:
        place.publish()
        raise ConfigError(["mesh.fsdp=3: no"])
    assert here.bucket.read("config.json") == before and "config_changes.jsonl" not in here.names()
    with open_place(here.bucket.url, longer, Config(), Hosts()) as place:
        place.going_on(7)
    assert here.bucket.read("config.json") != before
    assert json.loads(here.bucket.read("config_changes.jsonl"))["from"] == 7


def test_who_lost_the_place_takes_nothing_back(here: Here):
    refuse(here, lambda place: here.bucket.write(NAME, json.dumps({"token": "x", "process": 7, "term": 2}).encode()))
    assert "config.json" in here.names() and json.loads(here.bucket.read(NAME))["token"] == "x"


def test_a_run_that_goes_on_has_every_file_that_it_cuts_back(here: Here):
    """schedule.jsonl of an overlapped run was not among them: it ended in a traceback."""
    grown = ["metrics", "timings", "records", "schedule", "buffers/deduction"]
    written = {f"{name}.jsonl": f'{{"{name}": 1}}\n' for name in grown}
    written |= {"watchdog.txt": "==== watchdog: it was written over by a start that had nothing to say\n"}
    written |= {"seeding.json": "{}", "returns.json": "[]", "config_changes.jsonl": "{}\n"}
    with here.open() as place:
        (place.folder / "buffers").mkdir()
        for name, text in written.items():
            (place.folder / name).write_text(text)
        place.publish()
    assert not {f"{name}.jsonl" for name in grown} & set(here.names()), "an object for each iteration's bytes"
    with here.open() as place:
        # metrics.jsonl is read again by what it says of the past.
        assert {name: (place.folder / name).read_text() for name in written} == written


def refused(here: Here) -> str:
    with pytest.raises(ConfigError) as told, here.open():
        pass
    (problem,) = told.value.problems
    assert problem.startswith(f"--workdir={here.bucket.url}: ") and "\n" not in problem
    return problem


def test_a_model_is_no_workdir(here: Here):
    """Its config.json was written over."""
    for name in ("config.json", "model.safetensors"):
        here.bucket.write(name, b'{"model_type": "qwen2"}')
    before = {each.name: each.generation for each in here.bucket.list()[0]}
    assert "not empty and not a run of this program" in refused(here)
    assert {each.name: each.generation for each in here.bucket.list()[0]} == before


@contextmanager
def owner_elsewhere(bucket: Bucket) -> Iterator[None]:
    """It lives, on a machine whose clock is years off."""
    done = threading.Event()

    def stay() -> None:
        signs_of_life = 0
        while not done.wait(0.1):
            signs_of_life += 1
            me = {"token": "x", "process": 7, "host": "far-away", "since": "1970-01-01 00:00:00 +0000", "term": 3}
            bucket.write(NAME, json.dumps(me | {"signs_of_life": signs_of_life}).encode())

    thread = threading.Thread(target=stay)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_run_that_another_one_owns_is_refused_with_its_name_whatever_the_clocks_say(here: Here):
    with owner_elsewhere(here.bucket):
        while not here.bucket.exists(NAME):
            pass
        assert "process 7 on far-away (since 1970-01-01 00:00:00 +0000) is running in it" in refused(here)
    assert here.names() == [NAME]


@pytest.mark.parametrize("method", ["", "POST"])
def test_a_bucket_that_one_may_not_write_to_is_named_with_what_is_missing(here: Here, method: str):
    here.proxy.spoil(Fault("status", 403, "x@y.com does not have access"), times=1000, method=method)
    assert "not permitted (x@y.com does not have access); the account of this machine needs" in refused(here)
    here.proxy.rules.clear()
    assert here.names() == []


def test_a_bucket_that_does_not_answer_may_do_so_later(here: Here, monkeypatch: pytest.MonkeyPatch):
    """Exit code 86, by which it is started again; it was 2."""
    away = Bucket(here.bucket.url, client(here.proxy.url), patience_s=0.1)
    monkeypatch.setattr(places, "open_bucket", lambda url: away)
    here.proxy.spoil(Fault("status", 503), times=1000)
    with pytest.raises(StorageError) as told, here.open():
        pass
    assert told.value.passing


@pytest.mark.parametrize(
    ("path", "said"),
    [
        *((f"x{sign}1", "should be without # ?") for sign in "#?*["),
        ("a\nb", "holds a character that nobody can see"),
        ("a\udcffb", "holds a character that nobody can see"),
        ("d/" * 401, "should have 800 bytes at most"),
    ],
)
def test_an_address_that_checkpoints_cannot_have_is_refused(here: Here, path: str, said: str):
    """With # or ? the first save did not end, with * or [ no checkpoint could be read; the others were tracebacks."""
    for flag, ask in (("--workdir", lambda url: open_place(url, TINY, Config(), Hosts())), ("--fork_from", settled)):
        with pytest.raises(ConfigError, match=said) as told:
            ask(f"{here.bucket.url}/{path}")
        (problem,) = told.value.problems
        assert problem.startswith(f"{flag}=") and "\n" not in problem


@pytest.mark.parametrize("path", ["n" * 300, "日" * 100, "a b/100%/%41", "'q\"/日本"])
def test_other_signs_and_long_names_are_a_place_as_any(gcp_emulator: str, monkeypatch, path: str):
    """A part of 256 bytes or more was a traceback, and the lease stayed behind."""
    monkeypatch.setattr(module, "_client", lambda: client(gcp_emulator))  # the other server has a disk's limits
    bucket = Bucket(f"{bucket_at(gcp_emulator).url}/{path}", client(gcp_emulator))
    with pytest.raises(ConfigError, match=r"^no$"), open_place(bucket.url, TINY, Config(), Hosts()) as place:
        assert place.home == bucket.url and (place.folder / "config.json").exists()
        raise ConfigError(["no"])
    assert bucket.list() == ([], [])


def folders_of_the_console(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """An object without bytes, named with a slash at its end; the server of these tests has a disk, and makes none."""
    list_ = Bucket.list

    def listed(self: Bucket, prefix: str = "", *, deep: bool = True):
        found, folders = list_(self, prefix, deep=deep)
        made = [Object(name, 0, 1, 0.0) for name in names if name.startswith(prefix)]
        here = [each for each in made if deep or "/" not in each.name.removeprefix(prefix)]
        return [*here, *found], folders

    monkeypatch.setattr(Bucket, "list", listed)


def test_a_folder_made_in_the_console_is_an_empty_one(here: Here, monkeypatch: pytest.MonkeyPatch):
    """It was "not empty and not a run"; in a run, and in its report, a traceback."""
    folders_of_the_console(here.bucket, monkeypatch, "", "buffers/", "logs/")
    with here.open() as place:
        (place.folder / "seeding.json").write_text("{}")
        (place.folder / "buffers").mkdir()
        (place.folder / "buffers" / "deduction.jsonl").write_text("1\n")
        place.publish()
    with here.open() as place:
        assert (place.folder / "buffers" / "deduction.jsonl").read_text() == "1\n"
    with Reader(here.bucket.url) as read:
        assert (read.folder / "buffers" / "deduction.jsonl").read_text() == "1\n"


def test_a_disk_that_cannot_hold_the_files_is_one_line_and_the_place_is_free(here: Here, monkeypatch):
    """A full TMPDIR was a traceback."""

    def full(url: str) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as now:
        now.setattr(mirrors, "_own_folder", full)
        assert "cannot be kept below TMPDIR: [Errno 28] No space left on device" in refused(here)
    began = time.monotonic()
    with here.open():
        assert time.monotonic() - began < 5
