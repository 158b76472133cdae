"""Worked examples of our own for small models, which do not keep to a form that is only described.

A small model also copies what it is shown: asked for an input of a function of one argument it repeats the example's
two. `tasks.examples` says what is shown: `one` (the same for all), `several` (with one, two and three arguments of
other types), `matching` (the one with as many arguments as the function asked about), `none`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from azr_jax.tasks.types import InductionTask, Task

SHOWN = ("one", "several", "matching", "none")


@dataclass(frozen=True)
class Worked:
    """A program, ten inputs with their outputs, a message, and a call with the exception it raises, or NoError."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    message: str
    error: tuple[str, str]


REPEATED = Worked(
    "def f(text, times):\n    return (text + '-') * times",
    ("'ab', 2", "'x', 3", "'', 1", "'hey', 0", "'a b', 2", "'1', 4", "'-', 2", "'zz', 1", "'ok', 5", "'Q', 2"),
    (
        "'ab-ab-'", "'x-x-x-'", "'-'", "''", "'a b-a b-'", "'1-1-1-1-'", "'----'", "'zz-'", "'ok-ok-ok-ok-ok-'",
        "'Q-Q-'",
    ),
    "The function repeats a text with a dash after it.",
    ("'ab', 'cd'", "TypeError"),
)  # fmt: skip
EVENS = Worked(
    "def f(numbers):\n    total = 0\n    for n in numbers:\n        if n % 2 == 0:\n            total += n\n"
    "    return total",
    (
        "[1, 2, 3, 4]", "[]", "[7]", "[10, 20]", "[-2, -3, 5]", "[0, 1]", "[8, 8, 8]", "[100, 3, 50]", "[1, 3, 5, 6]",
        "[2]",
    ),
    ("6", "0", "0", "30", "-2", "0", "24", "150", "6", "2"),
    "The function adds up a part of the numbers.",
    ("[1, None]", "TypeError"),
)  # fmt: skip
LENGTHS = Worked(
    "def f(words, low, high):\n    return {word: len(word) for word in words if low <= len(word) <= high}",
    (
        "['sun', 'a', 'moon'], 2, 3", "[], 0, 9", "['ab'], 3, 4", "['x', 'yy', 'zzz'], 1, 2", "['tea', 'cup'], 3, 3",
        "['', 'q'], 0, 0", "['long words'], 5, 20", "['a', 'a'], 1, 1", "['one', 'two', 'three'], 4, 9", "['k'], 2, 1",
    ),
    (
        "{'sun': 3}", "{}", "{}", "{'x': 1, 'yy': 2}", "{'tea': 3, 'cup': 3}", "{'': 0}", "{'long words': 10}",
        "{'a': 1}", "{'three': 5}", "{}",
    ),
    "The function measures some of the words.",
    ("['a'], 1, 3", "NoError"),
)  # fmt: skip
BY_ARGUMENTS = (EVENS, REPEATED, LENGTHS)


def shown(examples: str, arguments: int) -> tuple[Worked, ...]:
    """What a prompt shows before it asks about a function of so many arguments."""
    if examples == "several":
        return BY_ARGUMENTS
    if examples == "matching":
        return (BY_ARGUMENTS[max(0, min(arguments, len(BY_ARGUMENTS)) - 1)],)
    return (REPEATED,) if examples == "one" else ()


def proposed(examples: str) -> tuple[Worked, ...]:
    """Programs to begin with for a proposer that has too few references."""
    return {"none": (), "several": (REPEATED, EVENS, LENGTHS)}.get(examples, (REPEATED, EVENS))


def arguments_of(task: Task) -> int:
    """How many arguments a task's function is called with. The hidden program of an induction task is not looked at."""
    given = task.inputs[0] if isinstance(task, InductionTask) else task.input
    return arguments_in(given)


def arguments_in(given: str) -> int:
    try:
        (call,) = ast.parse(f"f({given})").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 1
    value = call.value if isinstance(call, ast.Expr) else None
    return len(value.args) + len(value.keywords) if isinstance(value, ast.Call) else 1


def parameters_of(program: str) -> int:
    """How many parameters `f` has, as it is written; 1 where that cannot be told."""
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 1
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "f":
            return len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
    return 1
