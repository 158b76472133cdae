"""The executor as a service: cheap to import and to ask, bounded, self-healing, and gone without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.executor import child, pool
from azr_jax.executor import link as link_module
from azr_jax.executor.cases import Result
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings, WeakIsolation
from azr_jax.executor.validate import validate
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

ROOT = Path(__file__).resolve().parents[2]
TASK = Triplet("def f(x):\n    return x + 1", "1", "2", encode(2))


def children(of: int) -> list[int]:
    """The processes below one, all generations."""
    table: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            table.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [of]
    while todo:
        below = table.get(todo.pop(), [])
        found += below
        todo += below
    return found


def signal_all(executor: Executor, number: int) -> None:
    """To every process of this one executor."""
    for link in list(executor._loop._links):
        for process in [link.process.pid, *children(link.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def wait_until(true, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_importing_it_is_cheap_and_brings_no_jax():
    script = "import sys, azr_jax.executor.pool; print(sorted({'jax', 'numpy', 'flax', 'asyncio'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True).strip() == "[]"


def test_the_report_is_one_line_that_names_the_layers(executor):
    assert "\n" not in executor.layers
    assert "seccomp" in executor.layers and "open to programs: nothing" in executor.layers


def test_submit_is_quick(executor):
    """Below 50 microseconds for the caller, at the median, with the executor at work meanwhile.

    Of four rounds the quietest: what else the machine does is no fault of it (51 were seen once, where it is 5).
    """
    medians = []
    for first in range(0, 400, 100):
        times, futures = [], []
        for n in range(first, first + 100):
            job = Run(f"def f():\n    return {n}", ("",))
            began = time.perf_counter()
            futures.append(executor.submit(job))
            times.append(time.perf_counter() - began)
        assert [f.result()[0].value for f in futures] == [str(n) for n in range(first, first + 100)]
        medians.append(sorted(times)[len(times) // 2])
    assert min(medians) < 50e-6, medians


def test_results_come_as_they_finish(executor):
    slow = executor.submit(Run("def f():\n    for _ in range(10**7): pass\n    return 'slow'", ("",)))
    fast = executor.submit(Run("def f():\n    return 'fast'", ("",)))
    assert fast.result()[0].value == '"fast"'
    assert not slow.done()
    assert slow.result()[0].value == '"slow"'


def test_equal_work_is_done_once(executor):
    before = executor.stats()
    job = Verify(Kind.ABDUCTION, TASK, Answer(Kind.ABDUCTION, "0 + 1"))
    assert {f.result().score for f in [executor.submit(job) for _ in range(20)]} == {1.0}
    after = executor.stats()
    assert after["runs"] - before["runs"] == 1
    assert after["cache_hits"] - before.get("cache_hits", 0) == 19


def test_equal_text_in_another_place_is_other_work(executor):
    """The same answer to another program, another input and another kind: nothing is taken from the wrong drawer."""
    other = Triplet("def f(x):\n    return x + 2", "1", "3", encode(3))
    same_answer = Answer(Kind.ABDUCTION, "1")
    assert executor.submit(Verify(Kind.ABDUCTION, TASK, same_answer)).result().correct
    assert executor.submit(Verify(Kind.ABDUCTION, other, same_answer)).result().correct
    worse = Triplet(TASK.program, TASK.input, "9", encode(9))
    assert not executor.submit(Verify(Kind.ABDUCTION, worse, same_answer)).result().correct
    assert not executor.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "1"))).result().correct
    first, second = executor.submit(Run(TASK.program, ("1", "True", "1.0", "'1'"))), Run(TASK.program, ("1.0",))
    assert [o.value for o in first.result()] == ["2", "2", '{"f":"2.0"}', None]
    assert executor.submit(second).result()[0].value == '{"f":"2.0"}'


def test_the_queue_is_bounded_and_submit_waits():
    settings = ExecutorSettings(workers=1, queue=4, timeout_s=5)
    with Executor(settings) as small:
        futures = []

        def fill() -> None:
            for n in range(12):
                futures.append(small.submit(Run(f"def f():\n    for _ in range(10**6): pass\n    return {n}", ("",))))

        filler = threading.Thread(target=fill)
        filler.start()
        most = 0
        while filler.is_alive():
            most = max(most, len(small.pending()))
            time.sleep(0.005)
        assert [f.result()[0].value for f in futures] == [str(n) for n in range(12)]
        assert 3 <= most <= 4
        assert small.stats()["submit_waits"] >= 1


def test_a_program_that_replaces_the_way_out_ends_in_good_order():
    with Executor(ExecutorSettings(workers=1)) as one:
        for put in ("lambda code: None", "__import__('sys').exit", "None"):
            program = f"import os\ndef f(x):\n    os._exit = {put}\n    return x + 1"
            assert one.submit(Run(program, ("1", "2"))).result()[1].value == "3"
        stats = one.stats()
        assert (stats["runs"], stats.get("kills/crashed", 0.0)) == (3.0, 0.0)


def test_a_request_larger_than_a_message_arrives_whole_and_leaves_nothing_open():
    """Below, at and far above what a message holds; the program finds no descriptor that it could read again."""
    open_ones = (
        "import os\ndef f(x):\n    found = []\n    for d in range(3, 32):\n        try:\n            os.fstat(d)\n"
    )
    open_ones += "            found.append(d)\n        except OSError:\n            pass\n    return len(x), found"
    with Executor(ExecutorSettings(workers=1, memory_mb=1024)) as one:
        small = one.submit(Run(open_ones, ("''",))).result()[0]
        for size in (child.REQUEST_BYTES - 2_000, child.REQUEST_BYTES, 3_000_000):
            (outcome,) = one.submit(Run(open_ones, (repr("x" * size),))).result()
            assert outcome.value == (small.value or "").replace("[0,", f"[{size},", 1)
        assert one.submit(Run(open_ones, (repr("x" * child.LARGEST_REQUEST),))).result()[0].reason == "too long"


def test_a_killed_zygote_is_replaced_and_its_program_run_again():
    with Executor(ExecutorSettings(workers=1, timeout_s=20)) as one:
        future = one.submit(Run("def f():\n    s = 0\n    for i in range(2 * 10**7): s += i\n    return s", ("",)))
        assert wait_until(lambda: "running" in " ".join(one.pending()))
        time.sleep(0.1)
        signal_all(one, signal.SIGKILL)
        assert future.result()[0].value == str(sum(range(2 * 10**7)))
        assert one.stats()["zygotes_replaced"] >= 1


def test_a_program_whose_zygote_always_dies_is_judged_crashed():
    with Executor(ExecutorSettings(workers=1, timeout_s=60)) as one:
        future = one.submit(Run("def f():\n    while True: pass", ("",)))
        while not future.done():
            for link, work in list(one._loop._links.items()):
                if work is not None and work.slow:
                    link.process.kill()
            time.sleep(0.02)
        assert future.result()[0].reason == "crashed"
        assert one.submit(Run("def f():\n    return 1", ("",))).result()[0].value == "1"


def test_a_stopped_zygote_is_replaced(monkeypatch):
    monkeypatch.setattr("azr_jax.executor.link._GRACE_S", 0.5)
    with Executor(ExecutorSettings(workers=1, timeout_s=0.5)) as one:
        signal_all(one, signal.SIGSTOP)
        assert one.submit(Run("def f():\n    return 1", ("",))).result()[0].value == "1"


def test_close_leaves_no_process_and_no_descriptor():
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    before = set(children(os.getpid()))
    running = Executor(ExecutorSettings(workers=2))
    assert len(children(os.getpid())) > len(before)
    stuck = running.submit(Run("def f():\n    while True: pass", ("",)))
    time.sleep(0.2)
    running.close()
    with pytest.raises(RuntimeError):
        stuck.result(timeout=1)
    with pytest.raises(RuntimeError):
        running.submit(Run("", ("",)))
    running.close()
    assert wait_until(lambda: set(children(os.getpid())) <= before)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_killed_trainer_leaves_no_process():
    script = """
        from azr_jax.executor.pool import *
        from azr_jax.executor.jobs import Run
        running = Executor(ExecutorSettings(workers=2, timeout_s=60))
        futures = [running.submit(Run(f"def f():\\n    while {n + 1}: pass", ("",))) for n in range(2)]
        import time; time.sleep(0.5); print("up", flush=True); time.sleep(60)
    """
    trainer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None and trainer.stdout.readline() == "up\n"
    below = children(trainer.pid)
    assert len(below) >= 6
    trainer.kill()
    trainer.wait()
    assert wait_until(lambda: not any(Path(f"/proc/{p}").exists() for p in below), 5)


def test_without_namespaces_the_rest_still_holds():
    """As in a container that forbids them: seccomp and Landlock hold everything that the probe asks about."""
    with Executor(ExecutorSettings(workers=1, namespaces=False)) as running:
        assert "pid" not in running.layers and "landlock" in running.layers
        assert "open to programs: nothing" in running.layers
        assert running.submit(Run("def f(x):\n    return x", ("1",))).result()[0].value == "1"
        (outcome,) = running.submit(Run("def f():\n    return open('/etc/passwd').read()", ("",))).result()
        assert outcome.error == "PermissionError"


def test_below_the_minimum_it_refuses_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(pool, "MINIMUM", ("layer nobody has",))
    monkeypatch.setattr(link_module.Link, "_greet", _greet_with_hole(link_module.Link._greet))
    with pytest.raises(WeakIsolation, match="allow_weak"):
        Executor(ExecutorSettings(workers=1))
    with Executor(ExecutorSettings(workers=1, allow_weak=True)) as weak:
        assert "layer nobody has" in weak.layers


def _greet_with_hole(real):
    def greet(link):
        real(link)
        link.held = ["layer nobody has"]

    return greet


def test_more_results_than_a_pipe_and_more_inputs_than_a_message_hold(executor):
    """90 results of 12,000 characters are a megabyte, 90 inputs of 6,000 half of one: several children share them."""
    long = executor.submit(Run("def f(n):\n    return str(n) + 'x' * 12000", tuple(map(str, range(90))))).result()
    assert [o.value for o in long] == [f'"{n}{"x" * 12000}"' for n in range(90)]
    given = tuple(f"'{'y' * 6000}', {n}" for n in range(90))
    wide = executor.submit(Run("def f(s, n):\n    return len(s) + n", given)).result()
    assert [o.value for o in wide] == [str(6000 + n) for n in range(90)]


def test_other_packages_are_out_of_reach(executor):
    program = "import os, json\ndef f():\n    return os.listdir(os.path.dirname(json.__path__[0]) + '/site-packages')"
    assert executor.submit(Run(program, ("",))).result()[0].value in ("[]", None)


def test_settings_name_the_wrong_field():
    with pytest.raises(ValueError, match=r"timeout_s: 0, 0\.001 to 4000000 s would be right"):
        ExecutorSettings(timeout_s=0)


def test_state_between_calls_does_not_leak_into_verdicts(executor):
    """A program that counts its calls gives each hidden input what a first call would give."""
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return x * len(seen)"
    proposal = Proposal(Kind.INDUCTION, program, ("1", "2", "3", "4", "5", "6"), "times how often")
    task = executor.submit(Validate(proposal, shown=3)).result().task
    assert isinstance(task, InductionTask) and task.outputs == ("1", "2", "3", "4", "5", "6")
    for answer in (program, "def f(x):\n    return x"):
        assert executor.submit(Verify(Kind.INDUCTION, task, Answer(Kind.INDUCTION, answer))).result().correct


def test_induction_rewards(executor):
    proposal = Proposal(Kind.INDUCTION, "def f(x):\n    return x % 4", tuple("0123456789"), "")
    task = executor.submit(Validate(proposal)).result().task
    half = Answer(Kind.INDUCTION, "def f(x):\n    return x % 4 if x < 7 else -1")
    assert executor.submit(Verify(Kind.INDUCTION, task, half)).result().score == 0.0
    assert executor.submit(Verify(Kind.INDUCTION, task, half, "fraction")).result().score == pytest.approx(2 / 5)


def test_induction_drops_repeats_and_failures(executor):
    proposal = Proposal(Kind.INDUCTION, "def f(x):\n    return 6 // x", ("1", "True", "1.0", "0", "2", " 2 ", "3"), "")
    task = executor.submit(Validate(proposal)).result().task
    assert task.inputs == ("1", "2", "3") and task.outputs == ("6", "3", "2") and task.shown == 1
    constant = Proposal(Kind.INDUCTION, "def f(x):\n    return 1", ("1", "2", "3"), "")
    assert executor.submit(Validate(constant)).result().reason == "all outputs equal"


TEN = tuple("0123456789")
SQUARE = "def f(x):\n    return x * x"


@pytest.mark.parametrize(
    ("program", "inputs", "reason"),
    [
        (SQUARE, TEN, ""),
        (SQUARE, TEN[:9], "wrong number of inputs"),
        (SQUARE, (*TEN, "10"), "wrong number of inputs"),
        (SQUARE, TEN[:2], "wrong number of inputs"),
        (SQUARE, (*TEN[:9], "None"), "raised"),
        (SQUARE, (*TEN[:9], "y"), "bad input"),
        (SQUARE, (*TEN[:9], " 8 "), "too few inputs"),  # the ninth again
        ("def f(x):\n    return object() if x == 4 else x", TEN, "output not plain"),
        ("def f(x):\n    return x * 10 ** 4200 if x == 4 else x", TEN, "too few inputs"),  # too long
    ],
)
def test_where_ten_inputs_are_asked_for_each_of_exactly_ten_has_to_be_good(executor, program, inputs, reason):
    """Two were enough once: one shown, one hidden, and almost any program was right."""
    job = Validate(Proposal(Kind.INDUCTION, program, inputs, "m"), shown=5, fewest=10, most=10)
    validation = executor.submit(job).result()
    assert validation.reason == reason
    if not reason:
        assert validation.task.inputs == TEN and validation.task.shown == 5


def test_fewer_good_inputs_may_be_let_through(executor):
    inputs = ("1", "0", "2", "3", "None")
    kept = Validate(Proposal(Kind.INDUCTION, "def f(x):\n    return 6 // x", inputs, ""), fewest=3, most=5)
    assert executor.submit(kept).result().task.inputs == ("1", "2", "3")
    refused = Validate(kept.proposal, fewest=4, most=5)
    assert executor.submit(refused).result().reason == "too few inputs"


@pytest.mark.parametrize(
    ("program", "given", "name"),
    [
        ("def f(x):\n    return 1 / x", "0", "ZeroDivisionError"),
        ("def f(x):\n    return 1 / x", "1", "NoError"),
        ("def f(x):\n    return object()", "1", "NoError"),
        ("class Mine(Exception): pass\ndef f(x):\n    raise Mine(x)", "1", "Mine"),
        ("def f(x):\n    assert x", "0", "AssertionError"),
        ("def f(x):\n    return f(x)", "0", "RecursionError"),
    ],
)
def test_errors(executor, program, given, name):
    task = executor.submit(Validate(Proposal(Kind.ERROR, program, (given,)))).result().task
    assert task.output == name
    for answer, score in ((name, 1.0), (f" {name}\n", 1.0), ("Other", 0.0), (name.lower(), 0.0)):
        assert executor.submit(Verify(Kind.ERROR, task, Answer(Kind.ERROR, answer))).result().score == score


def test_an_exit_is_no_error(executor):
    proposal = Proposal(Kind.ERROR, "def f():\n    raise SystemExit", ("",))
    assert executor.submit(Validate(proposal)).result().reason == "exits"


def test_an_exception_called_noerror_makes_no_task_of_the_error_kind(executor):
    """Raised, it would be a task whose true answer, an exception, reads as "returns normally"."""
    raises = "class NoError(Exception): pass\ndef f(x):\n    raise NoError"
    assert executor.submit(Validate(Proposal(Kind.ERROR, raises, ("1",)))).result().reason == "raised"
    sometimes = "class NoError(Exception): pass\ndef f(x):\n    if hash('a') % 2 == 0:\n        raise NoError"
    assert executor.submit(Validate(Proposal(Kind.ERROR, sometimes, ("1",)))).result().reason in (
        "raised",
        "not deterministic",
    )


def test_a_proposal_is_run_under_both_hash_seeds_at_once():
    """One after the other, a program of just under the time limit made an iteration wait for two of them."""
    for kind, inputs in ((Kind.DEDUCTION, ("1",)), (Kind.INDUCTION, ("1", "2", "3"))):
        steps = validate(Validate(Proposal(kind, SQUARE, inputs)), (), 100, 1.0)
        assert next(steps).seed == 1  # a look at it, by a child that runs nothing
        looked = steps.send(Result("done", (["program", -1, None, False, False, False, ""],)))
        assert [request.seed for request in looked] == [1, 2]


def test_an_answer_that_never_ends_costs_one_time_limit():
    """It was run a second time, in a child of its own, although it was the first in its child already."""
    task = InductionTask(
        SQUARE, TEN, tuple(str(n * n) for n in range(10)), tuple(encode(n * n) for n in range(10)), "", 5
    )
    for_ever = Answer(Kind.INDUCTION, "def f(x):\n    while True: pass")
    with Executor(ExecutorSettings(workers=1, timeout_s=0.3)) as one:
        assert one.submit(Verify(Kind.INDUCTION, task, for_ever)).result().reason == "timeout"
        assert one.stats()["kills/timeout"] == 1


def test_a_slow_input_gets_the_whole_limit(executor):
    """Three calls of 0.9 of the limit each: none of them is late, though all of them together are."""
    program = "import time\ndef f(x):\n    time.sleep(1.6 if x < 3 else 0)\n    return x"
    outcomes = executor.submit(Run(program, ("1", "2", "3"))).result()
    assert [o.reason for o in outcomes] == ["ok", "ok", "ok"]


def test_many_slow_inputs_do_not_hold_the_executor(executor):
    began = time.monotonic()
    proposal = Proposal(Kind.INDUCTION, "def f(x):\n    while x >= 0: pass", tuple("0123456789"), "")
    assert executor.submit(Validate(proposal)).result().task is None
    assert time.monotonic() - began < 4.5 * executor.settings.timeout_s


def test_long_outcomes_never_fill_the_childs_pipe(executor):
    """A pipe holds pages, not bytes: lines of a little over half a page take a whole one each."""
    program = "def f(x):\n    return str(x) * 700"
    inputs = tuple(str(n) for n in range(1000, 1400))
    outcomes = executor.submit(Run(program, inputs)).result()
    assert {outcome.reason for outcome in outcomes} == {"ok"}


@given(st.lists(st.one_of(st.integers(1, 300), st.integers(1, 20_000)), min_size=200, max_size=400))
@settings(max_examples=20, deadline=None)
def test_a_pipe_takes_what_is_counted_and_is_nearly_full_when_it_is_called_so(sizes):
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, 1031, 1 << 16)  # F_SETPIPE_SZ
        os.set_blocking(writer, False)  # a write that does not fit fails at once
        pipe, sent = child.Pipe(writer, 1 << 16), 0
        with pytest.raises(child.Full):
            for size in [*sizes, *[40_000] * 3]:
                pipe.send("x" * size)
                sent += 1
        os.write(writer, b'["end"]\n')
        assert len(os.read(reader, 1 << 17).splitlines()) == sent + 1
    finally:
        os.close(reader)
        os.close(writer)


def test_one_worker_serves_both_hash_seeds_in_turn():
    """A validation runs on one seed, then on the other: the first to come must not wait for all the others' first."""
    slow = "def f(x):\n    for i in range(400_000):\n        x += 1\n    return x"
    order: list[int] = []
    with Executor(ExecutorSettings(workers=1)) as executor:
        jobs = [executor.submit(Validate(Proposal(Kind.DEDUCTION, slow, (str(n),)))) for n in range(1, 9)]
        assert wait_until(lambda: executor.stats().get("runs", 0) >= 8)  # all have been looked at
        last = executor.submit(Run(slow, ("9",)))
        last.add_done_callback(lambda _: order.append(9))
        for number, job in enumerate(jobs, 1):
            job.add_done_callback(lambda _, number=number: order.append(number))
        assert all(not job.result(30).reason for job in jobs) and last.result(30)
    assert order.index(9) >= 4, f"only {order[: order.index(9)]} were whole when the last first run was done"
