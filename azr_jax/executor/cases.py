"""Requests to children and what comes back, as values; and the one way to run a program on several inputs.

Jobs are written as generators: they yield requests and are sent the results, so that the pool's thread can carry
thousands of them without a thread each.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from azr_jax.executor.child import LARGEST_REQUEST, REQUEST_BYTES
from azr_jax.executor.values import parse_json

SEEDS = (1, 2)  # hash seeds of the zygotes; verdicts always come from the first
MORE_SEEDS = (3, 4, 5, 6)  # asked as well about programs that could depend on the order of a set
_BUDGET = 3  # time limits that the calls of one program may take together
MAX_PROGRAM_CHARS = 32_768
MAX_INPUT_CHARS = 16_384


@dataclass(frozen=True, slots=True)
class Request:
    """One child's work. Equal requests have equal results, which is what the cache relies on."""

    body: bytes
    seed: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """How a child ended and the lines it wrote, none of them trusted beyond being lists of plain JSON."""

    end: str  # done | timeout | crashed
    lines: tuple[list[Any], ...] = ()
    detail: str = ""
    run_s: float = 0.0
    size: int = 0  # bytes of the lines


@dataclass(frozen=True, slots=True)
class Case:
    """One call: status is value, raised, bad input, unplain, timeout or crashed."""

    status: str
    value: str | None = None
    name: str = ""  # the exception's class
    ordinary: bool = True  # the exception is an Exception: not an exit, not an interrupt
    detail: str = ""
    given: str | None = None  # the arguments' values in the codec, where they are plain


@dataclass(slots=True)
class Cases:
    """A program's outcomes by input number; `reason` says why there are none, or why they stop."""

    program: str
    cases: dict[int, Case] = field(default_factory=dict)
    by_hash: bool = False  # the program holds something whose order or value depends on the hash seed
    reason: str = ""
    detail: str = ""


Together = tuple[Request, ...]  # run side by side as far as there are workers; sent back is a tuple of their results
Steps = Generator[Request | Together, Any, Any]


def request(mode: str, timeout_s: float, seed: int = SEEDS[0], **fields: Any) -> Request:
    return Request(json.dumps({"mode": mode, **fields}, separators=(",", ":")).encode(), seed, timeout_s)


def run_cases(
    program: str,
    calls: Sequence[dict[str, Any]],
    *,
    timeout_s: float,
    seed: int = SEEDS[0],
    banned: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
    alone: bool = False,
    all_of_them: bool = True,
) -> Generator[Request, Result, Cases]:
    """Runs the numbered calls, in one child where that goes well.

    A call that ends the child while others ran before it gets a fresh one, so that every call has the whole time
    limit, though all together no more than three of them. `alone` gives each its own child from the start;
    without `all_of_them` the first failure is the last.
    """
    found = Cases(program)
    todo = list(range(len(calls)) if numbers is None else numbers)
    spent: float = 0.0
    while todo:
        batch = todo[:1] if alone else _fitting(program, calls, todo)
        fields = {"program": program, "banned": banned, "numbers": batch, "calls": [calls[n] for n in batch]}
        asked = request("program", timeout_s, seed, **fields)
        if len(asked.body) > LARGEST_REQUEST:
            found.reason = "too long"
            return found
        result = yield asked
        loaded = _read(result, batch, found)
        spent += result.run_s
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
        if todo and spent > _BUDGET * timeout_s:
            found.cases.update({n: Case("timeout", detail="all calls together") for n in todo})
            return found
    return found


def side_by_side(*runs: Generator[Request, Result, Cases]) -> Generator[Together, tuple[Result, ...], list[Cases]]:
    """Several runs at once, step by step: a program that never ends costs the time of one run, not of their sum."""
    found: dict[int, Cases] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(runs)))  # None starts a generator
    while answers:
        asked: dict[int, Request] = {}
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


def _read(result: Result, batch: Sequence[int], found: Cases) -> bool:
    """Takes a child's lines into `found`. The first word on a call counts; later ones are the program's own."""
    loaded = False
    for place, line in enumerate(result.lines):
        kind, number, *rest = line
        if kind == "program" and place == 0:
            found.program, found.by_hash = rest
        elif kind == "loaded":
            loaded = True
        elif kind == "unfit" and not loaded:
            found.reason, found.detail = rest[0], rest[1]
        elif kind == "broken" and not loaded:
            found.reason, found.detail = "raised", f"{rest[0]}: {rest[1]}"
        elif number in batch and number not in found.cases:
            found.cases[number] = _case(kind, rest)
    return loaded


def _case(kind: str, rest: list[Any]) -> Case:
    if kind == "value":
        return Case("value", value=rest[0], given=rest[1])
    if kind in ("raised", "bad input"):
        given = rest[3] if kind == "raised" else None
        return Case(kind, name=rest[0], detail=f"{rest[0]}: {rest[1]}", ordinary=rest[2], given=given)
    return Case("unplain", detail=rest[0], given=rest[1] if len(rest) > 1 else None)


# The shapes of the lines: any other ends the reading, and the child counts as crashed.
_SHAPES: dict[str, tuple[tuple[type, ...], ...]] = {
    "program": ((str,), (bool,)),
    "loaded": (),
    "unfit": ((str,), (str,)),
    "broken": ((str,), (str,), (bool,)),
    "bad input": ((str,), (str,), (bool,)),
    "raised": ((str,), (str,), (bool,), (str, type(None))),
    "value": ((str,), (str, type(None))),
    "unplain": ((str,), (str, type(None))),
}


def read_lines(data: bytes, most: int) -> tuple[tuple[list[Any], ...], bool]:
    """The well-formed lines, at most so many, and whether the end mark closes them."""
    lines: list[list[Any]] = []
    for raw in data.split(b"\n", most)[:most]:
        try:
            line = parse_json(raw.decode())
        except ValueError:
            return tuple(lines), False
        if line == ["end"]:
            return tuple(lines), True
        if not (type(line) is list and len(line) >= 2 and type(line[0]) is str and type(line[1]) is int):
            return tuple(lines), False
        shape = _SHAPES.get(line[0])
        if shape is None or len(shape) != len(line) - 2 or any(type(v) not in t for v, t in zip(line[2:], shape)):
            return tuple(lines), False
        lines.append(line)
    return tuple(lines), False
