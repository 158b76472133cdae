"""What a caller or a user's kind does wrong is said to him, or is the verdict of his job; nobody else notices."""

from __future__ import annotations

import asyncio
import sys

import pytest

from azr_jax.executor.cases import ChildRequest, request
from azr_jax.executor.jobs import LONGEST_S, UNJUDGED, Run, Verify
from azr_jax.executor.pool import ExecutorSettings
from azr_jax.executor.values import encode
from azr_jax.kinds.deduction import Deduction
from azr_jax.tasks.types import Answer, Triplet, Verdict


class OwnText(BaseException):
    def __str__(self):
        raise SystemExit("not even its text")


def raises(error):
    yield request("expression", 1.0, text="1 + 1", form="any")
    raise error


def exits():
    yield request("expression", 1.0, text="1 + 2", form="any")
    sys.exit("a mistake")


def asks(seconds=1.0, lines=4, seed=1):
    body = request("expression", 1.0, text="1 + 3", form="any").body
    yield ChildRequest(body, seed, seconds, lines)
    return Verdict(0.0, "x")


MISTAKES = {
    "cancelled": lambda: raises(asyncio.CancelledError()),
    "interrupted": lambda: raises(KeyboardInterrupt()),
    "no text": lambda: raises(OwnText()),
    "exits": exits,
    "patient": lambda: asks(5e6),  # more milliseconds than 32 bits hold: `struct.error`
    "no time": lambda: asks(1e-9),
    "no number": lambda: asks(float("nan")),
    "for ever": lambda: asks(float("inf")),
    "lines": lambda: asks(lines=10**30),
    "a seed like 1": lambda: asks(seed=True),
    "a seed like 2": lambda: asks(seed=2.0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_kind_ends_nothing(executor, mistake):
    """`CancelledError`, `SystemExit` and `struct.error` were the end of the executor."""

    class Mine(Deduction):
        name = "mine"

        def verify(self, job, settings):
            return MISTAKES[mistake]()

    task = Triplet("def f(x): return x", "1", "1", encode(1))
    assert executor.submit(Verify(Mine(), task, Answer(Mine(), "1"))).result(5).reason == UNJUDGED
    assert executor.submit(Run("def f(x):\n    return x", ("1",))).result(5)[0].reason == "ok"


@pytest.mark.parametrize("seconds", [1e7, -1.0, 0, float("nan"), float("inf"), True, "3"])
def test_a_limit_that_cannot_be_is_said_to_its_caller(executor, seconds):
    with pytest.raises(ValueError, match=r"Run.timeout_s: .* 0\.001 to 4000000 s would be right"):
        executor.submit(Run("def f(x):\n    while True: pass", ("1",), timeout_s=seconds))
    assert executor.submit(Run("def f(x):\n    return x", ("1",))).result(5)[0].reason == "ok"


def test_the_longest_limit_there_is_can_be_waited_for(executor):
    """`poll` counts milliseconds in 31 bits: the zygote ended where it was asked to wait for longer."""
    program = "import time\ndef f(x):\n    time.sleep(0.2)\n    return x"  # longer than a slice, which is short
    assert executor.submit(Run(program, ("1",), timeout_s=LONGEST_S)).result(5)[0].reason == "ok"


def test_a_callback_that_exits_ends_nothing(executor):
    future = executor.submit(Run("def f(x):\n    return x", ("7",)))
    future.add_done_callback(lambda _: sys.exit("a mistake"))
    assert future.result(5)[0].value == "7"
    assert executor.submit(Run("def f(x):\n    return x", ("8",))).result(5)[0].reason == "ok"


@pytest.mark.parametrize("seconds", [0.0, -1.0, 5e6])
def test_settings_have_limits_too(seconds):
    with pytest.raises(ValueError, match="timeout_s"):
        ExecutorSettings(timeout_s=seconds)
