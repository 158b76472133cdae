"""From the command to the first iteration on a slice of several hosts, and to going on, before and now.

    python benchmarks/start_reckoning.py [--config=configs/qwen7b.py] [--slice=v5e:4x4] [--hub=0.25] [--bucket=1.0]

Before: every host downloads or copies the model to its disk, each shard reads whole rows for its columns, and a round
of seeding asks for as many proposals as one replica has slots. Now: each byte is read by one host (run/find_model.py)
and travels over the chips' network, and a round fills all replicas. Bytes follow from model and layout of the learner.
Seconds are bytes over rates: of the hub, a bucket, a disk and the way between host and chip these are assumptions
(flags, printed; a host's network is published: 100 Gbit/s for four chips of v5e); what a core does with numbers is
measured here and now; compiling is what `benchmarks/dry_runs.py` took for the recipe (tpu/compiled.jsonl, a core of its
machine, tracing included); rounds of seeding are played with the steps of benchmarks/pod_model.py.

Left out: getting the slice and installing, the measurement of the base on held-out tasks, a host's other cores, and the
executor. Nothing has been measured on a TPU. Two tables, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pod_costs import Assumptions, Slice, calibrated
from pod_model import Mode, Work, on_slice

from azr_jax.config.flags import load
from azr_jax.config.schema import Config
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import Topology, find
from azr_jax.models.hf import names, their_shape
from azr_jax.models.rows import RowBlock
from azr_jax.models.sharding import LearnerRules
from azr_jax.models.spec import ModelSpec
from azr_jax.models.tensors import LocalFile, Tensor
from azr_jax.run.build import checkpoint_bytes
from azr_jax.run.memory_plan import demand

ROOT = Path(__file__).resolve().parents[1]
STORED = 2  # bytes a number: the hub's files are bfloat16
LINKS_SHARE = Assumptions().link_share


@dataclass(frozen=True)
class Rates:
    """GB a second."""

    hub: float  # to one host
    bucket: float  # to one host
    disk: float  # written, by one host
    chip: float  # between a host and one of its chips
    cached: float  # a file that lies in the host's memory, by one core
    checked: float  # stored bytes, looked through for NaN by one core
    cast: float  # stored bytes, put into float32 shards by one core


@dataclass(frozen=True)
class Bytes:
    """GB."""

    model: float
    before: float  # read by a host of its disk, each shard for itself
    share: float  # read by a host now
    shards: float  # of the stored model, that lie on a host in the end


def bytes_of(spec: ModelSpec, topology: Topology) -> Bytes:
    """Of the learner's layout over all chips: what is split by columns has to be read in whole rows."""
    chips, hosts = topology.chips, topology.hosts
    whole = before = shards = 0
    for weight in spec.weights():
        size = STORED * math.prod(their_shape(weight)) * len(names(weight, spec.depth))
        splits = [axis for axis in weight.axes if getattr(LearnerRules(), axis) == "fsdp"]
        on_host = chips // hosts if splits else 1
        whole += size
        shards += size * on_host / (chips if splits else 1)
        before += size * on_host / (chips if splits and weight.axes[0] in splits else 1)
    return Bytes(whole / 1e9, before / 1e9, whole / hosts / 1e9, shards / 1e9)


def loading(b: Bytes, r: Rates, topology: Topology, source: str, now: bool) -> dict[str, float]:
    """Seconds until the weights are on the chips."""
    rate = getattr(r, source)
    to_chips = b.shards * 4 / STORED / (topology.chips / topology.hosts) / r.chip
    if not now:
        fetch = b.model / min(rate, r.disk)
        return {"fetched": fetch, "loaded": b.before / r.cached + b.shards / r.checked + b.shards / r.cast + to_chips}
    links = topology.chip.links_bytes_s / 1e9 * LINKS_SHARE
    if source == "hub":  # one host has it then, reads all of it, and the others give nothing
        fetch, mine = b.model / min(rate, r.disk), b.model
        reading = mine / r.cached + mine / r.checked
    else:
        fetch, mine = 0.0, b.share
        reading = mine / rate + mine / r.checked
    given = mine / r.chip + b.model / links + b.model / r.chip  # to its chips, round the slice, back to every host
    return {"fetched": fetch, "loaded": max(reading, given + b.shards / r.cast) + to_chips}


def seeding(c: Config, on: Slice, work: Work, size: int, seed: int = 0) -> tuple[int, float]:
    """Rounds of `size` proposals, and their seconds: deduction and abduction together, then induction."""
    rng, rounds, seconds, a = np.random.default_rng(seed), 0, 0.0, on.a
    for _ in range(2):
        found, target = 0, c.seeding.factor * c.batch_size
        while found < target:
            lengths = work.draw(rng, size)
            ends = (lengths < work.limit) & (rng.random(size) < work.valid)
            found, rounds = found + int(ends.sum()), rounds + 1
            rows = math.ceil(size / on.layout.replicas)
            seconds += on.reading([a.propose_prompt] * rows)
            for done in range(0, int(lengths.max()), a.decode_steps):
                left = math.ceil((lengths > done).sum() / on.layout.replicas)
                seconds += a.decode_steps * on.step(left, left * (a.propose_prompt + done))
                seconds += on.gap(left * on.layout.replicas)
    return rounds, seconds


def measured(megabytes: int = 64) -> dict[str, float]:
    """What a core of this machine does with a block of rows, by processor time: others may be at work."""
    numbers = np.random.default_rng(0).standard_normal((megabytes * 2**20 // 7168, 3584), np.float32)
    block = numbers.astype(ml_dtypes.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "block"
        path.write_bytes(block.tobytes())
        tensor = Tensor(LocalFile(path), block.dtype, block.shape, 0)
        tensor.rows(0, block.shape[0])
        began = time.process_time()
        tensor.rows(0, block.shape[0])
        cached = time.process_time() - began
        began = time.process_time()
        RowBlock("block", tensor, 0, block.shape[0]).read()
        checked = time.process_time() - began - cached
    shard = np.empty((block.shape[0], 3584 // 16), np.float32)
    began = time.process_time()
    for part in range(16):
        shard[...] = block[:, part * 224 : (part + 1) * 224]
    cast = time.process_time() - began
    return {
        "cached": block.nbytes / 1e9 / cached,
        "checked": block.nbytes / 1e9 / checked,
        "cast": block.nbytes / 1e9 / cast,
    }


def shown(row: dict[str, Any]) -> str:
    cells = (
        f"{v:.1f}" if k in ("disks", "reads") else f"{v:.0f}" if isinstance(v, float) else v for k, v in row.items()
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def compiling(recipe: str, name: str) -> tuple[float, str]:
    """Of the newest release that the table has."""
    rows = [json.loads(line) for line in (ROOT / "tpu/compiled.jsonl").read_text().splitlines()]
    found = [row for row in rows if (row["recipe"], row["slice"]) == (recipe, name)]
    if not found:
        sys.exit(f"error: --config={recipe} --slice={name}: tpu/compiled.jsonl has no row of it")
    last = max(found, key=lambda row: [int(part) for part in row["jax"].split(".")])
    return last["seconds"], f"JAX {last['jax']}, libtpu {last['libtpu']}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/qwen7b.py")
    parser.add_argument("--slice", default="v5e:4x4")
    parser.add_argument("--hub", type=float, default=0.25, help="GB a second to one host; an assumption")
    parser.add_argument("--bucket", type=float, default=1.0, help="the same; of the 12.5 that a host's network has")
    parser.add_argument("--disk", type=float, default=0.17, help="written by one host; an assumption for 100 GB")
    parser.add_argument("--chip", type=float, default=8.0, help="between a host and a chip; an assumption")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    c, problems = load(options.config, {})
    assert not problems, problems
    topology, spec = find(options.slice), spec_of(c.model.name)
    rates = Rates(options.hub, options.bucket, options.disk, options.chip, **measured())
    assumptions, _ = calibrated(Assumptions.of(c))
    on = on_slice(spec, topology, Mode("synchronous"), 0, assumptions, {}, c.rollout.slots, demand(c))
    work = Work(
        c.batch_size, len(c.tasks.kinds), c.tasks.estimate_attempts, 1000, 0.7, 0.02, c.rollout.max_new_tokens, 0.75
    )
    compile_s, by = compiling(Path(options.config).stem, options.slice)
    b, slots = bytes_of(spec, topology), on.layout.slots
    print(f"{c.model.name} on {topology.name}, {topology.hosts} hosts; compiled by {by}")
    print("GB/s: " + ", ".join(f"{name} {rate:.2f}" for name, rate in asdict(rates).items()))
    print(f"GB: {', '.join(f'{name} {size:.1f}' for name, size in asdict(b).items())}")
    columns = ("the model is", "", "GB to disks", "GB a host reads", "fetched, s", "loaded, s", "compiled, s", "rounds")
    print("| " + " | ".join((*columns, "seeded, s", "together, s")) + " |\n|" + " --- |" * 10)
    rows: list[dict[str, Any]] = []
    for source, now in (("hub", False), ("hub", True), ("bucket", False), ("bucket", True)):
        took = loading(b, rates, topology, source, now)
        rounds, seeded = seeding(c, on, work, slots * on.layout.replicas if now else slots)
        row: dict[str, Any] = {"model": "on the hub" if source == "hub" else "in a bucket"}
        row["when"] = "now" if now else "before"
        row["disks"] = b.model * (topology.hosts if not now else 1 if source == "hub" else 0)
        row["reads"] = b.before if not now else b.model if source == "hub" else b.share
        row |= {**took, "compiled": compile_s, "rounds": rounds, "seeded": seeded}
        row["together"] = sum(took.values()) + compile_s + seeded
        rows.append(row)
        print(shown(row))
    restored = checkpoint_bytes(c, spec) / topology.hosts / 1e9
    print(f"\nGoing on with new machines: a checkpoint of {restored:.1f} GB a host, nothing seeded")
    print("| the model is | | model, s | compiled, s | restored, s | together, s |\n|" + " --- |" * 6)
    for row in rows:
        again = (
            0.0 if row["when"] == "now" else compile_s
        )  # now programs lie in the bucket; before on a disk that is gone
        going_on = {"weights": row["fetched"] + row["loaded"], "again": again, "restored": restored / rates.bucket}
        print(shown({"model": row["model"], "when": row["when"], **going_on, "all": sum(going_on.values())}))
        row["going_on"] = sum(going_on.values())
    said = {"model": c.model.name, "slice": topology.name, "rates": asdict(rates), "bytes": asdict(b)}
    print(
        json.dumps(
            said | {"rows": [{k: round(v, 2) if isinstance(v, float) else v for k, v in r.items()} for r in rows]}
        )
    )


if __name__ == "__main__":
    main()
