"""Deaths, stops and programs that never end: nothing is lost, and nobody waits for what is not his."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from test_pool import children, signal_all, wait_until

from azr_jax.executor import link as link_module
from azr_jax.executor import zygotes
from azr_jax.executor.cases import Budget, ChildRequest, Result, run_cases
from azr_jax.executor.jobs import Run, Validate
from azr_jax.executor.lanes import SLICE_S, Lanes, Work
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.stats import Stats
from azr_jax.tasks.types import Kind, Proposal

BUSY = "def f(x):\n    for i in range(300_000):\n        x += 1\n    return x"


def test_zygotes_killed_every_150_ms_lose_no_job():
    """What the kernel does when memory is short: it prefers them. Five failed starts once ended the executor."""
    with Executor(ExecutorSettings(workers=2, timeout_s=10)) as two:
        futures = [two.submit(Run(f"{BUSY}  # {n}", (str(n),))) for n in range(40)]
        end = time.monotonic() + 4
        while time.monotonic() < end:
            signal_all(two, signal.SIGKILL)
            time.sleep(0.15)
        assert [f.result(60)[0].value for f in futures] == [str(300_000 + n) for n in range(40)]
        assert two.stats()["zygotes_replaced"] >= 10


def test_one_zygote_after_another_killed_loses_no_job():
    with Executor(ExecutorSettings(workers=2, timeout_s=10)) as two:
        futures = [two.submit(Run(f"{BUSY}  # {n}", (str(n),))) for n in range(40)]
        for number in range(30):
            links = list(two._loop._links)
            if links:
                links[number % len(links)].process.kill()
            time.sleep(0.1)
        assert [f.result(60)[0].value for f in futures] == [str(300_000 + n) for n in range(40)]


def test_a_zygote_that_stands_still_costs_little():
    """It once cost two limits and two graces: 12.7 s at a limit of 1 s."""
    with Executor(ExecutorSettings(workers=1, timeout_s=1)) as one:
        signal_all(one, signal.SIGSTOP)
        began = time.monotonic()
        assert one.submit(Run("def f():\n    return 1", ("",))).result()[0].value == "1"
        assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_ended_or_stopped_from_outside_is_run_again(number):
    """No program can do either to itself, so it is not the program's outcome."""
    program = "import time\ndef f(x):\n    time.sleep(0.7)\n    return x"
    with Executor(ExecutorSettings(workers=1, timeout_s=1.5)) as one:
        future = one.submit(Run(program, ("5",)))
        assert wait_until(lambda: any(work and work.slow for work in list(one._loop._links.values())))
        time.sleep(0.2)
        for link in list(one._loop._links):
            for inner in children(link.process.pid):
                for child in children(inner):
                    with contextlib.suppress(ProcessLookupError):  # one that waited for a request, and was let go
                        os.kill(child, number)
        assert future.result()[0].value == "5"
        assert one.stats()["second_tries"] == 1


# Makes every write of a line of that kind fail for a while.
SHORT_OF_MEMORY = """
from azr_jax.executor import child; import time; now, real = time.monotonic, child._write
def at():
    try: return now()
    except OSError: return 0  # the zygote's trial has no clock
def write(descriptor, data):
    if data.startswith({kind}) and {since} < at() < {since} + 0.3: raise OSError(12, "no memory")
    return real(descriptor, data)
child._write = write
from azr_jax.executor.zygote import main
"""


@pytest.mark.parametrize("kind", [b'["begun"', b'["loaded"'])
def test_a_child_for_which_there_is_no_memory_is_run_again_or_waits(monkeypatch, kind):
    """In a memory group that is full a write to a pipe fails, in the child and not by the program: it was `crashed`."""
    since = time.monotonic() + 0.9  # when all has started
    short = SHORT_OF_MEMORY.format(since=since, kind=kind)
    boot = link_module._BOOT.replace("from azr_jax.executor.zygote import main", "exec(" + repr(short) + ")")
    monkeypatch.setattr(link_module, "_BOOT", boot)
    with Executor(ExecutorSettings(workers=1)) as one:
        time.sleep(max(0.0, since + 0.01 - time.monotonic()))
        assert one.submit(Run("def f(x):\n    return x", ("5",))).result(20)[0].value == "5"
        assert ("second_tries" in one.stats()) == (b"begun" in kind)


@pytest.mark.parametrize("how", ["os._exit(75)", "os.write = lambda *a: exec('raise OSError(12, \"\")')"])
def test_an_exit_status_of_the_programs_choice_buys_nothing(how):
    """Its own deaths stood near one another and so counted as others': nine tries; two such programs: thirty each."""
    with Executor(ExecutorSettings(workers=2)) as two:
        programs = [f"import os\ndef f(x):\n    {how}\n    return 1  # {n}" for n in range(2)]
        ends = [future.result(5)[0] for future in [two.submit(Run(each, ("1",))) for each in programs]]
        assert {end.reason for end in ends} == ({"crashed"} if "exit" in how else {"ok"})
        assert "second_tries" not in two.stats()


def test_what_starves_is_tried_three_times_and_shields_nobody():
    done, reads = [], []
    owner = zygotes.Zygotes(1, link_module.ZygoteSettings(), None, Stats(), lambda *a: done.append(a), reads.append)
    work = Work(ChildRequest(b"", 1, 10.0), 0.0)
    for tries in (1, 2, 3):
        owner._heard(work, link_module.Reply(Result("starved", run_s=0.25), 0.0))
        assert (len(owner._later), len(done)) == ((tries, 0) if tries < 3 else (2, 1))
    assert not owner._deaths and done[0][1].end == "crashed" and done[0][1].lost_s == 0.75


def test_what_was_run_in_vain_is_paid_by_the_proposal():
    """Eight limits for all runs of a proposal, those that were killed included."""
    budget = Budget(4.0)
    steps = run_cases("def f(x): return x", [{"text": "1"}], timeout_s=1.0, budget=budget)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(Result("crashed", run_s=0.25, lost_s=2.5))
    assert budget.left_s == 1.25


def test_ten_endless_programs_delay_an_honest_one_by_less_than_a_second():
    with Executor(ExecutorSettings(workers=2, timeout_s=4)) as two:
        endless = [two.submit(Run(f"def f():\n    while {n + 1}: pass", ("",))) for n in range(10)]
        for wait in (0.0, 1.5):  # at once behind them, and once they hold all workers
            time.sleep(wait)
            began = time.monotonic()
            assert two.submit(Run(f"def f():\n    return {wait}", ("",))).result()[0].reason == "ok"
            assert time.monotonic() - began < 1.0
        assert not any(f.done() for f in endless)


def test_slow_work_is_not_starved_by_short_work():
    slow = "def f():\n    for _ in range(4_000_000): pass\n    return 7"
    with Executor(ExecutorSettings(workers=1, timeout_s=10)) as one:
        future, stop = one.submit(Run(slow, ("",))), threading.Event()

        def keep_busy() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                one.submit(Run(f"def f():\n    return {number}", ("",))).result()

        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            assert future.result(10)[0].value == "7"
        finally:
            stop.set()
            busy.join()


def test_lanes_keep_a_place_for_short_work():
    lanes = Lanes(workers=2)
    slow = [Work(ChildRequest(b"%d" % n, 1, 10.0), 0.0, slow=True) for n in range(4)]
    short = [Work(ChildRequest(b"s%d" % n, 1, 10.0), 0.0) for n in range(3)]
    for work in slow:
        lanes.put(work)
    assert lanes.take(1, 2) is slow[0]
    assert lanes.take(1, 2) is None and lanes.lacking({1: 2}) == [1]  # the other zygote is kept
    assert lanes.take(1, 3) is slow[1]
    assert lanes.take(1, 4) is None and lanes.lacking({1: 3}) == []  # as many slow ones as workers
    for work in short:
        lanes.put(work)
    assert lanes.take(1, 3) is short[0] and lanes.take(1, 3) is None
    lanes.ended(short[0])
    lanes.ended(slow[0])
    assert lanes.take(1, 3) is short[1]
    assert lanes.take(1, 3) is None
    assert (short[0].seconds, slow[0].seconds, Work(ChildRequest(b"", 1, 0.2), 0.0).seconds) == (SLICE_S, 10.0, 0.2)


def test_no_process_to_be_had_is_waited_out(monkeypatch):
    """Where the number of processes is limited, fork fails for a while: jobs wait, and `pending` says why."""
    with Executor(ExecutorSettings(workers=1)) as one:
        real = zygotes.Link

        def refused(*_):
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(zygotes, "Link", refused)
        signal_all(one, signal.SIGKILL)
        future = one.submit(Run("def f():\n    return 1", ("",)))
        assert wait_until(lambda: any("no zygote comes up" in line for line in one.pending()), 15)
        assert "BlockingIOError" in one.pending()[0] and not future.done()
        monkeypatch.setattr(zygotes, "Link", real)
        assert future.result(15)[0].value == "1"


def test_an_executor_that_never_starts_says_why(monkeypatch):
    monkeypatch.setattr(zygotes, "_FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(link_module, "_BOOT", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="5 zygotes in a row did not start"):
        Executor(ExecutorSettings(workers=1))


def test_a_zygote_whose_children_do_not_run_is_noticed_before_the_first_job(monkeypatch):
    """Walls stand, but nothing runs: every program was then judged crashed, and the start said all is well."""
    monkeypatch.setattr(zygotes, "_FIRST_DELAY_S", 0.001)
    broken = "from azr_jax.executor import child; child.main = child.empty; from azr_jax.executor.zygote import main"
    boot = link_module._BOOT.replace("from azr_jax.executor.zygote import main", broken)
    assert boot != link_module._BOOT
    monkeypatch.setattr(link_module, "_BOOT", boot)
    with pytest.raises(RuntimeError, match="a trivial program did not run: crashed"):
        Executor(ExecutorSettings(workers=1))


@pytest.mark.parametrize("kind", [Kind.INDUCTION, Kind.DEDUCTION])
def test_a_proposal_has_a_budget_of_time(kind):
    """Sets, ten inputs, slow on each: it once cost 24 limits of a worker's time; now eight at the most."""
    program = "import time\ndef f(x):\n    time.sleep(0.4)\n    return {x, time.time_ns()}"
    limit = 0.5
    inputs = tuple(map(str, range(10 if kind is Kind.INDUCTION else 1)))
    with Executor(ExecutorSettings(workers=2, timeout_s=limit, banned_modules=())) as two:
        validation = two.submit(Validate(Proposal(kind, program, inputs, ""))).result()
        stats = two.stats()
    assert validation.task is None
    assert validation.reason == ("timeout" if kind is Kind.INDUCTION else "not deterministic")
    assert stats["run_total_s"] <= 8 * limit + 6 * 1.5 * SLICE_S  # six at once may each go over by a slice


def test_no_descriptor_is_left_by_a_storm():
    with Executor(ExecutorSettings(workers=1)) as one:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            signal_all(one, signal.SIGKILL)
            assert one.submit(Run(f"def f():\n    return {time.monotonic()}", ("",))).result(20)[0].reason == "ok"
        assert wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)
