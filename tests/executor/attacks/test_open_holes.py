"""Attacks that still succeed, each as the test that will show that it does not; docs/TRUST.md lists them.

Slow, and expected to fail: `pytest -m slow tests/executor/attacks/test_open_holes.py -rxX` says which have been closed.
"""

from __future__ import annotations

import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.pool import Executor
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

pytestmark = [pytest.mark.slow, pytest.mark.xfail(reason="open, see docs/TRUST.md", strict=False)]


def accepted(executor: Executor, program: str, given: str = "1") -> Triplet | None:
    return executor.submit(Validate(Proposal(Kind.ABDUCTION, program, (given,)))).result(60).task


def own_input_is_right(executor: Executor, task: Triplet, number: int = 0) -> bool:
    again = Triplet(f"{task.program}\n# {number}", task.input, task.output, task.value)
    return executor.submit(Verify(Kind.ABDUCTION, again, Answer(Kind.ABDUCTION, task.input))).result(60).correct


# ------------------------------------------------------------------------------ addresses that reach.py does not see
BIT = "    return x + (int(t.split('0x')[1].split('>')[0], 16) >> {}) % 2"
TEXTS = {
    "a class of a text": "def f(x):\n    t = ''.__class__(f)\n",
    "a type of a text": "def f(x):\n    t = type('')(f)\n",
    "percent from a table": "import string\ndef f(x):\n    t = (string.punctuation[4] + 's') % f\n",
    "another string class": "from collections import UserString\ndef f(x):\n    t = UserString(f).data\n",
    "a message": "def f(x):\n    try:\n        [].index(f)\n    except ValueError as e:\n        t = e.args[0]\n",
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_bit_of_an_address_by_unseen_text(executor, what):
    """Two zygotes are asked, not twelve: half of the bits are accepted, and half of those differ at the next zygote."""
    programs = [TEXTS[what] + BIT.format(bit) for bit in (15, 17, 18, 20, 24, 28)]
    waiting = [executor.submit(Validate(Proposal(Kind.ABDUCTION, p, ("1",)))) for p in programs]
    assert sum(future.result(60).task is not None for future in waiting) <= 1
