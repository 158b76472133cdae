"""Ways to the real clock, by which a proposal of whoever looks at minutes is always accepted and is wrong later."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

CLOCKS = {
    "getattr by another name": "import email.utils\ndef f(x):\n    g = getattr\n    now = g(g(email.utils, 'ti' + 'me'), 'time')\n    real = [k for k in [g(c, 'cell_contents') for c in g(now, '__clo' + 'sure__')] if callable(k)]\n    return x + int(real[0]()) // 2",
    "inspect": "from sys import modules\nimport inspect\ndef f(x):\n    return x + int(inspect.getclosurevars(modules['time'].time).nonlocals['real']()) // 2",
    "an interpreter within": "import _xxsubinterpreters as s\ndef f(x):\n    c = s.channel_create()\n    s.run_string(s.create(), 'import time, _xxsubinterpreters as s\\ns.channel_send(c, int(time.time()) // 2 % 2)', {'c': c})\n    return x + s.channel_recv(c)",
    "a name in an import": "from operator import attrgetter\nimport email.utils\ndef f(x):\n    return x + int(attrgetter('ti' + 'me.time')(email.utils)()) // 2",
    "mapped": "import email.utils\ndef f(x):\n    (t,) = map(getattr, [email.utils], ['ti' + 'me'])\n    return x + int(t.time()) // 2",
    "from builtins": "from builtins import getattr as g\nimport email.utils\ndef f(x):\n    return x + int(g(email.utils, 'ti' + 'me').time()) // 2",
    "pickled": "import pickle\ndef f(x):\n    g = pickle.loads(b'cbuiltins\\ngetattr\\n.')\n    return x + int(pickle.loads(b'ctime\\ntime\\n.')()) // 2",
    "interpreted": "import code\ndef f(x):\n    d = {}\n    code.InteractiveInterpreter(d).runsource('import time')\n    return x + int(d['time'].time()) // 2",
    "made anew": "import _imp\ndef f(x):\n    return x",
    "interpreters": "from concurrent import interpreters\ndef f(x):\n    return x",
    "a frame": "from inspect import currentframe\ndef f(x):\n    return x",
}


@pytest.mark.parametrize("what", CLOCKS)
def test_a_real_clock_is_out_of_reach(executor, what):
    """The first three were accepted each time, for all twelve runs of a validation are within a second."""
    validation = executor.submit(Validate(Proposal(Kind.ABDUCTION, CLOCKS[what], ("1",)))).result(60)
    assert validation.reason in ("banned import", "banned name"), validation


@pytest.mark.parametrize("name", ["time", "monotonic_ns", "clock_gettime"])
def test_the_functions_of_a_clock_that_stands_hold_no_real_one(executor, name):
    """By a text that is run no list is passed: where the real one was, in a closure, there is nothing to call."""
    find = f"eval('__imp' + 'ort__(\"sys\")').modules['time'].{name}.__closure__"
    program = f"def f(x):\n    return [callable(c.cell_contents) for c in {find}]"
    task = Triplet(program, "1", "", encode([False] * 4))
    verdict = executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, "1"))).result()
    assert verdict.correct, verdict


def test_no_interpreter_is_started_within(executor):
    program = "def f(x):\n    try:\n        eval('__imp' + 'ort__(\"_xxsubinterpreters\")')\n    except ImportError:\n        return 7"
    task = Triplet(program, "1", "7", encode(7))
    assert executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, "1"))).result().correct


def test_plain_attributes_by_text_stay(executor):
    proposal = Proposal(Kind.DEDUCTION, "def f(x):\n    return getattr(x, 'real')", ("3",))
    assert executor.submit(Validate(proposal)).result().task.output == "3"
