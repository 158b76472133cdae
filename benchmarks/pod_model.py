"""A model of one iteration on slices that cannot be tried here: seconds against chips and completion length.

    python benchmarks/pod_model.py [--config=configs/qwen7b.py] [--chip=v5e] [--dry_run=FILE] [--slots=N]

Arithmetic, not measurement: bytes and operations by the model's shape, peak rates of the chips, and the shares of them
in `Assumptions`. With --dry_run, a file of lines that `python -m azr_jax.dryrun --json` printed, the operations and
exchanged bytes of the train step are the compiler's, not the formula's. Prints a table per length and, last line, JSON.

Left out: the executor (it runs beside sampling), loading, checkpoints, and slices joined by a data-center network.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.config import load
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import CHIPS, SLICES, Chip, find
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.layouts import ImpossibleLayout, Layout, choose

GIB = 2**30


@dataclass(frozen=True)
class Assumptions:
    """Shares of peak rates that programs reach, and what an exchange costs however small it is."""

    product_share: float = 0.45  # of peak operations, in the update
    memory_share: float = 0.7  # of peak bandwidth, while decoding
    link_share: float = 0.7  # of the links' rate, in gathers and sums of weights
    exchange_s: float = 10e-6  # until all chips of a replica have met, twice a layer while decoding
    prompt_tokens: int = 2000
    state_bytes: float = 10.0  # of the learner per parameter: float32 weights and second moment, bfloat16 first
    working_share: float = 0.1  # of memory, for what decoding needs beside weights and cache


@dataclass(frozen=True)
class Run:
    """What an iteration asks for."""

    spec: ModelSpec
    trained: int  # sequences
    waves: tuple[int, ...]  # completions asked for at one time: proposals, attempts that measure them, solutions
    slots: int

    @property
    def weights(self) -> int:
        return self.spec.layer_matrices + self.spec.vocab * self.spec.width

    @property
    def token_bytes(self) -> int:
        """Of the cache, all heads, bfloat16."""
        return 4 * self.spec.depth * self.spec.kv_heads * self.spec.head_dim


@dataclass(frozen=True)
class Row:
    chips: int
    layout: str
    microbatches: int
    at_once: int
    update_s: float
    sampling_s: float
    bound: str

    @property
    def total_s(self) -> float:
        return self.update_s + self.sampling_s


def iteration(run: Run, chip: Chip, chips: int, length: int, a: Assumptions, per_row: dict[str, float]) -> Row | None:
    """One iteration with completions of `length` tokens; None where the model does not lie on so few chips."""
    try:
        layout = choose(run.spec, chips, chip.memory_gib * GIB, state_bytes=a.state_bytes)
    except ImpossibleLayout:
        return None
    at_once = slots_that_fit(run, chip, layout, length, a)
    if not at_once:
        return None
    tokens = a.prompt_tokens + length
    microbatches = math.ceil(run.trained / chips)
    computing, moving = update_times(run, chip, tokens, a, per_row)
    update = microbatches * max(computing, moving)
    sampling, idle = sampling_time(run, chip, layout, at_once, length, a)
    if run.trained < chips:
        bound = "fewer sequences than chips"
    elif idle:
        bound = "the length of one completion: most waves do not fill the slots"
    else:
        bound = "links, while updating" if moving > computing else "memory and products"
    return Row(chips, str(layout), microbatches, at_once * layout.replicas, update, sampling, bound)


def slots_that_fit(run: Run, chip: Chip, layout: Layout, length: int, a: Assumptions) -> int:
    """Completions that a replica's cache holds beside the learner's state and the sampler's weights."""
    chips = layout.fsdp * layout.tensor
    free = chip.memory_gib * GIB * (1 - a.working_share) - run.spec.parameters() * a.state_bytes / chips
    free -= 2 * run.weights / layout.rollout_tensor
    one = run.token_bytes * (a.prompt_tokens + length) / layout.rollout_tensor
    return max(0, min(int(free / one), math.ceil(run.slots / layout.replicas)))


def update_times(run: Run, chip: Chip, tokens: int, a: Assumptions, per_row: dict[str, float]) -> tuple[float, float]:
    """Seconds of a microbatch with one row per chip: for products, and for exchanging weights and gradients."""
    s = run.spec
    attention = 4 * 3 * tokens * s.heads * s.head_dim * s.depth  # scores and sums, causal, again in the backward pass
    flops = per_row.get("flops_per_token", 8 * s.layer_matrices + 6 * s.vocab * s.width) * tokens + attention * tokens
    # Gathered in bfloat16 forward and backward; gradients summed whole, which moves them twice.
    exchanged = per_row.get("exchanged", 2 * 2 * run.weights + 2 * 2 * run.weights)
    return flops / (chip.flops * a.product_share), exchanged / (chip.links_bytes_s * a.link_share)


def sampling_time(
    run: Run, chip: Chip, layout: Layout, at_once: int, length: int, a: Assumptions
) -> tuple[float, bool]:
    """Seconds of all waves, one after another, each completion at full length; and whether most leave slots empty."""
    total, empty = 0.0, 0
    for wave in run.waves:
        share = math.ceil(wave / layout.replicas)  # of a replica
        filled = min(at_once, share)
        empty += filled < at_once
        context = a.prompt_tokens + length / 2
        read = (2 * run.weights + filled * run.token_bytes * context) / layout.rollout_tensor
        step = read / (chip.memory_bytes_s * a.memory_share)
        if layout.rollout_tensor > 1:
            step += 2 * run.spec.depth * a.exchange_s
        total += math.ceil(share / filled) * length * step
    return total, empty > len(run.waves) / 2


def where_it_stops(rows: list[Row]) -> str:
    """The first step to more chips that saves less than a tenth of the time."""
    for smaller, larger in pairwise(rows):
        saved = 1 - larger.total_s / smaller.total_s
        if saved < 0.1:
            return f"from {smaller.chips} to {larger.chips} chips saves {saved:.0%}: {larger.bound}"
    return "not within 256 chips"


def per_row_of(file: Path) -> dict[str, float]:
    """Operations per token and exchanged bytes per microbatch, of the last dry run in the file with a train step."""
    found: dict[str, float] = {}
    for line in file.read_text().splitlines():
        if not line.startswith("{"):
            continue
        account = json.loads(line)
        for name, program in account["programs"].items():
            if name.startswith("train step, ") and program["flops"]:
                microbatches, rows = (int(word) for word in name.removeprefix("train step, ").split()[:3:2])
                per_chip = microbatches * rows / find(account["topology"]).chips
                found["flops_per_token"] = program["flops"] / per_chip / account["row_tokens"]
                found["exchanged"] = sum(program["exchanged"].values()) / microbatches
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/qwen7b.py")
    parser.add_argument("--chip", default="v5e", choices=CHIPS)
    parser.add_argument("--dry_run", type=Path)
    parser.add_argument("--slots", type=int, default=0, help="completions decoded side by side; 0: as many as fit")
    options = parser.parse_args()
    c, problems = load(options.config, {})
    assert not problems, problems
    tasks, a = len(c.tasks.kinds) * c.batch_size, Assumptions()
    waves = (tasks, tasks * c.tasks.estimate_attempts, tasks)
    run = Run(spec_of(c.model.name), 2 * tasks, waves, options.slots or max(waves))
    chips = sorted({find(f"{options.chip}:{grid}").chips for grid in SLICES[options.chip]})
    per_row = per_row_of(options.dry_run) if options.dry_run else {}
    print(f"{c.model.name} on {options.chip}: {run.trained} sequences trained, waves of {run.waves} completions")
    print("assumes " + ", ".join(f"{name}={value:g}" for name, value in asdict(a).items()))
    out = {}
    for length in (1024, 2048, 4096, 8096):
        rows = [row for n in chips if (row := iteration(run, CHIPS[options.chip], n, length, a, per_row))]
        print(f"\ncompletions of {length} tokens")
        print(
            f"{'chips':>6} {'at once':>8} {'microbatches':>13} {'update s':>9} {'sampling s':>11} {'all s':>8}  bound"
        )
        for r in rows:
            print(
                f"{r.chips:6} {r.at_once:8} {r.microbatches:13} {r.update_s:9.0f} {r.sampling_s:11.0f} "
                f"{r.total_s:8.0f}  {r.bound}"
            )
        print(f"scaling stops: {where_it_stops(rows)}")
        out[str(length)] = {str(r.chips): round(r.total_s, 1) for r in rows}
    print(json.dumps({"model": c.model.name, "chip": options.chip, "from_dry_run": bool(per_row), "seconds": out}))


if __name__ == "__main__":
    main()
