"""Reads the text of a compiled program: computations, instructions, shapes, loops, and lines of source.

The text is the scheduled HLO that `compiled.as_text()` gives. Instructions are read whole, over line ends: their
attributes can span lines. What is counted from it stands in counts.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property

BITS = {"pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b(pred|token|opaque|bf16|[suf]\d+\w*|c64|c128)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result. `on_chip`: in a core's own fast memory, not in the chip's HBM."""

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.dtype)
        bits = BITS.get(self.dtype, int(digits.group()) if digits else 32)
        return self.size * bits // 8

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclass(frozen=True)
class Instruction:
    name: str
    op: str
    arrays: tuple[Array, ...]  # the result: one, or those of a tuple
    operands: tuple[str, ...]
    attributes: str
    root: bool = False
    literal: str = ""  # of a constant or a parameter: what stands in its parentheses

    def called(self, *attributes: str) -> list[str]:
        """Names of the computations given by these attributes."""
        found = []
        for attribute in attributes:
            if match := re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes):
                found += re.findall(r"[\w.\-]+", match.group(1).replace("%", ""))
        return found

    @property
    def target(self) -> str:
        """What a custom call calls."""
        match = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return match.group(1) if match else ""

    @property
    def op_name(self) -> str:
        """Where in the traced Python program it comes from."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match.group(1) if match else ""


@dataclass
class Computation:
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        return {instruction.name: instruction for instruction in self.instructions}

    @property
    def root(self) -> Instruction:
        return next((i for i in self.instructions if i.root), self.instructions[-1])


@dataclass
class Module:
    computations: dict[str, Computation]
    entry: str
    _lines: dict[str, dict[int, str]]

    def trips(self, loop: Instruction) -> int | None:
        """How often a while runs, where its condition compares a counter with a constant; None where it depends."""
        constants = []
        for name in loop.called("condition"):
            for condition in self._with_fusions(name):
                for compare in condition.instructions:
                    if compare.op == "compare" and "direction=LT" in compare.attributes:
                        of = [condition.by_name.get(operand) for operand in compare.operands]
                        limits = [int(i.literal) for i in of if i and i.op == "constant"]
                        constants += [math.ceil(limit / self._step(loop, of[0])) for limit in limits]
        return max(constants) if constants else None

    def _step(self, loop: Instruction, counter: Instruction | None) -> int:
        """What a round adds to the counter: more than 1 where the compiler unrolled the loop."""
        match = re.search(r"\bindex=(\d+)", counter.attributes) if counter else None
        if match is None:
            return 1
        body = self.computations[loop.called("body")[0]]
        after = body.by_name.get(body.root.operands[int(match.group(1))])
        added = [body.by_name.get(name) for name in after.operands] if after and after.op == "add" else []
        return next((int(i.literal) for i in added if i and i.op == "constant"), 1)

    def _with_fusions(self, name: str) -> list[Computation]:
        computation = self.computations[name]
        inner = [c for i in computation.instructions for c in i.called("calls") if c in self.computations]
        return [computation, *(self.computations[name] for name in inner)]

    def source(self, instruction: Instruction, prefer: str = "azr_jax") -> str:
        """File and line that made it: the innermost in this project, else the innermost."""
        if match := re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.attributes):
            return f"{_short(match.group(1))}:{match.group(2)}"
        match = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
        frame, seen, first = int(match.group(1)) if match else 0, set(), ""
        while frame and frame not in seen:
            seen.add(frame)
            location, parent = _fields(self._lines["StackFrames"].get(frame, ""), "file_location_id", "parent_frame_id")
            file, line = _fields(self._lines["FileLocations"].get(location, ""), "file_name_id", "line")
            path = self._lines["FileNames"].get(file, "").strip('"')
            place = f"{_short(path)}:{line}" if path else ""
            if prefer in path:
                return place
            first, frame = first or place, parent
        return first


def _fields(text: str, *names: str) -> tuple[int, ...]:
    found = (re.search(rf"\b{name}=(\d+)", text) for name in names)
    return tuple(int(match.group(1)) if match else 0 for match in found)


def _short(path: str) -> str:
    """From the package's own name on."""
    for mark in ("azr_jax/", "site-packages/"):
        if mark in path:
            at = path.rindex(mark)
            return path[at if mark == "azr_jax/" else at + len(mark) :]
    return path.rsplit("/", 1)[-1]


def parse(text: str) -> Module:
    computations: dict[str, Computation] = {}
    lines: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
    entry, current, table, pending = "", None, None, ""

    def flush() -> None:
        nonlocal pending
        if pending and current is not None:
            current.instructions.append(_instruction(pending))
        pending = ""

    for line in text.splitlines():
        if line in lines:
            table = line
        elif table and (match := re.match(r"(\d+) (.*)", line)):
            lines[table][int(match.group(1))] = match.group(2)
        elif match := _HEADER.match(line):
            flush()
            table = None
            current = computations.setdefault(match.group(2), Computation(match.group(2)))
            entry = match.group(2) if match.group(1) else entry
        elif line.rstrip() == "}":  # an attribute may begin a line with a brace too
            flush()
            current = None
        elif current is not None:
            if _START.match(line):
                flush()
                pending = line
            else:
                pending += " " + line.strip()
    if not entry:
        raise ValueError("not the text of a compiled program: it has no ENTRY computation")
    return Module(computations, entry, lines)


_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")


def _instruction(text: str) -> Instruction:
    start = _START.match(text)
    assert start is not None, text
    rest = text[start.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    inside = rest[opened + 1 : closed]
    return Instruction(
        name=start.group(2),
        op=rest[:opened],
        arrays=arrays(shape),
        operands=tuple(_NAME.findall(inside)),
        attributes=rest[closed + 1 :],
        root=bool(start.group(1)),
        literal=inside if rest[:opened] in ("constant", "parameter") else "",
    )


def arrays(shape: str) -> tuple[Array, ...]:
    return tuple(
        Array(dtype, tuple(int(n) for n in dims.split(",") if n), "S(1)" in layout or "S(2)" in layout)
        for dtype, dims, layout in _ARRAY.findall(shape)
    )


def _closing(text: str, opened: int) -> int:
    depth = 0
    for i in range(opened, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"no closing parenthesis in {text[:80]!r}")
