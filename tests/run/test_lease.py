"""One workdir, one owner: who is refused, who may take over and when, and that the dispossessed writes nothing."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from azr_jax.config.schema import ConfigError
from azr_jax.run.lease import FILE, Lease
from azr_jax.storage.lease import Taken
from azr_jax.tasks.buffers import Buffers
from azr_jax.tasks.types import Kind, Triplet

ROOT = Path(__file__).parents[2]
QUICK = {"alive_every_s": 0.05, "dead_after_s": 0.5}


def owner(folder, **other):
    """A process that has the lease and keeps it until it is killed."""
    code = f"""
        import sys, time
        from pathlib import Path
        from azr_jax.run.lease import Lease
        with Lease(Path(sys.argv[1]), alive_every_s=0.05) as lease:
            lease._me.update({other!r})
            lease._write(0)
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def own(tmp_path):
    started = []

    def start(**other):
        started.append(owner(tmp_path, **other))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def unlocked(monkeypatch):
    """As on a file system that does not carry locks from one machine to another."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)


def test_a_second_start_learns_who_is_there_and_one_that_was_killed_leaves_the_folder_free(tmp_path, own):
    process = own()
    with pytest.raises(ConfigError, match=rf"process {process.pid} on \S+ \(since 20.* is running in it"):
        Lease(tmp_path, **QUICK)
    process.kill()
    process.wait()
    started = time.monotonic()
    with Lease(tmp_path, dead_after_s=60) as lease:
        lease.check()
    assert time.monotonic() - started < 5, "its lock went with it: there is nothing to wait for"


def test_one_that_is_stopped_is_still_the_owner(tmp_path, own):
    process = own()
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(ConfigError, match="is running in it"):
        Lease(tmp_path, **QUICK)


def test_a_folder_that_was_left_in_order_is_free_at_once(tmp_path):
    for _ in range(3):
        started = time.monotonic()
        with Lease(tmp_path, dead_after_s=60) as lease:
            lease.check()
        assert time.monotonic() - started < 5


def test_the_owner_on_another_machine_is_known_by_its_signs_of_life(tmp_path, own, monkeypatch):
    process = own(host="far-away", machine="another")
    unlocked(monkeypatch)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=rf"process {process.pid} on far-away"):
        Lease(tmp_path, dead_after_s=60)
    assert time.monotonic() - started < 30
    process.kill()
    process.wait()
    started = time.monotonic()
    with Lease(tmp_path, **QUICK) as lease:
        lease.check()
    assert time.monotonic() - started > QUICK["dead_after_s"], "a machine that is away for a moment keeps its run"


def test_clocks_need_not_agree(tmp_path, own, monkeypatch):
    own(machine="another", since="1970-01-01 00:00:00 +0000")
    unlocked(monkeypatch)
    with pytest.raises(ConfigError, match="since 1970"):
        Lease(tmp_path, dead_after_s=60)


def test_who_was_away_for_too_long_writes_nothing_more(tmp_path, monkeypatch):
    unlocked(monkeypatch)
    first = Lease(tmp_path, alive_every_s=60)
    buffers = Buffers([Kind.DEDUCTION], folder=tmp_path / "buffers", may_write=first.check)
    triplet = Triplet("def f(x):\n    return x", "1", "1", '{"i":1}')
    buffers[Kind.DEDUCTION].append(triplet, iteration=1)
    buffers.flush()
    file = tmp_path / "buffers" / "deduction.jsonl"
    before = file.read_bytes()
    assert before
    buffers[Kind.DEDUCTION].append(Triplet("def f(x):\n    return -x", "1", "-1", '{"i":-1}'), iteration=1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("azr_jax.run.lease._machine", lambda: "another")
        second = Lease(tmp_path, alive_every_s=60, dead_after_s=0.1)
    with pytest.raises(Taken, match="has taken this run over"):
        first.check()
    with pytest.raises(Taken, match="has taken this run over"):
        buffers.flush()
    first.release()
    assert file.read_bytes() == before
    second.check()
    assert json.loads((tmp_path / FILE).read_bytes())["machine"] == "another"
    second.release()
    assert not (tmp_path / FILE).read_bytes().strip()


def test_who_was_refused_may_leave_as_if_it_had_never_come(tmp_path, monkeypatch):
    Lease(tmp_path).release(forget=True)
    assert not list(tmp_path.iterdir())
    # Another one has opened the file by then, and gets the lock of what is no longer there.
    lock = fcntl.flock

    def late(file: int, how: int) -> None:
        (tmp_path / FILE).unlink()
        lock(file, how)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(ConfigError, match="another process is running in it"):
        Lease(tmp_path, **QUICK)


@pytest.mark.parametrize("text", [b"", b"\n", b"[]", b"{", b"\xff\xfe", b'{"host":', b"null"])
def test_a_file_that_says_nothing_is_nobodys(tmp_path, text):
    (tmp_path / FILE).write_bytes(text)
    with Lease(tmp_path, dead_after_s=60) as lease:
        lease.check()
