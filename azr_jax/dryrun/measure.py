"""Compiles one program and says what came out: memory, operations, bytes, exchanges, kernels, largest buffers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from azr_jax.dryrun import hlo
from azr_jax.dryrun.counts import Counts, count
from azr_jax.dryrun.programs import GIB, Job

if TYPE_CHECKING:
    from jaxlib._jax import CompiledMemoryStats

_NO_BUFFER = {"parameter", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "constant", "call"}
_NO_BUFFER |= {"opt-barrier", "copy-start", "after-all"}


class DoesNotFit(RuntimeError):
    """The compiler gave up: the program wants more memory than the chip has."""

    def __init__(self, wanted_gib: float, message: str):
        super().__init__(message)
        self.wanted_gib = wanted_gib


@dataclass
class Measured:
    """Of one program, per chip. `total_gib` is all it holds: what goes in, what comes out, and what lies between."""

    job: Job
    seconds: float
    arguments_gib: float
    temporaries_gib: float
    total_gib: float
    counts: Counts | None = None
    buffers: list[tuple[str, float, str]] = field(default_factory=list)  # shape, GiB, line of source
    text: str = ""
    left_out: str = ""

    @property
    def with_neighbours_gib(self) -> float:
        return self.total_gib + self.job.beside / GIB

    @property
    def flops_ratio(self) -> float:
        """Products the compiler made of those the program asks for; above 1.04 it computes again what it dropped."""
        if self.counts is None or not self.job.wanted_flops:
            return 0.0
        return self.counts.flops / self.job.wanted_flops

    @property
    def bytes_ratio(self) -> float:
        if self.counts is None or not self.job.floor_bytes:
            return 0.0
        return self.counts.bytes / self.job.floor_bytes


# How the compiler says that it gave up for want of memory, and how much it wanted.
_GAVE_UP = (
    r"Used ([\d.]+)([GM]) of [\d.]+[GM] hbm",
    r"total memory required for [^(\n]*\(([\d.]+)([GM])\) exceeds available HBM",
)


def does_not_fit(message: str) -> DoesNotFit | None:
    """What the compiler's error means, where it means this."""
    for pattern in _GAVE_UP:
        if match := re.search(pattern, message):
            line = next(line for line in message.splitlines() if match.group(0) in line)
            return DoesNotFit(float(match.group(1)) / (1024 if match.group(2) == "M" else 1), line.strip())
    return None


def measure(job: Job, options: Mapping[str, str] | None = None) -> Measured:
    started = time.perf_counter()
    lowered = job.lower()
    try:
        compiled = lowered.compile(compiler_options=dict[str, str | bool](options) if options else None)
    except Exception as error:
        if too_much := does_not_fit(str(error)):
            raise too_much from error
        raise
    memory = compiled.memory_analysis()
    assert memory is not None
    arguments, total = memory.argument_size_in_bytes, held(memory)
    between = total - arguments - memory.output_size_in_bytes + memory.alias_size_in_bytes
    out = Measured(job, time.perf_counter() - started, arguments / GIB, between / GIB, total / GIB)
    try:
        out.text = compiled.as_text() or ""
    except Exception as error:  # older jaxlib cannot print what it compiled for newer chips
        out.left_out = f"the compiled text cannot be read by this jaxlib ({type(error).__name__}): memory only"
        return out
    module = hlo.parse(out.text)
    out.counts = count(module, job.unknown_trips, job.kernel_reads, job.spared)
    out.buffers = largest_buffers(module)
    return out


def held(memory: CompiledMemoryStats) -> int:
    """The most bytes the program holds at a time, by the compiler's own reckoning: it refuses what exceeds the chip.

    Not the sum of its parts: the libtpu that jax 0.12.0 brings counts some temporaries twice that never lie side by
    side, 20.03 GiB for a train step that it compiles for a chip of 15.75 and whose peak is 14.18.
    """
    parts = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(getattr(memory, "peak_memory_in_bytes", 0)) or parts + memory.temp_size_in_bytes


def largest_buffers(module: hlo.Module, most: int = 10) -> list[tuple[str, float, str]]:
    """What the program makes in the chip's memory, by size; of equal shape and origin one stands for all."""
    fused = {name for c in module.computations.values() for i in c.instructions for name in i.called("calls")}
    found: dict[tuple[str, str], float] = {}
    for computation in module.computations.values():
        if computation.name in fused:
            continue
        for i in computation.instructions:
            if i.op in _NO_BUFFER or i.op.endswith("-done"):
                continue
            for array in i.arrays:
                if not array.on_chip:
                    found[(str(array), module.source(i))] = array.bytes / GIB
    largest = sorted(found.items(), key=lambda item: -item[1])[:most]
    return [(shape, size, source) for (shape, source), size in largest]
