"""Ways to the real clock, by which a proposal of whoever looks at minutes is always accepted and is wrong later."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import platform
import time

import pytest

from azr_jax.executor.jobs import Run, Validate, Verify
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


# ------------------------------------------------------------------------------ whatever a program can get hold of
ANEW = """def f(x):
    i = eval('__imp' + 'ort__')
    m, s = i('_imp'), i('importlib.machinery').machinery
    t = m.create_builtin(s.ModuleSpec('time', s.BuiltinImporter))
    m.exec_builtin(t)
    try:
        return x + int(t.{}())
    except OSError:
        return 'nobody says'
"""
NATIVE = """def f(x):
    i = eval('__imp' + 'ort__')
    c, m = i('ctypes'), i('mmap')
    page = m.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex('0f31c3'))
    return x + c.CFUNCTYPE(c.c_int)(c.addressof(c.c_char.from_buffer(page)))()
"""


@pytest.mark.parametrize("name", ["time", "monotonic", "perf_counter", "thread_time"])
def test_a_clock_made_anew_is_told_nothing(executor, name):
    """By a text that is run no list is passed; the kernel refuses. Before, a minute of it was accepted each time."""
    validation = executor.submit(Validate(Proposal(Kind.ABDUCTION, ANEW.format(name), ("1",)))).result(60)
    assert validation.task.output == "'nobody says'"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its instructions are")
def test_the_processors_own_counter_is_locked(executor):
    validation = executor.submit(Validate(Proposal(Kind.ABDUCTION, NATIVE, ("1",)))).result(60)
    assert (validation.reason, validation.detail) == ("crashed", "signal 11")


def test_evaluations_have_their_clocks(executor):
    (outcome,) = executor.submit(Run(ANEW.format("time"), ("0",))).result(60)
    assert abs(int(outcome.value) - time.time()) < 60


LOCK = "import _thread\ndef f(x):\n    k = _thread.allocate_lock()\n    k.acquire()\n    return k.acquire(timeout=1.5)"


def test_a_wait_for_a_lock_is_no_clock(executor):
    """Where nobody says what time it is, it is over at once: 0.75 of the time limit before, and thus too slow."""
    assert executor.submit(Validate(Proposal(Kind.DEDUCTION, LOCK, ("1",)))).result(60).task.output == "False"


PATTERNS = {
    "an attribute by its name": "import sys\ndef f(x):\n    match sys:\n        case object(modules=m):\n            return x + int(m['time'].time()) // 2",
    "an attribute by its place": "import sys\nclass M(type):\n    def __instancecheck__(c, o):\n        return True\nclass C(metaclass=M):\n    __match_args__ = ('mod' + 'ules',)\ndef f(x):\n    match sys:\n        case C(m):\n            return x + int(m['time'].time()) // 2",
}


@pytest.mark.parametrize("what", PATTERNS)
def test_a_pattern_reads_no_attribute_that_is_on_the_lists(executor, what):
    assert (
        executor.submit(Validate(Proposal(Kind.ABDUCTION, PATTERNS[what], ("1",)))).result(60).reason == "banned name"
    )


def test_patterns_of_values_stay(executor):
    program = "def f(x):\n    match x:\n        case [int(a), str(b)]:\n            return b * a\n        case {'k': v}:\n            return v"
    assert (
        executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("[2, 'ab']",)))).result(60).task.output == "'abab'"
    )
