"""A program cannot tell whether it is validated or judged, and cannot say which of its inputs are one."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import json

import pytest

from azr_jax.executor.cases import Result
from azr_jax.executor.hygiene import BANNED
from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.executor.validate import validate
from azr_jax.executor.values import encode
from azr_jax.executor.verify import abduction
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

PROGRAM = "def f(x):\n    return x + 1"


def test_what_is_asked_of_a_child_is_the_same_to_the_byte():
    """Of one that runs the program. Another one, which runs nothing, has looked at the proposal before."""
    settings = ExecutorSettings()
    steps = validate(Validate(Proposal(Kind.ABDUCTION, PROGRAM, ("41",))), BANNED, 4096, settings.timeout_s)
    looked = next(steps)
    assert json.loads(looked.body)["mode"] == "check"
    first, second = steps.send(Result("done", (["program", -1, None, False, False, False, ""],)))
    task = Triplet(PROGRAM, "41", "42", encode(42))
    own = next(abduction(task, "41", "any", BANNED, settings.timeout_s))
    assert first == own and first.body == second.body
    other = next(abduction(task, "40 + 1", "any", BANNED, settings.timeout_s))
    assert json.loads(other.body) == json.loads(own.body) | {"calls": [{"text": "40 + 1", "inert": True}]}


MODES = {
    "a string run": "def f(x):\n    try:\n        exec('import random')\n        return -x\n    except ImportError:\n        return x",
    "the import's name": "from builtins import __import__ as i\ndef f(x):\n    return i.__name__",
    "how often True is held": "import sys\ndef f(x):\n    return sys.getrefcount(True)",
    "how often a small number is held": "import sys\ndef f(x):\n    return [sys.getrefcount(n) for n in (0, 1, None)]",
    "what patterns were read": "import re\ndef g(x):\n    return len(re._cache)",
    "how much is allocated": "import sys\ndef f(x):\n    return sys.getallocatedblocks() % 2",
    "a class that is asked its name": "seen = []\nclass M(type):\n    @property\n    def __name__(c):\n        seen.append(1)\n        return 'P'\nclass P(metaclass=M):\n    pass\ndef f(p):\n    return len(seen)",
    "a class that is asked its hash": "seen = []\nclass M(type):\n    def __hash__(c):\n        seen.append(1)\n        return 1\nclass P(metaclass=M):\n    pass\ndef f(p):\n    return len(seen)",
}


@pytest.mark.parametrize("what", MODES)
def test_a_program_cannot_tell_that_it_is_validated(executor, what):
    """The first three and the class with a name were accepted every time, and their own input was wrong every time."""
    given = "P()" if "class" in what else "1"
    task = executor.submit(Validate(Proposal(Kind.ABDUCTION, MODES[what], (given,)))).result(60).task
    for number in range(2 if task is not None else 0):
        again = Triplet(f"{task.program}\n# {number}", task.input, task.output, task.value)
        assert executor.submit(Verify(Kind.ABDUCTION, again, Answer(Kind.ABDUCTION, given))).result(60).correct


def test_a_task_may_not_import_later_what_it_may_not_at_first(executor):
    """The guard holds where an answer is judged too: what a program catches there, it has caught before."""
    task = Triplet(MODES["a string run"], "1", "1", encode(1))
    assert executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, "1"))).result(60).correct


AHEAD = """import os, json
def f(x, y=0):
    for n in range(10):
        given = json.dumps({"t": [{"d": [["x", n]]}, 1, {"t": []}]}, separators=(",", ":"))
        os.write(30, json.dumps(["value", n, str(n * n % 3), given], separators=(",", ":")).encode() + b"\\n")
    return 0
"""


@pytest.mark.parametrize(
    "inputs", [("5",) * 10, ("5", "+5", "x=5", "5, 0", "*[5]", "int('5')", "5,", "(5)", "4 + 1", "y=0, x=5")]
)
def test_one_input_ten_times_is_no_task(executor, inputs):
    """It says what every call was given and gave: ten times 5, outputs 0, 1, 1, 0, ...: nobody can induce that."""
    validation = executor.submit(Validate(Proposal(Kind.INDUCTION, AHEAD, inputs, "m"))).result(60)
    assert (validation.reason, validation.detail) == ("too few inputs", "1 of 10 left")


def test_an_honest_one_keeps_the_inputs_that_differ(executor):
    inputs = ("5", "+5", "x=6", "5, 0", "5, 1", "7", "[7][0]")
    program = "def add(x, y=0):\n    return x + y"
    task = executor.submit(Validate(Proposal(Kind.INDUCTION, program, inputs, "m"), pairs="as_given")).result(60).task
    assert task.inputs == ("5", "x=6", "5, 1", "7")


P_AHEAD = """import os, json
class P:
    def __init__(self, n):
        self.n = n
for n in range(10):
    given = json.dumps({"t": [{"d": [["p", n]]}, 1, {"t": []}]}, separators=(",", ":"))
    os.write(30, json.dumps(["value", n, str(n * n % 3), given], separators=(",", ":")).encode() + b"\\n")
def f(p):
    return p.n
"""


def test_one_input_by_names_of_the_programs_own_is_no_task(executor):
    """What is known of `P(+5)` without the program is its text; who may write lines itself is not believed the rest."""
    inputs = ("P(5)", "P(+5)", "P(n=5)", "P(5,)", "P(*[5])", "P(int(5))", "P((5))", "P(4 + 1)", "(P)(5)", "1 / 0")
    validation = executor.submit(Validate(Proposal(Kind.INDUCTION, P_AHEAD, inputs, "m"))).result(60)
    assert (validation.reason, validation.detail) == ("too few inputs", "1 of 10 left")


def test_an_honest_class_keeps_its_inputs(executor):
    program = "class P:\n    def __init__(self, n):\n        self.n = n\ndef f(p):\n    return p.n * 2"
    inputs = ("P(1)", "P(2)", "P(3)", "P(4)")
    task = executor.submit(Validate(Proposal(Kind.INDUCTION, program, inputs, "m"))).result(60).task
    assert task.inputs == inputs
