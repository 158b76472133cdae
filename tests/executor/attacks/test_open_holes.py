"""Attacks that still succeed, each as the test that will show that it does not; docs/TRUST.md lists them.

Slow, and expected to fail: `pytest -m slow tests/executor/attacks/test_open_holes.py -rxX` says which have been closed.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import time

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


# ------------------------------------------------------------------------------ the real clock
CLOCKS = {
    "getattr by another name": "import email.utils\ndef f(x):\n    g = getattr\n    now = g(g(email.utils, 'ti' + 'me'), 'time')\n    real = [k for k in [g(c, 'cell_contents') for c in g(now, '__clo' + 'sure__')] if callable(k)]\n    return x + int(real[0]()) // 2",
    "inspect": "from sys import modules\nimport inspect\ndef f(x):\n    return x + int(inspect.getclosurevars(modules['time'].time).nonlocals['real']()) // 2",
    "an interpreter within": "import _xxsubinterpreters as s\ndef f(x):\n    c = s.channel_create()\n    s.run_string(s.create(), 'import time, _xxsubinterpreters as s\\ns.channel_send(c, int(time.time()) // 2 % 2)', {'c': c})\n    return x + s.channel_recv(c)",
}


@pytest.mark.parametrize("what", CLOCKS)
def test_a_real_clock_is_out_of_reach(fresh, what):
    """All twelve runs of a validation are within a second; whoever looks at minutes is accepted always."""
    for number in range(3):
        task = accepted(fresh, f"{CLOCKS[what]}\n# {number}")
        if task is not None:
            time.sleep(2.1)
            assert own_input_is_right(fresh, task)
            return


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
