"""Requests to children and what comes back, as values; and the one way to run a program on several inputs.

Jobs are written as generators: they yield requests and are sent the results, so that the pool's thread can carry
thousands of them without a thread each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from azr_jax.executor.child import END, LARGEST_REQUEST, REQUEST_BYTES
from azr_jax.executor.values import MAX_CHARS

SEEDS = (1, 2)  # hash seeds of the zygotes; verdicts always come from the first
MORE_SEEDS = (3, 4, 5, 6)  # asked as well about programs that could depend on chance
STILL_MORE_SEEDS = (7, 8, 9, 10, 11, 12)  # and about those that could depend on where an object lies
_BUDGET = 3  # time limits that the calls of one program may take together
MAX_PROGRAM_CHARS = 32_768
MAX_INPUT_CHARS = 16_384


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """One child's work. Equal requests have equal results, which is what the cache relies on."""

    body: bytes
    seed: int
    timeout_s: float
    lines: int = 4  # that the child may write: two on the program, one on each call, the end mark
    real_time: bool = False  # its clocks go


@dataclass(frozen=True, slots=True)
class Result:
    """How a child ended and the lines it wrote, trusted to have one of the shapes below and in nothing else."""

    end: str  # done | timeout | crashed; before it is given to anybody, also: killed | starved
    lines: tuple[list[Any], ...] = ()
    detail: str = ""
    run_s: float = 0.0
    lost_s: float = 0.0  # of a worker, by tries that came to nothing
    size: int = 0  # bytes of the lines


@dataclass(frozen=True, slots=True)
class Case:
    """One call: status is value, raised, bad input, unplain, timeout or crashed."""

    status: str
    value: str | None = None
    name: str = ""  # the exception's class
    ordinary: bool = True  # the exception is an Exception: not an exit, not an interrupt
    detail: str = ""
    given: str | None = None  # of a proposal: what its input gave the program (child.py, _given), in the codec


@dataclass(slots=True)
class Checked:
    """What is said of a proposal that has not been run; `reason` says why it cannot be a task."""

    program: str  # its entry point named `f`
    by_chance: bool = False  # the program may see what differs from run to run; all three by its text (reach.py)
    by_address: bool = False  # it may be an address
    remembers: bool = True  # a call of it may know of an earlier one
    constants: str = ""  # that it may hand out as they stand (constants.py), where it has several inputs
    # Of several inputs, by number: the same for those that are one.
    inputs: dict[int, str] = field(default_factory=dict[int, str])
    reason: str = ""
    detail: str = ""


@dataclass(slots=True)
class Cases:
    """A program's outcomes by input number; `reason` says why there are none, or why they stop."""

    program: str
    cases: dict[int, Case] = field(default_factory=dict[int, Case])
    remembers: bool = True  # a call of an answer's program may know of an earlier one
    spent_s: float = 0.0  # of all its children
    reason: str = ""
    detail: str = ""


Together = tuple[ChildRequest, ...]  # run side by side as far as workers are there; sent back is a tuple of results
Steps = Generator[ChildRequest | Together, Any, Any]


def request(
    mode: str, timeout_s: float, seed: int = SEEDS[0], lines: int = 4, *, real_time: bool = False, **fields: object
) -> ChildRequest:
    body = json.dumps({"mode": mode, **fields}, separators=(",", ":")).encode()
    return ChildRequest(body, seed, timeout_s, lines, real_time)


@dataclass(slots=True)
class Budget:
    """How long all runs of one job may take a worker. A run takes its limit from it and gives back what is left."""

    left_s: float
    spent: bool = False  # a run was not made for want of it

    def take(self, seconds: float) -> bool:
        self.spent = self.spent or self.left_s < seconds
        if not self.spent:
            self.left_s -= seconds
        return not self.spent


def check(
    program: str, inputs: Sequence[str], *, banned: Sequence[str], timeout_s: float, budget: Budget
) -> Generator[ChildRequest, Result, Checked]:
    """Has the program and its inputs looked at, by a child that runs none of it."""
    found = Checked(program)
    budget.take(timeout_s)
    lines = 3 + len(inputs)
    result = yield request("check", timeout_s, lines=lines, program=program, banned=list(banned), inputs=list(inputs))
    budget.left_s += timeout_s - result.run_s - result.lost_s
    for kind, number, *rest in result.lines:
        if kind == "program":
            _, found.by_chance, found.by_address, found.remembers, found.constants = rest
            found.program = rest[0] or program
        elif kind == "input":
            found.inputs[number] = rest[0]
        elif kind == "unfit":
            found.reason, found.detail = rest[0], told(rest[1])
            return found
    if result.end != "done":
        found.reason, found.detail = result.end, result.detail
    return found


def run_cases(
    program: str,
    calls: Sequence[dict[str, Any]],
    *,
    timeout_s: float,
    seed: int = SEEDS[0],
    guard: Sequence[str] = (),
    answer: bool = False,
    given: bool = False,
    numbers: Sequence[int] | None = None,
    alone: bool = False,
    all_of_them: bool = True,
    budget: Budget | None = None,
    real_time: bool = False,
) -> Generator[ChildRequest, Result, Cases]:
    """Runs the numbered calls, in one child where that goes well.

    A call that ends the child while others ran before it gets a fresh one, so that every call has the whole time
    limit, though all together no more than three of them. `alone` gives each its own child from the start;
    without `all_of_them` the first failure is the last. What the `budget` has no room for is late. Clocks stand still
    unless `real_time`. The program cannot import what `guard` names; an `answer` is looked at first, as a proposal is;
    with `given`, cases say what the parameters were given.
    """
    found = Cases(program)
    todo = list(range(len(calls)) if numbers is None else numbers)
    while todo:
        batch = todo[:1] if alone else _fitting(program, calls, todo)
        fields: dict[str, Any] = {
            "program": program,
            "guard": list(guard),
            "numbers": batch,
            "calls": [calls[n] for n in batch],
        }
        fields |= {name: True for name, on in (("answer", answer), ("given", given)) if on}
        asked = request("program", timeout_s, seed, lines=3 + len(batch), real_time=real_time, **fields)
        if len(asked.body) > LARGEST_REQUEST:
            found.reason = "too long"
            return found
        if budget is not None and not budget.take(timeout_s):
            found.cases.update({n: Case("timeout", detail="all runs together") for n in todo})
            return found
        result = yield asked
        if budget is not None:
            budget.left_s += timeout_s - result.run_s - result.lost_s
        loaded = _read(result, frozenset(batch), found, checked=answer)
        found.spent_s += result.run_s
        if found.reason:
            return found
        missing = [n for n in batch if n not in found.cases]
        if missing and missing[0] == batch[0]:
            end = "crashed" if result.end == "done" else result.end
            found.cases[missing[0]] = Case(end, detail=result.detail)
            if not loaded:
                found.reason, found.detail = end, result.detail
                return found
        if not all_of_them and any(found.cases[n].status != "value" for n in batch if n in found.cases):
            return found
        todo = [n for n in todo if n not in found.cases]
        if todo and found.spent_s > _BUDGET * timeout_s:
            found.cases.update({n: Case("timeout", detail="all calls together") for n in todo})
            return found
    return found


def side_by_side(*runs: Generator[ChildRequest, Result, Cases]) -> Generator[Together, tuple[Result, ...], list[Cases]]:
    """Several runs at once, step by step: a program that never ends costs the time of one run, not of their sum."""
    found: dict[int, Cases] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(runs)))  # None starts a generator
    while answers:
        asked: dict[int, ChildRequest] = {}
        for place, answer in answers.items():
            try:
                asked[place] = runs[place].send(answer)
            except StopIteration as stop:
                found[place] = stop.value
        answers = dict(zip(asked, (yield tuple(asked.values())), strict=True)) if asked else {}
    return [found[place] for place in range(len(runs))]


def _fitting(program: str, calls: Sequence[dict[str, Any]], todo: list[int]) -> list[int]:
    """As many of the calls as one message holds; one at least, which may be too long for it."""
    room = REQUEST_BYTES - len(json.dumps(program)) - 1_000
    for place, number in enumerate(todo):
        room -= len(json.dumps(calls[number])) + 8
        if room < 0:
            return todo[: max(1, place)]
    return todo


def _read(result: Result, batch: frozenset[int], found: Cases, *, checked: bool) -> bool:
    """Takes a child's lines into `found`. The first word on a call counts; later ones are the program's own.

    Where the child `checked` the program its first line says so, written before the program ran.
    """
    loaded = False
    for place, (kind, number, *rest) in enumerate(result.lines):
        if kind == "program" and place == 0 and checked:
            found.program, found.remembers = rest[0] or found.program, rest[3]
        elif kind == "loaded":
            loaded = True
        elif kind == "unfit" and not loaded:
            found.reason, found.detail = rest[0], told(rest[1])
        elif kind == "broken" and not loaded:
            found.reason, found.detail = "raised", told(f"{rest[0]}: {rest[1]}")
        elif number in batch and number not in found.cases and kind in OF_A_CALL:
            found.cases[number] = case(kind, rest)
    return loaded


OF_A_CALL = ("value", "raised", "bad input", "unplain")  # the kinds of lines that say what one call came to


def case(kind: str, rest: list[Any]) -> Case:
    """One of these lines as a case; `rest` is what stands after its number."""
    if kind == "value":
        return Case("value", value=rest[0], given=rest[1])
    if kind == "unplain":
        return Case("unplain", detail=told(rest[0]), given=rest[1])
    given = rest[3] if kind == "raised" else None
    return Case(kind, name=rest[0], detail=told(f"{rest[0]}: {rest[1]}"), ordinary=rest[2], given=given)


# ---------------------------------------------------------------------------------------------- what a child wrote
_MOST_TEXT = 300  # characters kept of a message for people
_NAME_CHARS = 100
UNFIT = frozenset({
    "syntax error", "no function f", "banned import", "banned name", "not an argument list", "not inert",
    "value refused", "number too large", "not written out",
})  # fmt: skip
# A line is one flat list: a word, a number, then texts, truth values and nulls. Checked whole before it is parsed, in
# time that grows with its length alone: after a quote there is one way to read on, and without nesting no depth.
_FLAT = re.compile(r'\["[a-z ]+",-?\d{1,9}(?:,(?:"[^"\\]*(?:\\.[^"\\]*)*"|true|false|null))*\]')
_LOADS = json.JSONDecoder().decode

Check = Callable[[Any], bool]


def _text(most: int) -> Check:
    return lambda v: type(v) is str and len(v) <= most


def _or_none(check: Check) -> Check:
    return lambda v: v is None or check(v)


def _flag(v: object) -> bool:
    return type(v) is bool


_ANY_TEXT = _text(1 << 20)


def _name(v: object) -> bool:
    return type(v) is str and len(v) <= _NAME_CHARS and v.isprintable()


def _value(v: object) -> bool:
    return type(v) is str and len(v) <= MAX_CHARS and v.isascii()  # as the codec writes it


# What each kind of line holds after the word and the number; any other line ends the reading: the child crashed.
_SHAPES: dict[str, tuple[Check, ...]] = {
    "begun": (),
    "program": (_or_none(_text(MAX_PROGRAM_CHARS + 2 * _NAME_CHARS + 16)), _flag, _flag, _flag, _text(1 << 16)),
    "input": (_text(8),),
    "loaded": (),
    "unfit": (lambda v: type(v) is str and v in UNFIT, _ANY_TEXT),
    "broken": (_name, _ANY_TEXT, _flag),
    "bad input": (_name, _ANY_TEXT, _flag),
    "raised": (_name, _ANY_TEXT, _flag, _or_none(_value)),
    "value": (_value, _or_none(_value)),
    "unplain": (_ANY_TEXT, _or_none(_value)),
}


def read_lines(data: bytes, most: int) -> tuple[tuple[list[Any], ...], bool]:
    """The well-formed lines, at most so many, and whether the end mark closes them."""
    lines: list[list[Any]] = []
    for raw in data.split(b"\n", most)[:most]:
        if raw == END:
            return tuple(lines), True
        line = _line(raw)
        if line is None:
            break
        lines.append(line)
    return tuple(lines), False


def _line(raw: bytes) -> list[Any] | None:
    try:
        text = raw.decode()
        line = _LOADS(text) if _FLAT.fullmatch(text) else None
    except ValueError:
        return None
    shape = _SHAPES.get(line[0]) if line else None
    if line is None or shape is None or len(shape) != len(line) - 2:
        return None
    return line if all(check(v) for check, v in zip(shape, line[2:])) else None


def told(text: str) -> str:
    """A child's words, as they may stand in a log: short, in one line, nothing that a file or a terminal trips over."""
    text = text[:_MOST_TEXT]
    return text if text.isprintable() else text.encode("unicode_escape").decode()
