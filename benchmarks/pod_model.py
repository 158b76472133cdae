"""An iteration on slices that cannot be tried here, event by event: seconds, busy slots, what overlapping would give.

    python benchmarks/pod_model.py [--config=configs/qwen7b.py] [--slices=v5e:4x4,v6e:2x4] [--median=1000]
        [--lengths=FILE] [--slots=64] [--tensor=0] [--dry_run=FILE] [--optimistic] [--synchronous] [--apart=0.25,0.375]
        [--kv_cache=recompute] [--prefill_rows=0]

Completions end one by one, as their lengths say: lognormal, a share of them cut at the limit, or lengths of a file (one
number a line). Slots fill from the queue, prompts are read while decoding stands still, a proposal's attempts follow
it, solutions wait for the last proposal of their kind, and the update for the last of all. `overlapped`: while the tail
of an iteration drains, proposals of the next ones and attempts at them fill the slots that fall free, as long as no
token is older than `staleness` updates when it is used; solutions wait for their iteration's turn, which is there when
the one before has learned. With `solve_after` below 1 (pipeline.solve_after) they do not: they are drawn when that
share of their kind's proposals is in. What an update met unfinished is read again behind it, prompt and all
(`--kv_cache=keep`: it is not; then the cache has to fit beside the update). A proposal cut at the limit is no task.
`apart`: the learner has a share of the chips to itself, a quarter of 32 and more unless --apart says otherwise, and the
turn comes as soon as the iteration before was played.

What a step costs is bytes over bandwidth, and what published runs take beyond that: Qwen3-8B on v6e-4 (sglang-jax) at
64, 128 and 256 rows, fitted as a part per step and a part per row; the fit is printed beside what it was made of. That
remainder is taken to be the same on every chip. `--optimistic` leaves it out. With --dry_run, lines that
`python -m azr_jax.dryrun --json` printed, operations and exchanged bytes of the update are the compiler's.

Arithmetic, not measurement. Left out: the executor (beside sampling), pages that run out, checkpoints, the network
between slices. One table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pod_costs import GIB, Assumptions, Slice, calibrated, per_row_of

from azr_jax.config.flags import load
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import Topology, find
from azr_jax.models.sampling_time import Demand
from azr_jax.models.slice_layout import choose
from azr_jax.models.spec import ModelSpec
from azr_jax.run.memory_plan import demand

SLICES = "v5e:4x4,v6e:2x4,v5p:2x2x1,v5e:8x8,v5p:4x4x4"
PROPOSE, ESTIMATE, SOLVE = range(3)
ROUNDS = 4  # of as many iterations as may be under way at one time: to settle, and again to be measured


@dataclass(frozen=True)
class Work:
    """What an iteration asks for."""

    batch: int  # proposals of a kind, and solutions
    kinds: int
    attempts: int
    median: float
    sigma: float
    at_limit: float
    limit: int
    valid: float
    lengths: tuple[int, ...] = ()

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        if self.lengths:
            return rng.choice(np.array(self.lengths), count)
        drawn = self.median * np.exp(self.sigma * rng.standard_normal(count))
        return np.where(rng.random(count) < self.at_limit, self.limit, np.clip(drawn, 16, self.limit)).astype(int)


@dataclass(frozen=True)
class Mode:
    name: str
    staleness: int = 0
    learner_share: float = 0.0  # of the chips; 0: sampler and learner take turns on all
    solve_after: float = 1.0  # share of a kind's proposals; below 1 solutions do not wait for their turn either


@dataclass
class Wanted:
    """Completions of one iteration that are still to come."""

    rng: np.random.Generator
    proposals: list[int]  # of each kind
    left: int
    held: list[Item]  # solutions that wait for their turn


@dataclass(frozen=True)
class Item:
    iteration: int
    stage: int
    kind: int
    prompt: int  # tokens to be read; 0 where a copy of another's prompt serves
    context: int
    length: int


class Simulation:
    """Sampler and learner of one run. Time passes in calls of the decode program, all replicas in step."""

    def __init__(self, work: Work, on: Slice, slots: int, mode: Mode, keep: bool = False, seed: int = 0):
        self.work, self.on, self.slots, self.mode, self.keep, self.seed = work, on, slots, mode, keep, seed
        self.queues: dict[int, deque[Item]] = {}
        self.wanted: dict[int, Wanted] = {}
        R = on.layout.replicas
        self.rows: list[list[list[Any]]] = [[] for _ in range(R)]  # of each replica: [item, tokens left, context]
        self.capacity = on.capacity()
        self.now = self.busy = self.reading = self.updating = self.gaps = 0.0
        self.version = self.begun = 0  # updates done, and iterations begun
        self.learner_free: float | None = None  # apart: when the update under way ends
        self.ready: deque[int] = deque()  # iterations whose batch is complete
        self.updated_at: list[float] = []

    def run(self) -> dict[str, float]:
        """Shares of the time, from one update to another: after as many iterations as it takes to be in the swing."""
        count = ROUNDS * (1 + self.mode.staleness)
        then = self._until(count)
        now = self._until(2 * count)
        seconds, busy, reading, updating, gaps = now - then
        slots = self.slots * self.on.layout.replicas
        return {
            "seconds": float(seconds / count),
            "busy": float(busy / slots / (seconds - updating)),
            "reading": float(reading / seconds),
            "updating": float(updating / seconds),
            "gaps": float(gaps / seconds),
        }

    def _until(self, version: int) -> np.ndarray:
        while self.version < version:
            self._begin()
            self._fly()
            self._learn()
        return np.array([self.updated_at[-1], self.busy, self.reading, self.updating, self.gaps])

    # --- what is asked for

    def _begin(self) -> None:
        """Iterations whose proposals may be drawn now: none of their tokens will be older than allowed when used."""
        while self.begun <= self.version + self.mode.staleness:
            number, work = self.begun, self.work
            rng = np.random.default_rng((self.seed, number))
            count = work.kinds * work.batch
            self.wanted[number] = Wanted(rng, [work.batch] * work.kinds, count, [])
            prompt = self.on.a.propose_prompt
            self.queues[number] = deque(
                Item(number, PROPOSE, n % work.kinds, prompt, prompt, length)
                for n, length in enumerate(work.draw(rng, count))
            )
            self.begun += 1

    def _came(self, item: Item) -> None:
        wanted, work, prompt = self.wanted[item.iteration], self.work, self.on.a.solve_prompt
        wanted.left -= 1
        new: list[Item] = []
        if item.stage == PROPOSE:
            if wanted.rng.random() < work.valid and item.length < work.limit:  # what was cut is no task
                lengths = work.draw(wanted.rng, work.attempts)
                new = [
                    Item(item.iteration, ESTIMATE, item.kind, 0 if n else prompt, prompt, length)
                    for n, length in enumerate(lengths)
                ]
            wanted.proposals[item.kind] -= 1
            if work.batch - wanted.proposals[item.kind] == math.ceil(self.mode.solve_after * work.batch):
                lengths = work.draw(wanted.rng, work.batch)
                solutions = [Item(item.iteration, SOLVE, item.kind, prompt, prompt, length) for length in lengths]
                if self.mode.solve_after < 1:
                    new += solutions
                else:
                    wanted.held += solutions
                    wanted.left += len(solutions)
        self.queues[item.iteration].extend(new)
        wanted.left += len(new)
        self._turn()
        if not wanted.left:
            del self.wanted[item.iteration], self.queues[item.iteration]
            self.ready.append(item.iteration)
            self._turn()

    def _turn(self) -> None:
        """Of the first iteration that is not complete: what it kept may be solved."""
        if self.wanted and (self.mode.learner_share or min(self.wanted) == self.version):
            first = min(self.wanted)
            self.queues[first].extend(self.wanted[first].held)
            self.wanted[first].held.clear()

    # --- what happens

    def _next(self) -> Item | None:
        return next((queue.popleft() for _, queue in sorted(self.queues.items()) if queue), None)

    def _fly(self) -> None:
        prompts: list[list[int]] = [[] for _ in self.rows]
        while any(self.queues.values()):
            place = min(range(len(self.rows)), key=lambda r: len(self.rows[r]))
            held = sum(row[2] for row in self.rows[place])
            if len(self.rows[place]) >= self.slots or (held > 0.95 * self.capacity and self.rows[place]):
                break
            item = self._next()
            assert item
            self.rows[place].append([item, item.length, item.context])
            if item.prompt:
                prompts[place].append(item.prompt)
        active = sum(map(len, self.rows))
        if not active:
            self._wait()
            return
        K = self.on.a.decode_steps
        step = max(self.on.step(len(rows), sum(row[2] for row in rows) + K / 2 * len(rows)) for rows in self.rows)
        reading, gap = max(map(self.on.reading, prompts)), self.on.gap(active)
        took = reading + K * step + gap
        self.now += took
        self.busy += active * K * step
        self.reading += reading
        self.gaps += gap
        for rows in self.rows:
            done = [row[0] for row in rows if row[1] <= K]
            rows[:] = [[item, left - K, context + K] for item, left, context in rows if left > K]
            for item in done:
                self._came(item)

    def _wait(self) -> None:
        if self.learner_free is not None:
            self.now = max(self.now, self.learner_free)

    def _learn(self) -> None:
        if self.learner_free is not None and self.now >= self.learner_free:
            self._learned(self.learner_free)
            self.learner_free = None
        if self.learner_free is None and self.version in self.ready:
            self.ready.remove(self.version)
            prompts = (self.on.a.propose_prompt + self.on.a.solve_prompt) / 2
            tokens = prompts + float(self.work.draw(np.random.default_rng(0), 4000).mean())
            seconds = self.on.update(2 * self.work.kinds * self.work.batch, tokens)
            if self.mode.learner_share:
                self.learner_free = self.now + seconds / self.mode.learner_share
            else:
                self.now += seconds
                self.updating += seconds
                self._read_again()
                self._learned(self.now)

    def _read_again(self) -> None:
        """What is unfinished, when its cache was dropped for the update."""
        if not self.keep:
            took = max(self.on.reading([context for _, _, context in rows]) for rows in self.rows)
            self.now += took
            self.reading += took

    def _learned(self, when: float) -> None:
        self.version += 1
        self.updated_at.append(when)
        self._turn()


def modes(chips: int, apart: Sequence[float] = ()) -> Sequence[Mode]:
    """`apart`: the learner's shares of the chips; none: the one that is looked at on slices large enough for it."""
    collocated = Mode("synchronous"), Mode("overlapped", 1), Mode("overlapped", 2)
    collocated += tuple(Mode("overlapped", staleness, solve_after=0.9) for staleness in (1, 2, 4))
    if apart:
        early = tuple(mode for mode in collocated if mode.staleness > 1 and mode.solve_after < 1)
        return early + tuple(
            Mode(f"apart, {share:.3g}", mode.staleness, share, 0.9) for share in apart for mode in early
        )
    return (*collocated, Mode("apart", 1, 0.25), Mode("apart", 2, 0.25, 0.9)) if chips >= 32 else collocated


def on_slice(
    spec: ModelSpec,
    topology: Topology,
    mode: Mode,
    tensor: int,
    a: Assumptions,
    train: dict[str, float],
    slots: int = 64,
    demand: Demand | None = None,
) -> Slice:
    layout = choose(
        spec,
        topology.chips,
        topology.chip.memory_gib * GIB,
        chip=topology.chip,
        demand=demand,
        rollout_tensor=tensor,
        slots=slots,
        state_bytes=a.state_bytes,
    )
    if mode.learner_share:
        sampling = topology.chips - int(topology.chips * mode.learner_share)
        layout = replace(layout, replicas=sampling // layout.rollout_tensor)
    return Slice(spec, topology.chip, topology.chips, layout, a, train)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/qwen7b.py")
    parser.add_argument("--slices", default=SLICES)
    parser.add_argument("--dry_run", type=Path)
    parser.add_argument("--slots", type=int, help="of a replica; 0: as the planner chooses; without: the recipe's")
    parser.add_argument("--tensor", type=int, default=0, help="chips a replica; 0: as the planner chooses")
    parser.add_argument("--median", type=float, default=1000)
    parser.add_argument("--sigma", type=float, default=0.7)
    parser.add_argument("--at_limit", type=float, default=0.02, help="share of completions cut at the limit")
    parser.add_argument("--valid", type=float, default=0.75, help="share of proposals that become tasks")
    parser.add_argument("--lengths", type=Path, help="lengths of completions, one a line, in place of the lognormal")
    parser.add_argument("--optimistic", action="store_true")
    parser.add_argument("--synchronous", action="store_true", help="that mode alone")
    parser.add_argument("--apart", default="", help="the learner's shares of the chips, beside overlapped alone")
    parser.add_argument("--kv_cache", default="recompute", choices=("recompute", "keep"), help="pipeline.kv_cache")
    parser.add_argument("--prefill_rows", type=int, help="rollout.prefill_rows; without: the recipe's")
    options = parser.parse_args()
    shares = [float(share) for share in options.apart.split(",") if share]
    c, problems = load(options.config, {})
    assert not problems, problems
    lengths = tuple(map(int, options.lengths.read_text().split())) if options.lengths else ()
    work = Work(
        c.batch_size, len(c.tasks.kinds), c.tasks.estimate_attempts, options.median, options.sigma, options.at_limit,
        c.rollout.max_new_tokens, options.valid, lengths,
    )  # fmt: skip
    a = Assumptions.of(c)
    if options.prefill_rows is not None:
        a = replace(a, prefill_rows=options.prefill_rows)
    a, said = (a, []) if options.optimistic else calibrated(a)
    spec, train = spec_of(c.model.name), per_row_of(options.dry_run) if options.dry_run else {}
    print(f"{c.model.name}: {asdict(work) | {'lengths': len(lengths) or 'lognormal'}}")
    print("assumes " + ", ".join(f"{name}={value:g}" for name, value in asdict(a).items()))
    print(
        "fitted to Qwen3-8B on v6e-4: " + "; ".join(said) if said else "optimistic: bytes, products and exchanges alone"
    )
    columns = "slice", "replicas x chips", "slots", "mode", "staleness", "solve after", "s / iteration", "days / 500"
    print("| " + " | ".join((*columns, "slots busy", "update", "reading prompts", "host gap")) + " |\n|" + "---|" * 12)
    out: list[dict[str, Any]] = []
    for name in options.slices.split(","):
        topology = find(name)
        for mode in modes(topology.chips, shares)[: 1 if options.synchronous else None]:
            asked = c.rollout.slots if options.slots is None else options.slots
            on = on_slice(spec, topology, mode, options.tensor, a, train, asked, demand(c))
            slots = on.layout.slots
            r = Simulation(work, on, slots, mode, options.kv_cache == "keep").run()
            layout = f"{on.layout.replicas} x {on.layout.rollout_tensor}"
            print(
                f"| {name} | {layout} | {slots * on.layout.replicas} | {mode.name} | {mode.staleness} | "
                f"{mode.solve_after:g} | "
                f"{r['seconds']:.0f} | {500 * r['seconds'] / 86400:.1f} | {r['busy']:.0%} | {r['updating']:.0%} | "
                f"{r['reading']:.0%} | {r['gaps']:.0%} |",
                flush=True,
            )
            said_of = {"slice": name, "mode": mode.name, "staleness": mode.staleness, "solve_after": mode.solve_after}
            out.append(said_of | {
                key: round(value, 3) for key, value in r.items()
            })  # fmt: skip
    print(json.dumps({"model": c.model.name, "from_dry_run": bool(train), "rows": out}))


if __name__ == "__main__":
    main()
