"""Synchronous against overlapped iterations: the same work, in turns; steps of the sampler's slots, and seconds.

    python benchmarks/overlap.py [--model=random:tiny] [--devices=1] [--slots=16,32] [--staleness=1,2]
        [--solve_after=1] [--iterations=10] [--batch=8] [--rounds=2] [--config.<field>=<value> ...]

The program itself (engine, event loop, executor, update) with a model whose texts are read as a script says: three of
four proposals are tasks. A completion is as long as its request's number says, lognormal as pod_model.py has it: the
limit is eight times the median, and one in fifty reaches it. The learning rate is 0 and proposals are shown no tasks,
so both modes ask for the same completions and get the same texts.

Slots are a replica's, and with several (virtual) devices each is one. Slot-steps are slots times decode steps, whoever
stands in them: on an accelerator they are what sampling costs, and on a CPU where reading the weights is what a step
costs (a real model, few slots), not with the random one. Seconds are this machine's, with everything else that runs on
it. The first and the last iteration are left out: one compiles, the other has none after it to begin.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.config import flags as configs
from azr_jax.main import read_overrides
from azr_jax.rollout.requests import Request, Rollout
from azr_jax.run.train import train
from azr_jax.selfplay.event_loop import RequestId, Stage
from azr_jax.selfplay.prompting import Prompter, Question
from azr_jax.tasks.prompts import Prompt

ROOT = Path(__file__).resolve().parents[1]
MEDIAN, LIMIT = 40, 320
SPREAD = math.log(LIMIT / MEDIAN) / 2.054  # of the logarithms: 2 % of completions reach the limit
COSTS = ("slot-steps", "s")


def text(self: Prompter, prompt: Prompt, rollout: Rollout) -> str:
    """What is read in place of what the model wrote, by what it was asked for."""
    request = rollout.request.id
    assert isinstance(request, RequestId)
    if request.stage == Stage.PROPOSE:
        number = request.index + 1000 * (request >> 32)
        task = f"a, b):\n    return a + b * {number} + {request.group}\n```\n```input\n{number}, 2\n```"
        return prompt.prefix + ("nothing" if request.index % 4 == 3 else task)
    return prompt.prefix + f"{rollout.sample}, {request.index}\n```"


@contextlib.contextmanager
def read_as_the_script_says() -> Iterator[None]:
    request = Prompter.request

    def of_its_length(
        self: Prompter, request_id: RequestId, question: Question, n: int, *, limited: bool = False
    ) -> Request:
        length = math.ceil(min(LIMIT, np.random.default_rng(int(request_id)).lognormal(math.log(MEDIAN), SPREAD)))
        asked = request(self, request_id, question, n, limited=limited)
        return replace(asked, max_new_tokens=length, stop_ids=(), stop_strings=())

    with (
        mock.patch.object(Prompter, "text", text),
        mock.patch.object(Prompter, "request", of_its_length),
        mock.patch.object(Rollout, "ended", True),  # where the script has no more, and not cut
        mock.patch.object(Rollout, "truncated", False),
    ):
        yield


def play(
    workdir: Path, overrides: dict[str, str], slots: int, batch: int, iterations: int, staleness: int, share: float
) -> dict[str, float]:
    """Of an iteration in the middle of the run: staleness 0 is synchronous."""
    given = {
        "iterations": iterations, "batch_size": batch, "tasks.kinds": "deduction,abduction", "tasks.references": 0,
        "tasks.estimate_attempts": 4, "tasks.copies": "exact", "seeding.factor": 1, "learner.lr": 0,
        "rollout.slots": slots, "rollout.max_new_tokens": LIMIT, "rollout.max_prompt_tokens": 1024,
        "rollout.stop_at_answer": False, "checkpoint.every": iterations,
    }  # fmt: skip
    if staleness:
        given |= {"pipeline.mode": "overlapped", "pipeline.staleness": staleness, "pipeline.solve_after": share}
        given["pipeline.kv_cache"] = "keep"  # there is room
    fields = {name: str(value) for name, value in given.items()} | overrides
    config, problems = configs.load(str(ROOT / "configs/tiny.py"), fields)
    assert not problems, problems
    said = workdir.with_suffix(".txt").open("w")
    with read_as_the_script_says(), said, contextlib.redirect_stdout(said):
        train(config, str(workdir), recipe="tiny", again="the same")
    rows = [json.loads(line) for line in (workdir / "timings.jsonl").read_text().splitlines()]
    rows = [row for row in rows if 1 < row["iteration"] < iterations]
    tokens = sum(row["engine/tokens"] for row in rows)
    # An iteration that was played whole before its turn samples nothing in it.
    steps = sum(row["engine/tokens"] / row["engine/occupancy"] for row in rows if row["engine/tokens"])
    played = statistics.mean(row["time/play"] + row["time/update"] for row in rows)
    return {
        "slot-steps": steps / len(rows),
        "occupancy": tokens / steps,
        "tokens": tokens / len(rows),
        "s": played,
        "play s": statistics.mean(row["time/play"] for row in rows),
        "update s": statistics.mean(row["time/update"] for row in rows),
        "waiting s": statistics.mean(row["time/waiting_for_executor"] for row in rows),
    }


def per_token(rounds: list[dict[str, float]], cost: str) -> float:
    return sum(once[cost] for once in rounds) / sum(once["tokens"] for once in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="random:tiny")
    parser.add_argument("--devices", type=int, default=1, help="virtual ones of this machine, a replica on each")
    parser.add_argument("--slots", default="16,32")
    parser.add_argument("--staleness", default="1,2")
    parser.add_argument("--solve_after", default="1", help="shares of a kind's proposals (pipeline.solve_after)")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8, help="of each role and kind")
    parser.add_argument("--rounds", type=int, default=2, help="how often all of it is played, in turns")
    args, more = parser.parse_known_args()
    overrides = {"model.name": args.model} | read_overrides(more)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    shares = [float(share) for share in args.solve_after.split(",")]
    modes = [(0, 1.0), *itertools.product(map(int, args.staleness.split(",")), shares)]
    found: dict[tuple[int, int, float], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for slots in map(int, args.slots.split(",")):
                for mode in modes:
                    workdir = Path(folder) / f"{number}-{slots}-{mode}"
                    once = play(workdir, overrides, slots, args.batch, args.iterations, *mode)
                    found.setdefault((slots, *mode), []).append(once)
                    told = f"occupancy {once['occupancy']:.3f}, {once['slot-steps']:.0f} slot-steps, {once['s']:.1f} s"
                    print(f"{slots} slots, staleness and share {mode}: {told}", file=sys.stderr, flush=True)
    names = list(next(iter(found.values()))[0])
    print("| slots | staleness | solve after | " + " | ".join(names) + " | tokens for as many slot-steps, s |")
    print("|" + "---|" * (len(names) + 4))
    out = []
    for (slots, staleness, share), rounds in found.items():
        mean = {name: statistics.mean(once[name] for once in rounds) for name in names}
        mean |= {f"gain in {cost}": per_token(found[slots, 0, 1.0], cost) / per_token(rounds, cost) for cost in COSTS}
        cells = " | ".join(f"{mean[name]:.2f}" if mean[name] < 100 else f"{mean[name]:.0f}" for name in names)
        gains = ", ".join(f"{mean[f'gain in {cost}']:.2f}x" for cost in COSTS)
        print(f"| {slots} | {staleness or 'synchronous'} | {share:g} | {cells} | {gains} |")
        of = {"slots": slots, "staleness": staleness, "solve_after": share}
        out.append(of | {name: round(value, 3) for name, value in mean.items()})
    print(
        json.dumps({name: getattr(args, name) for name in ("model", "devices", "batch", "iterations")} | {"rows": out})
    )


if __name__ == "__main__":
    main()
