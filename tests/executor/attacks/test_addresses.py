"""An address tells a program nothing: what it sees of one is the same when it is validated and when it is judged."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import pytest

from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor
from azr_jax.executor.values import decode
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

BIT = "    return x + (int(t.split('0x')[1].split('>')[0], 16) >> {}) % 2"
TEXTS = {
    "a class of a text": "def f(x):\n    t = ''.__class__(f)\n",
    "a type of a text": "def f(x):\n    t = type('')(f)\n",
    "percent from a table": "import string\ndef f(x):\n    t = (string.punctuation[4] + 's') % f\n",
    "another string class": "from collections import UserString\ndef f(x):\n    t = UserString(f).data\n",
    "a message": "def f(x):\n    try:\n        [].index(f)\n    except ValueError as e:\n        t = e.args[0]\n",
    "what is printed": "class W:\n    def write(w, s):\n        w.s = getattr(w, 's', '') + s\ndef f(x):\n    w = W()\n    print(f, file=w)\n    t = w.s\n",
    "keys of a copy": "import copy\ndef f(x):\n    d = {}\n    copy.deepcopy([x], d)\n    t = '0x%x' % max(d)\n",
    "a generator": "def f(x):\n    t = ''.__class__(i for i in [x])\n",
}


@pytest.mark.parametrize("what", TEXTS)
def test_no_reward_hangs_on_a_bit_of_an_address(executor: Executor, fresh: Executor, what: str):
    """Two zygotes were asked, not twelve: half of the bits were accepted, and half of those differed at the next one."""
    for bit in (15, 17, 20, 24, 28):
        proposal = Proposal(Kind.ABDUCTION, TEXTS[what] + BIT.format(bit), ("1",))
        task = executor.submit(Validate(proposal)).result(60).task
        if task is not None:
            again = Triplet(f"{task.program}\n# again", task.input, task.output, task.value)
            assert fresh.submit(Verify(Kind.ABDUCTION, again, Answer(Kind.ABDUCTION, "1"))).result(60).correct, bit


SEEN = "class A:\n    pass\ndef f(x):\n    a, b = A(), A()\n    return [repr(a) == repr(a), repr(a) == repr(b), id(a) == id(b), hex(id(b)) in repr(b)]"


def test_places_are_told_apart_as_in_python(executor: Executor):
    (outcome,) = executor.submit(Run(SEEN, ("1",))).result(60)
    assert decode(outcome.value or "") == [True, False, False, True]


def test_an_address_at_the_end_of_a_recursion_ends_nothing(executor: Executor):
    """What writes it is Python called by libc, which fails there: silently, or each failure would write another one."""
    program = (
        "def f(x):\n    try:\n        return f(x)\n    except RecursionError:\n        t = repr(f)\n        return x"
    )
    (outcome,) = executor.submit(Run(program, ("7",))).result(60)
    assert outcome.value == "7"


def test_builtin_functions_in_a_set_are_objects_too(executor: Executor):
    """Their order goes by addresses, of which six zygotes say less than twelve."""
    runs = executor.stats()["runs"]
    executor.submit(
        Validate(Proposal(Kind.ABDUCTION, "def f(x):\n    return [g(x) for g in [*{len, all}]][:0]", ("'a'",)))
    ).result(60)
    assert executor.stats()["runs"] - runs == 13


def test_a_place_tells_no_call_of_earlier_ones(executor: Executor):
    """Its number is that of the first place asked for in this call; counted through, only the first call saw it."""
    program = "def f(x):\n    many = [(i for i in []) for _ in range(200)]\n    return type('')(many[x])[-14:]"
    outcomes = executor.submit(Run(program, ("1", "17", "90"))).result(60)
    assert len({outcome.value for outcome in outcomes}) == 1
