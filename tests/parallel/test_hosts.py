"""What processes tell each other, and who says that one is gone. Real ones: tests/run/test_on_processes.py."""

import os
import re
import time

import jax
import pytest

from azr_jax.parallel import heartbeat
from azr_jax.parallel import hosts as module
from azr_jax.parallel.heartbeat import Heartbeat
from azr_jax.parallel.hosts import CannotJoin, Hosts, joined
from tests.parallel.one_store import Store, in_each


def test_what_is_told_comes_to_all_in_the_order_of_the_processes():
    store = Store()

    def work(hosts):
        time.sleep(0.05 * (3 - hosts.index))  # whoever is last
        return [hosts.gather({"round": number, "from": hosts.index}) for number in range(20)]

    told = in_each(3, work, store)
    assert told[0] == told[1] == told[2]
    assert told[0][7] == [{"round": 7, "from": index} for index in range(3)]
    rounds = {re.sub(r"/\w+$", "", key) for key in store.values}
    assert len(rounds) == 1, "what everyone has read is not kept"


def test_only_the_first_makes_what_all_get():
    made = []

    def work(hosts):
        return hosts.from_first(lambda: made.append(hosts.index) or "the state of the disk")

    assert in_each(3, work) == ["the state of the disk"] * 3
    assert made == [0]


def test_a_wish_of_one_is_learnt_by_all_at_the_same_moment():
    def work(hosts):
        learnt = []
        for number in range(4):
            if hosts.index == 1 and number == 2:
                hosts.wish = 2
            learnt.append(hosts.agreed)
            hosts.gather()
        return [*learnt, hosts.agreed]

    assert in_each(2, work) == [[0, 0, 0, 2, 2]] * 2


def test_one_process_tells_nobody():
    hosts, value = Hosts(), object()
    hosts.wish = 1
    assert hosts.gather(value) == [value] and hosts.first and hosts.agreed == 1


def test_every_process_is_named_with_its_machine_and_pid():
    names = in_each(2, lambda hosts: hosts.names)
    assert names[0] == names[1]
    assert re.fullmatch(rf"process 1 \(\S+, pid {os.getpid()}\)", names[0][1])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("a:1", None, None), ["--processes: missing beside --coordinator=a:1", "--process: missing"]),
        (("a", 2, 0), ["--coordinator=a: should be the first process's <host>:<port>"]),
        (("a:1", 2, 2), ["--process=2: should be from 0 to 1"]),
        (("a:1", 0, 0), ["--processes=0: should be at least 1"]),
    ],
)
def test_flags_that_cannot_be_are_named(flags, named):
    with (
        pytest.raises(CannotJoin) as caught,
        joined(*flags, join_timeout_s=1, dead_after_s=1.0, alike=ZeroDivisionError),
    ):
        pass
    assert all(words in str(caught.value) for words in named)


def test_without_flags_and_without_a_slice_a_process_is_alone(monkeypatch):
    monkeypatch.setattr(module, "on_tpu", lambda: False)
    with joined(None, None, None, join_timeout_s=1, dead_after_s=1.0, alike=ZeroDivisionError) as hosts:
        assert hosts.count == 1
    assert not jax.distributed.is_initialized()


class Ended(BaseException):
    """In place of the end of this process."""


@pytest.fixture
def ends(monkeypatch):
    """What a process that ends says, and its code."""
    said, codes = [], []

    def end(code):
        codes.append(code)
        raise Ended

    monkeypatch.setattr(heartbeat, "_say", said.append)
    monkeypatch.setattr(heartbeat.os, "_exit", end)
    monkeypatch.setattr(heartbeat.threading, "excepthook", lambda args: None)
    return said, codes


NAMES = ["process 0 (one, pid 10)", "process 1 (two, pid 11)"]


def wait_for(what):
    until = time.monotonic() + 20
    while not what() and time.monotonic() < until:
        time.sleep(0.01)


def test_a_process_that_falls_silent_is_named_and_ends_the_others(ends):
    said, codes = ends
    store = Store()
    Heartbeat(store, 1, NAMES, 0.5)
    wait_for(lambda: codes)
    assert codes == [86]
    assert said[0].startswith("error: process 0 (one, pid 10) is dead: 0.") and "watchdog.process_s=0.5" in said[0]
    assert "goes on from the last checkpoint" in said[0]


def test_a_process_that_fails_is_named_with_its_error_by_the_others(ends):
    said, codes = ends
    store = Store()
    failing, other = Heartbeat(store, 1, NAMES, 60.0), Heartbeat(store, 0, NAMES, 60.0)
    with pytest.raises(Ended):
        failing.end_with(RuntimeError("the disk is full\nand more"))
    wait_for(lambda: len(codes) == 2)
    assert codes == [1, 1]
    assert all("process 1 (two, pid 11) failed: RuntimeError: the disk is full." in words for words in said)
    failing.leave()
    other.leave()


@pytest.mark.parametrize(("code", "again"), [(86, True), (2, False)])
def test_what_a_user_is_told_in_one_line_ends_all_with_its_code(ends, capsys, code, again):
    """A bucket that was away, or another owner in it, ended two processes with a traceback and 1."""
    said, codes = ends
    store = Store()
    failing, other = Heartbeat(store, 0, NAMES, 60.0), Heartbeat(store, 1, NAMES, 60.0)
    with pytest.raises(Ended):
        failing.end_with(OSError("gs://b/run: write a: busy"), code)
    wait_for(lambda: len(codes) == 2)
    assert codes == [code, code] and capsys.readouterr().err == "" and len(said) == 2, "each says it once"
    assert all(words.startswith("error: process 0 (one, pid 10): gs://b/run: write a: busy") for words in said)
    assert all(("goes on from the last checkpoint" in words) == again for words in said)
    failing.leave()
    other.leave()


def test_a_process_that_is_done_is_not_taken_for_dead(ends):
    _, codes = ends
    store = Store()
    one, other = Heartbeat(store, 0, NAMES, 0.6), Heartbeat(store, 1, NAMES, 0.6)
    time.sleep(0.3)
    one.leave()
    time.sleep(1.5)
    other.leave()
    assert codes == []
