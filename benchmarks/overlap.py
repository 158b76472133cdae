"""Synchronous against overlapped iterations: the same work, in turns, counted in steps of the sampler's slots.

    python benchmarks/overlap.py [--slots=16,32] [--staleness=1,2] [--solve_after=1] [--iterations=10] [--batch=8]
        [--rounds=2]

The program itself (engine, event loop, executor, update) with a random model of 100,000 weights whose texts are read as
a script says: three of four proposals are tasks. Lengths are those of a text that ends with any token at the same
chance, cut at ten times the mean: half are below 0.7 of the mean, one in twenty above three times. The learning rate is
0 and proposals are shown no tasks, so both modes ask for the same completions and get the same texts.

Slot-steps are slots times decode steps, whoever stands in them: on an accelerator they are what sampling costs. Seconds
are this machine's, with everything else that runs on it; on a CPU a step costs nearly as much per busy slot. The first
and the last iteration are left out: one compiles, the other has none after it to begin.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.config import flags as configs
from azr_jax.models.endings import STOP_IDS
from azr_jax.rollout.engine import Rollout
from azr_jax.run.train import train
from azr_jax.selfplay.event_loop import Stage
from azr_jax.selfplay.prompting import Prompter
from azr_jax.tasks.prompts import Prompt

ROOT = Path(__file__).resolve().parents[1]
MEAN, LIMIT = 48, 480


def text(self: Prompter, prompt: Prompt, rollout: Rollout) -> str:
    """What is read in place of what the model wrote, by what it was asked for."""
    request = rollout.request.id
    if request.stage == Stage.PROPOSE:
        number = request.index + 1000 * (request >> 32)
        task = f"a, b):\n    return a + b * {number} + {request.group}\n```\n```input\n{number}, 2\n```"
        return prompt.prefix + ("nothing" if request.index % 4 == 3 else task)
    return prompt.prefix + f"{rollout.sample}, {request.index}\n```"


@contextlib.contextmanager
def read_as_the_script_says() -> Iterator[None]:
    made = Prompter.__init__

    def ends_often(self: Prompter, tokenizer, folder, config) -> None:
        """So many tokens end a text that one in MEAN does."""
        made(self, tokenizer, folder, config)
        self.stop_ids = tuple(range(3, 3 + min(STOP_IDS, round(len(tokenizer) / MEAN))))

    with mock.patch.object(Prompter, "text", text), mock.patch.object(Prompter, "__init__", ends_often):
        yield


def play(workdir: Path, slots: int, batch: int, iterations: int, staleness: int, share: float) -> dict[str, float]:
    """Of an iteration in the middle of the run: staleness 0 is synchronous."""
    given = {
        "iterations": iterations, "batch_size": batch, "tasks.kinds": "deduction,abduction", "tasks.references": 0,
        "tasks.estimate_attempts": 4, "tasks.copies": "exact", "seeding.factor": 1, "learner.lr": 0,
        "rollout.slots": slots, "rollout.max_new_tokens": LIMIT, "rollout.max_prompt_tokens": 1024,
        "rollout.stop_at_answer": False, "checkpoint.every": iterations,
    }  # fmt: skip
    if staleness:
        given |= {"pipeline.mode": "overlapped", "pipeline.staleness": staleness, "pipeline.solve_after": share}
    config, problems = configs.load(str(ROOT / "configs/tiny.py"), {name: str(value) for name, value in given.items()})
    assert not problems, problems
    said = workdir.with_suffix(".txt").open("w")
    with read_as_the_script_says(), said, contextlib.redirect_stdout(said):
        train(config, str(workdir), recipe="tiny", again="the same")
    rows = [json.loads(line) for line in (workdir / "timings.jsonl").read_text().splitlines()]
    rows = [row for row in rows if 1 < row["iteration"] < iterations]
    tokens = sum(row["engine/tokens"] for row in rows)
    # An iteration that was played whole before its turn samples nothing in it.
    steps = sum(row["engine/tokens"] / row["engine/occupancy"] for row in rows if row["engine/tokens"])
    return {
        "slot-steps": steps / len(rows),
        "occupancy": tokens / steps,
        "tokens": tokens / len(rows),
        "play s": statistics.mean(row["time/play"] for row in rows),
        "update s": statistics.mean(row["time/update"] for row in rows),
        "waiting s": statistics.mean(row["time/waiting_for_executor"] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slots", default="16,32")
    parser.add_argument("--staleness", default="1,2")
    parser.add_argument("--solve_after", default="1", help="shares of a kind's proposals (pipeline.solve_after)")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="of each role and kind")
    parser.add_argument("--rounds", type=int, default=2, help="how often all of it is played, in turns")
    args = parser.parse_args()
    shares = [float(share) for share in args.solve_after.split(",")]
    modes = [(0, 1.0), *itertools.product(map(int, args.staleness.split(",")), shares)]
    found: dict[tuple[int, int, float], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for slots in map(int, args.slots.split(",")):
                for mode in modes:
                    workdir = Path(folder) / f"{number}-{slots}-{mode}"
                    once = play(workdir, slots, args.batch, args.iterations, *mode)
                    found.setdefault((slots, *mode), []).append(once)
                    told = f"occupancy {once['occupancy']:.3f}, {once['slot-steps']:.0f} slot-steps"
                    print(f"{slots} slots, staleness and share {mode}: {told}", file=sys.stderr, flush=True)
    names = list(next(iter(found.values()))[0])
    print("| slots | staleness | solve after | " + " | ".join(names) + " | slot-steps against synchronous |")
    print("|" + "---|" * (len(names) + 4))
    out = []
    for (slots, staleness, share), rounds in found.items():
        mean = {name: statistics.mean(once[name] for once in rounds) for name in names}
        mean["gain"] = statistics.mean(once["slot-steps"] for once in found[slots, 0, 1.0]) / mean["slot-steps"]
        cells = " | ".join(f"{mean[name]:.2f}" if mean[name] < 100 else f"{mean[name]:.0f}" for name in names)
        print(f"| {slots} | {staleness or 'synchronous'} | {share:g} | {cells} | {mean['gain']:.2f}x |")
        of = {"slots": slots, "staleness": staleness, "solve_after": share}
        out.append(of | {name: round(value, 3) for name, value in mean.items()})
    print(json.dumps({"batch": args.batch, "iterations": args.iterations, "rows": out}))


if __name__ == "__main__":
    main()
