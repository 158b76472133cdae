"""Counts what a compiled program does on one chip: matrix products, bytes to and from memory, what chips exchange.

The compiler's own totals count the body of a loop once; here every instruction counts as often as it runs. A loop
whose length depends on data counts as often as the caller says (`unknown_trips`, by depth of such loops); of the
branches of a condition the dearest counts, or, where a file of source is named (`spared`), the cheapest. What a Pallas
kernel does inside is not seen: its calls are listed, and the bytes of its operands count. A kernel that picks pages out
of pools reads less than these: for the operands that it writes to in place, or else for its largest one, counts what
the caller says that one call reads (`kernel_reads`, by name).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from azr_jax.dryrun.hlo import Array, Computation, Instruction, Module

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "iota", "partition-id", "replica-id", "opt-barrier",
}  # fmt: skip
_READERS = ("dynamic-slice", "gather", "slice")
_WRITERS = ("dynamic-update-slice", "scatter")
_COPIERS = ("copy-start", "slice-start")


@dataclass(frozen=True)
class Collective:
    kind: str
    array: Array
    asynchronous: bool
    group: int  # chips that take part together
    source: str
    op_name: str

    @property
    def bytes(self) -> int:
        return self.array.bytes


@dataclass
class Counts:
    flops: float = 0.0
    bytes: float = 0.0
    cycles: float = 0.0  # the compiler's own estimates, each as often as it runs
    collectives: Counter[Collective] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    unknown_loops: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        return self.add(other, 1)

    def add(self, other: Counts, times: int) -> Counts:
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        self.cycles += times * other.cycles
        for collective, count in other.collectives.items():
            self.collectives[collective] += times * count
        for kernel, count in other.kernels.items():
            self.kernels[kernel] += times * count
        self.unknown_loops += other.unknown_loops
        return self

    def exchanged(self) -> dict[str, tuple[float, float]]:
        """Kind -> (bytes, of which asynchronous)."""
        out: dict[str, tuple[float, float]] = {}
        for c, count in self.collectives.items():
            total, hidden = out.get(c.kind, (0.0, 0.0))
            out[c.kind] = (total + count * c.bytes, hidden + count * c.bytes * c.asynchronous)
        return out


class _Told(NamedTuple):
    """What the caller knows that the text does not say."""

    trips: tuple[int, ...]  # of loops whose length depends on data, the outermost first
    reads: Mapping[str, float]  # of a kernel's pools
    spared: tuple[str, ...] = ()  # files of source whose conditionals take the branch that does least, not most


def count(
    module: Module,
    unknown_trips: Sequence[int] = (),
    kernel_reads: Mapping[str, float] = MappingProxyType({}),
    spared: Sequence[str] = (),
) -> Counts:
    told = _Told(tuple(unknown_trips), kernel_reads, tuple(spared))
    return _count(module, module.computations[module.entry], told, {})


def _count(module: Module, computation: Computation, told: _Told, done: dict) -> Counts:
    key = (computation.name, told.trips)
    if key not in done:
        total = Counts()
        for instruction in computation.instructions:
            _add(module, computation, instruction, told, done, total)
        done[key] = total
    return done[key]


def _add(module: Module, here: Computation, i: Instruction, told: _Told, done: dict, total: Counts) -> None:
    if i.op == "while":
        trips, inner = module.trips(i), told
        if trips is None:
            trips, inner = (*told.trips, 1)[0], told._replace(trips=told.trips[1:])
            total.unknown_loops += 1
        for name in i.called("body"):
            total.add(_count(module, module.computations[name], inner, done), trips)
    elif i.op == "conditional":
        names = i.called("branch_computations", "true_computation", "false_computation")
        branches = [_count(module, module.computations[name], told, done) for name in names]
        source = module.source(i)
        taken = min if any(file in source for file in told.spared) else max
        total += taken(branches, key=lambda branch: (branch.flops, branch.bytes))
    elif i.op == "call":
        for name in i.called("to_apply"):
            total += _count(module, module.computations[name], told, done)
    elif i.op in ("fusion", "async-start"):
        for name in i.called("calls"):
            _add_fused(module, module.computations[name], total)
    _add_own(module, here, i, told, total)


def _add_fused(module: Module, fused: Computation, total: Counts) -> None:
    """What a fusion computes and exchanges; its bytes are those of its operands and results."""
    started = any(i.target == "AsyncCollectiveStart" for i in fused.instructions)
    scatter = fused.name.startswith("all-reduce-scatter")  # the compiler's way of writing a reduce-scatter
    for i in fused.instructions:
        total.flops += flops(fused, i)
        if i.op == "all-reduce" and scatter:
            i = replace(i, op="reduce-scatter", arrays=fused.root.arrays)
        # A collective in flight stands in every fusion it passes through; it counts where it starts.
        if i.op in COLLECTIVES and (started or "chain_id" not in i.attributes):
            _exchange(module, i, started, total)
        for name in i.called("calls") if i.op == "fusion" else ():
            _add_fused(module, module.computations[name], total)


def _add_own(module: Module, here: Computation, i: Instruction, told: _Told, total: Counts) -> None:
    total.flops += flops(here, i)
    kind = i.op.removesuffix("-start")
    if kind in COLLECTIVES:
        _exchange(module, i, i.op.endswith("-start"), total)
    if i.op == "custom-call" and i.target == "tpu_custom_call":
        kernel = re.sub(r"[.\d]+$", "", i.name)
        total.kernels[kernel] += 1
        if kernel in told.reads:
            # What it writes in place are pools, and of them only what is new: an operand of its own.
            aliased = re.findall(r"\{(\d+)\}: \((\d+), ", i.attributes.partition("output_to_operand_aliasing=")[2])
            sizes = [_in_memory(of.arrays) if (of := here.by_name.get(name)) else 0 for name in i.operands]
            pools = sum(sizes[int(operand)] for _, operand in aliased) or max(sizes)
            written = _in_memory([i.arrays[int(result)] for result, _ in aliased])
            total.bytes += told.reads[kernel] - pools - written
    if match := re.search(r'"estimated_cycles":"(\d+)"', i.attributes):
        total.cycles += int(match.group(1))
    if i.op not in _FREE and not i.op.endswith("-done"):
        total.bytes += moved(module, here, i)


def _exchange(module: Module, i: Instruction, asynchronous: bool, total: Counts) -> None:
    kind = i.op.removesuffix("-start")
    results = i.arrays
    if i.op.endswith("-start") and len(i.arrays) > 1:  # operands, results, and for some two counters
        results = i.arrays[1:2] if kind == "collective-permute" else i.arrays[len(i.arrays) // 2 :]
    match = re.search(r"replica_groups=(mesh)?\[?([^\]{]*)", i.attributes)
    group = 0
    if match and match.group(1):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match.group(2)))
        names = re.search(r"replica_groups=mesh\[[^\]]*\][^{]*\{([^}]*)\}", i.attributes)
        group = math.prod(int(sizes.get(name, 1)) for name in re.findall(r"'(\w+)'", names.group(1) if names else ""))
    elif match and match.group(2):
        group = int(match.group(2).split(",")[-1])
    elif first := re.search(r"replica_groups=\{\{([\d,]+)\}", i.attributes):
        group = first.group(1).count(",") + 1
    for array in results:
        if array.size > 1:
            total.collectives[Collective(kind, array, asynchronous, group, module.source(i), i.op_name)] += 1


def moved(module: Module, here: Computation, i: Instruction) -> int:
    """Bytes between the chip's memory and its cores: operands and results, of slices only the slice."""
    fused = next((module.computations[name] for name in i.called("calls") if name in module.computations), None)
    total = _in_memory(i.arrays)
    if i.op in _WRITERS:
        return 2 * _result_bytes(here, i.operands[-1])
    if i.op in _COPIERS:  # (to, from) or (from, to), and what the copy is known by
        return min(array.bytes for array in i.arrays[:2]) * sum(not array.on_chip for array in i.arrays[:2])
    if i.op in _READERS:
        return 2 * total
    root = fused.root if i.op == "fusion" and fused else None
    for number, operand in enumerate(i.operands):
        if (source := here.by_name.get(operand)) is None:
            continue
        size = _in_memory(source.arrays)
        if fused is not None and size:
            parts = _parts_read(module, fused, number)
            if parts is not None:
                size = min(size, parts)
        total += size
    if fused is not None and root is not None:
        for inner, writer in _written_in_place(module, fused, root):
            whole = _in_memory(writer.arrays)
            update = _result_bytes(inner, writer.operands[1 if writer.op == "dynamic-update-slice" else -1])
            total -= max(0, whole - update)
    return max(0, total)


def _in_memory(arrays: Iterable[Array]) -> int:
    """Bytes of those that do not lie in a core."""
    return sum(array.bytes for array in arrays if not array.on_chip)


def _result_bytes(here: Computation, name: str) -> int:
    found = here.by_name.get(name)
    return sum(array.bytes for array in found.arrays) if found else 0


def _parts_read(module: Module, fused: Computation, number: int) -> int | None:
    """Bytes a fusion reads of its operand, where it only slices it or overwrites a part in place; else None."""
    parameter = next((i for i in fused.instructions if i.op == "parameter" and i.literal == str(number)), None)
    if parameter is None:
        return None
    names, total = {parameter.name}, 0
    # Of a part of it only that part is computed; written into, it is a copy of all, unless it lies where it did.
    retiled: set[str] = set()
    for i in fused.instructions:
        if not (names | retiled) & set(i.operands):
            continue
        if i.op == "bitcast":
            (retiled if i.operands[0] in retiled else names).add(i.name)
        elif _tiled_otherwise(module, i):
            (names if "output_to_operand_aliasing" in i.attributes else retiled).add(i.name)
        elif i.op in _READERS and i.operands[0] in names | retiled:
            total += sum(array.bytes for array in i.arrays)
        elif i.op == "fusion":
            inner = module.computations[i.called("calls")[0]]
            if retiled & set(i.operands) and _through_bitcasts(inner, inner.root).op in _WRITERS:
                return None
            parts = [_parts_read(module, inner, n) for n, name in enumerate(i.operands) if name in names | retiled]
            if None in parts:
                return None
            total += sum(part for part in parts if part is not None)
        elif not (i.op in _WRITERS and i.operands[0] in names):
            return None
    # Only looked at another way: whoever gets it reads all of it.
    return None if fused.root.name in names | retiled else total


def _tiled_otherwise(module: Module, i: Instruction) -> bool:
    """Inside a fusion: the same numbers under another tiling, computed for those alone that somebody takes of them."""
    return i.op == "fusion" and all(
        inner.op in ("copy", "parameter")
        for name in i.called("calls")
        for inner in module.computations[name].instructions
    )


def _written_in_place(module: Module, fused: Computation, root: Instruction) -> list[tuple[Computation, Instruction]]:
    """The writers whose result a fusion gives, each with the computation it stands in."""
    found = []
    for i in [fused.by_name[name] for name in root.operands] if root.op == "tuple" else [root]:
        here, i = fused, _through_bitcasts(fused, i)
        while i.op == "fusion":
            here = module.computations[i.called("calls")[0]]
            i = _through_bitcasts(here, here.root)
        if i.op in _WRITERS:
            found.append((here, i))
    return found


def _through_bitcasts(fused: Computation, i: Instruction) -> Instruction:
    while i.op == "bitcast" and i.operands[0] in fused.by_name:
        i = fused.by_name[i.operands[0]]
    return i


def flops(here: Computation, i: Instruction) -> float:
    """Two for every multiplication of a matrix product; other arithmetic is not counted."""
    if i.op not in ("dot", "convolution"):
        return 0.0
    left, right = (here.by_name[name].arrays[0] for name in i.operands[:2])
    if i.op == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes)
        contracted = [left.dims[int(d)] for d in match.group(1).split(",") if d] if match else []
        return 2.0 * i.arrays[0].size * math.prod(contracted)
    match = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", i.attributes)
    assert match is not None, i.attributes
    left_labels, right_labels, out_labels = match.groups()
    out = dict(zip(out_labels, i.arrays[0].dims))
    sides, kernel = dict(zip(left_labels, left.dims)), dict(zip(right_labels, right.dims))
    window = _window(i.attributes)
    total = 2.0 * out["b"] * out["f"] * kernel["i"]
    for axis in (label for label in out_labels if label.isdigit()):
        total *= _meetings(sides[axis], kernel[axis], out[axis], {k: v[int(axis)] for k, v in window.items()})
    return total


def _window(attributes: str) -> dict[str, list[str]]:
    match = re.search(r"window=\{([^}]*)\}", attributes)
    return {key: value.split("x") for key, value in re.findall(r"(\w+)=(\S+)", match.group(1))} if match else {}


def _meetings(side: int, kernel: int, out: int, window: dict[str, str]) -> int:
    """Pairs of an output and a kernel position that meet an input, not padding, along one axis."""
    stride, spread = int(window.get("stride", 1)), int(window.get("rhs_dilate", 1))
    holes, low = int(window.get("lhs_dilate", 1)), int(window.get("pad", "0_0").split("_")[0])
    reach = (side - 1) * holes + 1
    met = 0
    for o in range(out):
        for k in range(kernel):
            at = o * stride + k * spread - low
            met += 0 <= at < reach and at % holes == 0
    return met
