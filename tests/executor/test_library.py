"""Modules of the library that the jail once broke: they work, or are refused by the list that the user gives."""

from __future__ import annotations

import pytest

from azr_jax.executor.hygiene import BANNED
from azr_jax.executor.jobs import Run, Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode
from azr_jax.tasks.types import Kind, Proposal

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
