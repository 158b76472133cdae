"""A run's place in a bucket: what is refused in one line, what a refused start leaves, what one that goes on has."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, ConfigError
from azr_jax.monitor.console import log_to_file
from azr_jax.parallel.hosts import Hosts
from azr_jax.run import place as places
from azr_jax.run.place import Place, open_place
from azr_jax.storage import bucket as module
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.lease import NAME
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
