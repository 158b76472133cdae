"""The decode step for TPU slices by XLA, by the shipped kernel and by our own, compiled side by side. Nothing runs.

    python benchmarks/decode_kernels.py [--recipe=qwen7b] [--topology=v5e:4x4] ... [--attention=tpu] ...
                                        [--out=file.jsonl] [--config.<field>=<value> ...]

Layout, slots and pages are those of the recipe there, or what is asked for, as --config.mesh.rollout_tensor=2. Needs
`pip install "jax[tpu]"`; seconds for each. Of each step: bytes moved over bytes that must be read, the compiler's
estimate of cycles of a flight (32 steps), in which kernels are left out (it does not look into them), temporaries, and
scatters into the cache; or why there is none.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from absl import app, flags

from azr_jax.config.flags import load
from azr_jax.dryrun import topology as slices
from azr_jax.main import parse_flags, read_overrides

slices.prepare()  # before anything imports JAX

RECIPE = flags.DEFINE_multi_string("recipe", ["qwen7b"], "Recipes in configs/.")
TOPOLOGY = flags.DEFINE_multi_string("topology", ["v5e:4x4", "v6e:2x4", "v5p:2x2x1"], "Slices.")
ATTENTION = flags.DEFINE_multi_string("attention", ["xla", "tpu", "tpu_fused"], "rollout.attention.")
OUT = flags.DEFINE_string("out", None, "Each result is appended here as one line of JSON.")
COLUMNS = (
    "recipe",
    "slice",
    "attention",
    "replicas",
    "tensor",
    "slots",
    "kernels",
    "bytes",
    "of floor",
    "cycles",
    "temporaries MiB",
    "scatters",
    "left out",
)


def compiled(recipe: str, name: str, attention: str, overrides: dict[str, str]) -> dict[str, object]:
    from azr_jax.dryrun.account import GIB, for_tpu, plan
    from azr_jax.dryrun.measure import measure
    from azr_jax.dryrun.programs import engine_jobs_of, sampler_settings, shape_of
    from azr_jax.dryrun.shapes import spec_of
    from azr_jax.parallel import flags as compiler
    from azr_jax.parallel.mesh import make_mesh, regrouped

    config, problems = load(f"configs/{recipe}.py", overrides | {"rollout.attention": attention})
    assert not problems, problems
    topology, spec = slices.find(name), spec_of(config.model.name)
    layout = plan(config, spec, topology)
    config = for_tpu(config, spec)
    learner = make_mesh(layout.fsdp, layout.tensor, slices.devices(topology), data=layout.data)
    rollout = regrouped(learner, layout.rollout_tensor)
    memory = topology.chip.memory_gib * GIB
    settings = sampler_settings(config, spec, learner, rollout, memory, layout.slots)
    jobs = engine_jobs_of(config, settings, shape_of(config, spec, learner), learner, rollout)
    sizes: dict[str, object] = {
        "replicas": layout.replicas,
        "tensor": layout.rollout_tensor,
        "slots": layout.slots,
        "pages": settings.pages,
    }
    found = measure(next(job for job in jobs if job.name == "decode"), compiler.of_chip(name.split(":")[0]))
    out = sizes | {"temporaries MiB": round(found.temporaries_gib * 1024, 1), "left out": found.left_out}
    if found.counts is not None:
        out |= {
            "kernels": sorted(found.counts.kernels),
            "bytes": found.counts.bytes,
            "of floor": round(found.bytes_ratio, 4),
            "cycles": found.counts.cycles,
            "scatters": scatters(found.text, 5),
        }
    return out


def scatters(text: str, rank: int) -> int:
    """Into arrays of that many dimensions, in all of the text: only the cache has five."""
    return len(re.findall(rf"= \w+\[\d+(?:,\d+){{{rank - 1}}}\]\S* scatter\(", text))


def main(argv: list[str]) -> None:
    overrides = read_overrides(argv[1:])
    from azr_jax.dryrun.measure import DoesNotFit
    from azr_jax.rollout.attention import CannotAttend

    rows = []
    for of in itertools.product(RECIPE.value, TOPOLOGY.value, ATTENTION.value):
        row: dict[str, object] = dict(zip(COLUMNS, of))
        try:
            row |= compiled(*of, overrides)
        except (CannotAttend, DoesNotFit) as error:
            row["left out"] = str(error)
        rows.append(row)
        print("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |", flush=True)
        if OUT.value:
            with Path(OUT.value).open("a") as file:
                file.write(json.dumps(row) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
