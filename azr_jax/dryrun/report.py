"""The dry run's account: tables for people, and one line of JSON for machines.

The time floor is what the chips' peak rates allow: matrix products and kernels at peak speed, or memory at peak
bandwidth, whichever is more, with exchanges hidden and nothing waiting. A real iteration takes longer.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from typing import Any

from azr_jax.dryrun.measure import Measured
from azr_jax.dryrun.programs import GIB, Shape
from azr_jax.dryrun.topology import Topology
from azr_jax.models.slice_layout import Layout
from azr_jax.rollout.requests import EngineSettings

SILENT_REMAT = 1.04


@dataclass
class Account:
    """All that was found out about one recipe on one slice."""

    recipe: str
    topology: Topology
    layout: Layout
    shape: Shape
    measured: list[Measured]
    settings: EngineSettings  # of the sampler
    page_bytes: float  # on one chip
    only: str = "all"
    sampled: int = 0  # completions of an iteration, those that measure how hard a task is among them
    too_large: dict[str, float] = field(default_factory=dict)  # programs the compiler gave up on -> GiB they wanted
    tried: list[tuple[str, str]] = field(default_factory=list)

    @property
    def memory(self) -> float:
        return self.topology.chip.memory_gib

    @property
    def fits(self) -> bool:
        largest = max((m.with_neighbours_gib for m in self.measured), default=0.0)
        return not self.too_large and largest <= self.memory

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and completion."""
        return self.settings.longest

    @property
    def median(self) -> int:
        """Tokens assumed for a median one."""
        return self.settings.longest // 2

    @property
    def pages(self) -> int:
        """Of one replica's cache."""
        return self.settings.pool if self.only != "train" else 0

    def at_once(self, tokens: int) -> int:
        """Completions of so many tokens, prompt included, that all replicas hold together."""
        hold = self.pages // -(-tokens // self.settings.page_size)
        return min(self.settings.slots, hold) * self.layout.replicas

    @property
    def floor_s(self) -> dict[str, float]:
        """Seconds of one iteration, at the least, with every completion at full length."""
        chip, floors = self.topology.chip, {}
        for m in self.measured:
            if m.counts is None:
                continue
            if m.job.name.startswith("train"):
                compiled = self.shape.microbatches * self.shape.rows  # those that hold no sequence are skipped
                least = max(m.job.model_flops / chip.flops, m.counts.bytes / chip.memory_bytes_s)
                floors["update"] = least * min(1.0, self.shape.sequences / compiled)
            if m.job.name == "decode":
                floors["sampling"] = self._sampling(m)
        return floors

    def _sampling(self, decode: Measured) -> float:
        """Every completion at full length, the slots always full: reading weights and cache once per token."""
        fit = max(1, self.at_once(self.longest))
        rounds = -(-self.sampled // fit)
        cached = fit / self.layout.replicas * self.page_bytes * self.longest / self.settings.page_size
        weights = decode.arguments_gib * GIB - decode.job.cache_bytes
        return rounds * self.longest * (weights + cached) / self.topology.chip.memory_bytes_s


def table(account: Account) -> str:
    a = account
    lines = [
        f"{a.recipe} on {a.topology.name}: {a.topology.chips} chips ({a.topology.accelerator_type}), "
        f"{a.memory:g} GiB each; {a.layout}",
        "",
        f"{'program':32} {'in':>6} {'between':>8} {'all':>6} {'beside':>7} {'TFLOP':>9} {'ratio':>6} {'GB moved':>9} "
        f"{'compiled':>9}",
    ]
    for m in a.measured:
        c = m.counts
        work = (
            f"{c.flops / 1e12:9.2f} {m.flops_ratio:6.3f} {c.bytes / 1e9:9.1f}" if c else f"{'-':>9} {'-':>6} {'-':>9}"
        )
        lines.append(
            f"{m.job.name:32} {m.arguments_gib:6.2f} {m.temporaries_gib:8.2f} {m.total_gib:6.2f} "
            f"{m.job.beside / GIB:7.2f} {work} {m.seconds:7.0f} s"
        )
    lines += [f"{name:32} does not compile: wants {gib:.2f} GiB" for name, gib in a.too_large.items()]
    lines.append("(GiB per chip; ratio: products compiled / products asked for; beside: what else lies on the chip)")
    for m in a.measured:
        lines += _details(m)
    return "\n".join([*lines, "", *_sum(a)])


def _details(m: Measured) -> list[str]:
    if m.left_out:
        return ["", f"{m.job.name}: {m.left_out}"]
    lines = []
    if m.counts and (exchanged := m.counts.exchanged()):
        parts = [f"{kind} {total / 1e9:.2f} GB ({hidden / total:.0%} asynchronous)"
                 for kind, (total, hidden) in sorted(exchanged.items())]  # fmt: skip
        lines.append(f"  exchanged: {', '.join(parts)}")
    if m.counts and m.counts.kernels:
        lines.append("  kernels: " + ", ".join(f"{name} x {n}" for name, n in m.counts.kernels.items()))
    if m.bytes_ratio:
        lines.append(f"  bytes moved / weights and cache read once: {m.bytes_ratio:.2f}")
    if m.flops_ratio > SILENT_REMAT:
        lines.append(f"  computes {m.flops_ratio:.3f} times the products asked for: XLA makes things again to fit")
    lines += [f"  {size:6.2f} GiB  {shape:40} {source}" for shape, size, source in m.buffers if size >= 0.01]
    return ["", f"{m.job.name}", *lines] if lines else []


def _sum(a: Account) -> list[str]:
    verdict = "fits" if a.fits else "DOES NOT FIT"
    lines = [
        f"{verdict}: the largest program with its neighbours takes {largest_gib(a):.2f} of {a.memory:g} GiB a chip"
    ]
    if a.pages:
        lines.append(
            f"cache: {a.pages} pages of {a.settings.page_size} tokens a replica; at once {a.at_once(a.median)} "
            f"completions of {a.median} tokens (half the longest), {a.at_once(a.longest)} of the longest, {a.longest}"
        )
    lines.append(
        f"an iteration samples {a.sampled} completions and trains on {a.shape.sequences} sequences, at most "
        f"{a.shape.sequences * a.longest:,} tokens"
    )
    if a.floor_s:
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in a.floor_s.items())
        lines.append(f"floor of an iteration at peak rates, all at full length: {parts}")
    lines += [f"tried {knob}: {result}" for knob, result in a.tried]
    return lines


def largest_gib(a: Account) -> float:
    return max([m.with_neighbours_gib for m in a.measured] + list(a.too_large.values()), default=0.0)


def as_json(a: Account) -> dict[str, Any]:
    programs = {
        m.job.name: {
            "peak_gb": round(m.total_gib, 3),
            "beside_gb": round(m.job.beside / GIB, 3),
            "temporaries_gb": round(m.temporaries_gib, 3),
            "flops": m.counts.flops if m.counts else None,
            "flops_ratio": round(m.flops_ratio, 4),
            "model_ratio": round(m.counts.flops / m.job.model_flops, 4) if m.counts and m.job.model_flops else None,
            "bytes": m.counts.bytes if m.counts else None,
            "bytes_ratio": round(m.bytes_ratio, 3),
            "exchanged": {k: round(v[0]) for k, v in m.counts.exchanged().items()} if m.counts else None,
            "seconds": round(m.seconds, 1),
            "left_out": m.left_out or None,
        }
        for m in a.measured
    }
    return {
        "compiler": {name: importlib.metadata.version(name) for name in ("jax", "libtpu")},
        "fits": a.fits,
        "chip_gb": a.memory,
        "recipe": a.recipe,
        "topology": a.topology.name,
        "layout": str(a.layout),
        "row_tokens": a.shape.row_tokens,
        "largest_gb": round(largest_gib(a), 3),
        "programs": programs,
        "too_large": a.too_large,
        "kv_pages": a.pages,
        "at_once_longest": a.at_once(a.longest) if a.pages else 0,
        "at_once_median": a.at_once(a.median) if a.pages else 0,
        "floor_s": {name: round(seconds, 1) for name, seconds in a.floor_s.items()},
        "tried": [list(pair) for pair in a.tried],
    }
