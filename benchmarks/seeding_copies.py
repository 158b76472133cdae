"""How many of iteration 1's proposals are seeds again, letter by letter, and how many are by chance alone.

    python benchmarks/seeding_copies.py [--seeds 0,1,2] [--references 2,0] [--others 8]

configs/nano.py seeds its buffers as a run does, as iteration 0. Then iteration 1's deduction and abduction proposals
are asked for: with the random numbers of iteration 1; with those of iterations 1,001 and on, which seeding never saw,
so that their copies are what the model writes twice by itself; and with those of iteration 0, the mistake that is
guarded against. Buffers stay as seeding left them. One table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax

from azr_jax.config import flags as configs
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.build import RunParts, build
from azr_jax.run.place import Place
from azr_jax.selfplay.event_loop import RequestId, Stage
from azr_jax.selfplay.proposing import draw
from azr_jax.selfplay.results import Proposed
from azr_jax.selfplay.seeding import SEEDING, Seeding
from azr_jax.tasks.types import Kind, Proposal, Triplet

RECIPE = str(Path(__file__).resolve().parents[1] / "configs" / "nano.py")
KINDS = (Kind.DEDUCTION, Kind.ABDUCTION)
FAR = 1001  # iterations that no run of this length has


def load_weights(run: RunParts, iteration: int) -> None:
    assert run.start_state is not None
    run.engine.load_weights(run.for_sampling(run.start_state), iteration)


def proposed(run: RunParts, iteration: int) -> list[Proposed]:
    """Iteration 1's proposals, with the same references in the same requests, by the random numbers of `iteration`."""
    load_weights(run, iteration)
    c, propose = run.config, run.self_play.proposer.propose
    return run.self_play.loop.run(
        [
            propose(kind, RequestId(Stage.PROPOSE, kind.number, index), draw(c.seed, 1, f"propose/{kind}/{index}"))
            for kind in KINDS
            for index in range(c.batch_size)
        ]
    )


def copies(run: RunParts, made: list[Proposed]) -> list[str]:
    tasks = [(kind, entry.task) for kind in KINDS for entry in run.buffers[kind]]
    seeds = {(kind, task.program, task.input) for kind, task in tasks if isinstance(task, Triplet)}
    written = [each.proposal for each in made if isinstance(each.proposal, Proposal)]
    found = [one for one in written if (one.kind, one.program, one.inputs[0]) in seeds]
    return [f"{one.kind}: {one.program!r} of {one.inputs[0]}" for one in found]


def measure(seed: str, references: str, others: int) -> dict[str, Any]:
    kinds = ",".join(KINDS)
    given = {"seed": seed, "tasks.references": references, "tasks.kinds": kinds, "eval.every": "0"}
    config, problems = configs.load(RECIPE, given)
    assert not problems, problems
    with tempfile.TemporaryDirectory() as folder:
        run = build(config, Place(Path(folder), folder), Hosts())
        try:
            with jax.set_mesh(run.mesh):
                load_weights(run, SEEDING)
                play, state = run.self_play, Path(folder) / "seeding.json"
                Seeding(config, run.engine.slots, play.loop, play.proposer, state).fill()
                found = {n: copies(run, proposed(run, n)) for n in (1, SEEDING, *range(FAR, FAR + others))}
        finally:
            run.close()
    by_chance = [text for n in range(FAR, FAR + others) for text in found[n]]
    return {
        "seed": int(seed),
        "references": int(references),
        "asked": len(KINDS) * config.batch_size,
        "seeds": config.seeding.factor * config.batch_size,
        "copies": len(found[1]),
        "which": found[1],
        "others": others,
        "by_chance": len(by_chance),
        "by_chance_which": Counter(by_chance).most_common(5),
        "with_seedings_numbers": len(found[SEEDING]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--references", default="2,0")
    parser.add_argument("--others", type=int, default=8, help="iterations whose copies are chance")
    args = parser.parse_args()
    print("seed  references  proposals  copies of a seed  by chance, each  with seeding's own numbers")
    rows = []
    for references in args.references.split(","):
        for seed in args.seeds.split(","):
            row = measure(seed, references, args.others)
            chance = row["by_chance"] / args.others
            print(
                f"{seed:>4}  {references:>10}  {row['asked']:>9}  {row['copies']:>16}  {chance:>15.2f}  "
                f"{row['with_seedings_numbers']:>26}",
                flush=True,
            )
            for text in row["which"]:
                print(f"      {text}", flush=True)
            rows.append(row)
    print(json.dumps({"benchmark": "seeding_copies", "rows": rows}))


if __name__ == "__main__":
    main()
