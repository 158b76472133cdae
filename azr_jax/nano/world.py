"""The small world: seeded little programs, inputs for them, and their outputs by execution.

A program is a chain of steps (steps.py) on values of known types, so it is well typed by construction; what still
fails or grows too large on an input is dropped after the run. Levels grade it: 1 has two statements, 2 three or four, 3
five or six, counting the `return`.

One program in HELD_OUT_SHARE is held out by the hash of its normal form. That is decided by the program alone, so what
one caller trains on and another evaluates on never meet, however much either generates.
"""

from __future__ import annotations

import ast
import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from azr_jax.executor.jobs import Run
from azr_jax.executor.pool import Executor
from azr_jax.executor.values import decode, encode, show
from azr_jax.nano.steps import CHARACTER_IS, NUMBER_IS, OF_CHARACTER, OF_NUMBER, STEPS, Step
from azr_jax.tasks.programs import rename_part, without_comments

LEVELS = {1: (2, 2), 2: (3, 4), 3: (5, 6)}  # statements
LEVEL_SHARE = {1: 3, 2: 2, 3: 1}  # how often each level is drawn
NAMES = {"i": "nkm", "s": ("text", "s"), "l": ("nums", "items"), "w": ("words", "parts"), "d": ("counts", "d")}
RESULTS = ("y", "z", "out", "res", "t")
LETTERS = "abcxyz"
HELD_OUT_SHARE = 6
LONGEST_VALUE = 32  # characters of an output
MOST_PARAMETERS = 2
# What a message says in place of the numbers, letters and conditions, where it does not tell them.
_VAGUE = {"k": "a number", "m": "a number", "c": "a letter", "e": "a letter"}
_VAGUE |= {"E": "something", "S": "something", "C": "some hold", "D": "some hold"}
PER_RUN = 20  # programs that are run together


@dataclass(frozen=True)
class Little:
    """A program, words for it, and inputs that fit its parameters."""

    level: int
    program: str
    message: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """The same after the run: the inputs that worked, with outputs as text and in the executor's codec."""

    level: int
    program: str
    message: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: tuple[str, ...]


def write(rng: random.Random, level: int, inputs: int) -> Little:
    """One program of this level, and up to `inputs` different inputs for it."""
    low, high = LEVELS[level]
    draft = _Draft(rng)
    draft.extend(rng.randint(low, high) - 1)
    drawn = dict.fromkeys(draft.draw_input() for _ in range(inputs))
    return Little(level, draft.program(), draft.message(), tuple(drawn))


def execute(executor: Executor, littles: Sequence[Little], fewest: int) -> Iterator[Known]:
    """Runs each on its inputs. Left out: those with fewer than `fewest` good outputs, or with all of them alike."""
    runs = [littles[start : start + PER_RUN] for start in range(0, len(littles), PER_RUN)]
    futures = [executor.submit(Run(_all_calls(run), ("",))) for run in runs]
    for run, future in zip(runs, futures, strict=True):
        outcome = future.result()[0]
        if outcome.value is None:
            raise RuntimeError(f"a run of generated programs came to nothing: {outcome.reason} {outcome.detail}")
        for little, results in zip(run, _lists(decode(outcome.value)), strict=True):
            good = [
                (given, show(result[0]), encode(result[0]))
                for given, result in zip(little.inputs, _lists(results), strict=True)
                if result
            ]
            if len(good) >= fewest and len({text for _, text, _ in good}) > 1:
                yield Known(little.level, little.program, little.message, *map(tuple, zip(*good, strict=True)))


def _all_calls(littles: Sequence[Little]) -> str:
    """One program that calls many: our own programs need no process of their own each."""
    calls = ",\n".join(
        f"[{', '.join(f'attempt(g{number}, {given})' for given in little.inputs)}]"
        for number, little in enumerate(littles, 1)
    )
    return "\n\n".join([*(rename_part(little.program, n) for n, little in enumerate(littles, 1)), _ATTEMPT, _F % calls])


_ATTEMPT = f"""\
def attempt(g, *given):
    try:
        result = g(*given)
        return [result] if len(repr(result)) <= {LONGEST_VALUE} else []
    except Exception:
        return []"""
_F = "def f():\n    return [%s]"


def _lists(value: object) -> list[list]:
    assert isinstance(value, list)
    return value


def held_out(program: str) -> bool:
    """Whether the program belongs to evaluation and must not occur in pre-training text."""
    return hashlib.blake2b(normal_form(program).encode(), digest_size=8).digest()[0] % HELD_OUT_SHARE == 0


def normal_form(program: str) -> str:
    """The syntax tree with variables numbered as they appear: layout, comments and names of variables do not count."""
    tree = ast.parse(without_comments(program))
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    numbers: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg in own:
            node.arg = numbers.setdefault(node.arg, f"v{len(numbers)}")
        elif isinstance(node, ast.Name) and node.id in own:
            node.id = numbers.setdefault(node.id, f"v{len(numbers)}")
    # As Python 3.11 writes it, by which the held-out set was drawn: 3.12 has a field more, 3.13 leaves out empty ones.
    in_full = ast.dump(tree, show_empty=True) if sys.version_info >= (3, 13) else ast.dump(tree)
    return in_full.replace(", type_params=[]", "")


class _Draft:
    """A program while it is being written: the value it is at, its parameters, and the statements so far."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.parameters: list[tuple[str, str]] = []  # (name, type)
        self.free = list(RESULTS)
        self.statements: list[str] = []
        self.words: list[str] = []
        self.exact = rng.random() < 0.5  # whether the message tells the numbers
        self.at, self.type = self._parameter(rng.choice("iissllwd"))
        self.returned = self.at

    def extend(self, statements: int) -> None:
        """Adds steps; the last one may be what is returned, where it is an expression and not the only one."""
        for number in range(statements):
            step = self.rng.choice([s for s in STEPS if s.takes[0] == self.type and self._can_take(s)])
            self._add(step, last=number == statements - 1)

    def program(self) -> str:
        head = f"def f({', '.join(name for name, _ in self.parameters)}):"
        body = [line for statement in self.statements for line in statement.split("\n")]
        return "\n".join([head, *(f"    {line}" for line in body), f"    return {self.returned}"])

    def message(self) -> str:
        return f"It {', then '.join(self.words)}."

    def draw_input(self) -> str:
        return ", ".join(repr(_draw(self.rng, type_)) for _, type_ in self.parameters)

    def _can_take(self, step: Step) -> bool:
        if len(step.takes) == 2 and self._second(step.takes[1]) is None and len(self.parameters) >= MOST_PARAMETERS:
            return False
        return bool(self.free) or step.in_place or step.makes == self.type

    def _second(self, type_: str) -> str | None:
        others = [name for name, known in self.parameters if known == type_ and name != self.at]
        return self.rng.choice(others) if others else None

    def _add(self, step: Step, *, last: bool) -> None:
        rng = self.rng
        second = ""
        if len(step.takes) == 2:
            second = self._second(step.takes[1]) or self._parameter(step.takes[1])[0]
        parts = {"k": str(rng.randint(1, 9)), "m": str(rng.randint(2, 4))}
        parts["c"], parts["e"] = rng.sample(LETTERS, 2)
        for letter, table in zip("ECSD", (OF_NUMBER, NUMBER_IS, OF_CHARACTER, CHARACTER_IS), strict=True):
            parts[letter] = rng.choice(table).format(**parts)
        named = parts if self.exact else _VAGUE
        self.words.append(step.words.format(**named))
        expression = step.expression.format(a=self.at, b=second, r="", **parts)
        if last and expression and rng.random() < 0.5:
            self.returned = expression
            return
        # A result of the same type often takes the old name, as people write.
        again = step.in_place or (step.makes == self.type and step.lines == 1 and (not self.free or rng.random() < 0.5))
        name = self.at if again else self.free.pop(rng.randrange(len(self.free)))
        self.statements.append(step.code.format(a=self.at, b=second, r=name, **parts))
        self.at = self.returned = name
        self.type = step.makes

    def _parameter(self, type_: str) -> tuple[str, str]:
        taken = {name for name, _ in self.parameters}
        name = self.rng.choice([name for name in NAMES[type_] if name not in taken])
        self.parameters.append((name, type_))
        return name, type_


def _draw(rng: random.Random, type_: str) -> object:
    """A value of this type, small."""
    if type_ == "i":
        return rng.randint(0, 9)
    if type_ == "l":
        return [rng.randint(0, 9) for _ in range(rng.randint(1, 4))]
    if type_ == "w":
        return ["".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 2))) for _ in range(rng.randint(1, 3))]
    if type_ == "d":
        return {letter: rng.randint(0, 9) for letter in rng.sample(LETTERS, rng.randint(1, 2))}
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 4)))
