"""Modules of the library that the jail once broke: they work, or are refused by the list that the user gives."""

# ruff: noqa: E501 - a program is one line of text, whatever its length

from __future__ import annotations

import subprocess
import sys

import pytest

from azr_jax.executor.hygiene import BANNED
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode, encode
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

ASYNC = """
import asyncio
async def one(n):
    await asyncio.sleep(0.001 * n)
    return n
async def several(x):
    found = await asyncio.gather(*[one(n) for n in range(x)])
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
    return found
def f(x):
    return asyncio.run(several(x)) + asyncio.run(several(1))
"""


def ran(executor, program: str, given: str = "3"):
    (outcome,) = executor.submit(Run(program, (given,))).result()
    return decode(outcome.value) if outcome.value is not None else outcome.detail


def test_asyncio_runs(executor):
    """Its loop once failed with PermissionError: no epoll, no pair of sockets."""
    assert ran(executor, ASYNC) == [0, 1, 2, 0]
    assert executor.submit(Validate(Proposal(Kind.DEDUCTION, ASYNC, ("2",)))).result().task.output == "[0, 1, 0]"


WAITS = {
    "queue": "import queue\ndef f(x):\n    try:\n        queue.Queue().get(timeout=0.01)\n    except queue.Empty:\n        return x",
    "wait_for": "import threading\ndef f(x):\n    c = threading.Condition()\n    with c:\n        return x if not c.wait_for(lambda: False, 0.01) else 0",
    "event": "import threading, time\ndef f(x):\n    begun, e = time.monotonic(), threading.Event()\n    while time.monotonic() < begun + 0.02:\n        e.wait(0.01)\n    return x",
    "semaphore": "import threading\ndef f(x):\n    return x + threading.Semaphore(0).acquire(timeout=0.01)",
    "asyncio": "import asyncio\nasync def g():\n    try:\n        await asyncio.wait_for(asyncio.Event().wait(), 0.01)\n    except asyncio.TimeoutError:\n        return 0\ndef f(x):\n    return x + asyncio.run(g())",
}  # fmt: skip


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_with_a_limit_ends_though_clocks_stand_still(what):
    """Real time passed in the lock, the clock it was looked up on did not move: it waited for the whole limit."""
    task = Triplet(WAITS[what], "1", "1", encode(1))
    with Executor(ExecutorSettings(workers=1, timeout_s=2.0, banned_modules=())) as one:
        assert one.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, "1"))).result().correct


def test_a_module_that_was_loaded_before_the_clocks_were_shifted_has_no_other():
    """`threading` is, since Python 3.12: a wait with a limit raised PermissionError."""
    program = "import threading, time; from azr_jax.executor import clock; clock.shift(1)\n"
    program += "assert threading._time is time.monotonic"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_zoneinfo_can_be_imported(executor):
    """Its C half asks datetime for one, which is plain Python here. What time zones there are is not in the jail."""
    program = "import zoneinfo, datetime\ndef f(x):\n    return zoneinfo.ZoneInfo.__name__, len(zoneinfo.TZPATH) >= 0"
    assert ran(executor, program) == ("ZoneInfo", True)
    assert "No time zone found" in ran(
        executor, "import zoneinfo\ndef f(x):\n    return zoneinfo.ZoneInfo('Asia/Tokyo')"
    )


@pytest.mark.parametrize("banned", [BANNED, (*BANNED, "inspect")])
def test_inspect_goes_by_the_list(banned):
    program = "import inspect\ndef f(x):\n    return str(inspect.signature(lambda a, b=2: 0))"
    with Executor(ExecutorSettings(workers=1, banned_modules=banned)) as one:
        validation = one.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))).result()
    if "inspect" in banned:
        assert (validation.reason, validation.detail) == ("banned import", "inspect")
    else:
        assert validation.task is not None and validation.task.output == "'(a, b=2)'"
