"""What a machine that is taken away would have to write in its last half minute, and what saving each iteration asks.

    python benchmarks/preemption.py [--config=configs/qwen7b.py] [--slices=v5e:4x4,v6e:2x4] [--notice_s=30]

Bytes are those of the checkpoint's arrays, by the shapes of the run's own state, before TensorStore packs them; each
host writes the shards of its chips, so its share. From the notice goes a round of sampling, after which the signal is
looked at. "An iteration" is that of benchmarks/pod_model.py, synchronous, and its update is where a signal is looked at
by nobody. The bandwidths are what would be needed; what a host of yours reaches, to its bucket, is for you to measure.

Arithmetic, not measurement. Left out: the copy from chips to the host, which comes before the writing, and a host's
part of arrays that are not sharded (norms, counters). One table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pod_costs import Assumptions, calibrated
from pod_model import Mode, Simulation, Work, on_slice

from azr_jax.config.flags import load, replaced
from azr_jax.config.schema import Config
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import Topology, find
from azr_jax.models.spec import ModelSpec
from azr_jax.run.build import checkpoint_bytes
from azr_jax.run.memory_plan import demand

MOMENTS = ("same", "bfloat16")  # checkpoint.moments


@dataclass(frozen=True)
class Asked:
    """Of one slice and one form of the checkpoint."""

    slice: str
    moments: str
    hosts: int
    checkpoint_bytes: int
    notice_s: float  # that are left once the signal has been seen
    iteration_s: float
    update_s: float

    @property
    def host_bytes(self) -> int:
        return -(-self.checkpoint_bytes // self.hosts)

    @property
    def in_notice(self) -> float:
        """Bytes a second that each host would have to write, to save all of it after the signal."""
        return self.host_bytes / self.notice_s

    @property
    def in_iteration(self) -> float:
        """The same, for a save that is behind while the next iteration is played."""
        return self.host_bytes / self.iteration_s


def asked(c: Config, spec: ModelSpec, topology: Topology, moments: str, notice_s: float) -> Asked:
    c = replaced(c, "checkpoint.moments", moments)
    assumptions, _ = calibrated(Assumptions.of(c))
    mode = Mode("synchronous")
    on = on_slice(spec, topology, mode, 0, assumptions, {}, c.rollout.slots, demand(c))
    work = Work(
        c.batch_size, len(c.tasks.kinds), c.tasks.estimate_attempts, 1000, 0.7, 0.02, c.rollout.max_new_tokens, 0.75
    )
    played = Simulation(work, on, on.layout.slots, mode).run()
    context = on.layout.slots * (work.median + c.rollout.max_prompt_tokens / 6)
    round_s = c.rollout.decode_steps * on.step(on.layout.slots, context)
    return Asked(
        slice=topology.name,
        moments=moments,
        hosts=topology.hosts,
        checkpoint_bytes=checkpoint_bytes(c, spec),
        notice_s=notice_s - round_s,
        iteration_s=played["seconds"],
        update_s=played["updating"] * played["seconds"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/qwen7b.py")
    parser.add_argument("--slices", default="v5e:4x4,v6e:2x4")
    parser.add_argument("--notice_s", type=float, default=30.0, help="between the signal and the end of the machine")
    options = parser.parse_args()
    c, problems = load(options.config, {})
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))
    spec, found = spec_of(c.model.name), []
    print(f"{c.model.name}, {spec.parameters():,} parameters")
    columns = ("slice", "hosts", "`checkpoint.moments`", "GB a checkpoint", "GB a host")
    rates = (f"GB/s a host, all in {options.notice_s:g} s", "GB/s a host, all in an iteration", "iteration, s")
    print("| " + " | ".join((*columns, *rates, "update, s")) + " |\n|" + " --- |" * 9)
    for name in options.slices.split(","):
        for moments in MOMENTS:
            a = asked(c, spec, find(name), moments, options.notice_s)
            found.append(a)
            print(
                f"| {a.slice} | {a.hosts} | {a.moments} | {a.checkpoint_bytes / 1e9:.1f} | {a.host_bytes / 1e9:.1f} | "
                f"{a.in_notice / 1e9:.2f} | {a.in_iteration / 1e9:.3f} | {a.iteration_s:.0f} | {a.update_s:.0f} |"
            )
    rows = [vars(a) | {"in_notice": a.in_notice, "in_iteration": a.in_iteration} for a in found]
    print(json.dumps({"model": c.model.name, "rows": rows}))


if __name__ == "__main__":
    main()
