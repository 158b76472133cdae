"""What one iteration's buffer work costs with 1k, 16k and 160k tasks kept: it should not depend on how many.

    python benchmarks/buffers.py

One iteration at the paper's sizes, three kinds: 64 proposals each draw 6 references (induction: one program), 64 new
tasks are kept, 64 are drawn to be solved, 64 solve rates are noted, ages are measured, and the state is put on disk
for the checkpoint. `full` rows have as many tasks as the buffer may hold, so that every new one evicts an old one.
Sizes take turns and the clock is the process's own CPU time, so that a busy machine slows all of them alike; the figure
is the median. Waiting for the disk (`disk`, wall time) stands by itself: it belongs to the machine, not to the size.
Takes a minute or two, nearly all of it to fill the buffers.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from azr_jax.tasks.buffers import Buffers, BufferSettings  # noqa: E402
from azr_jax.tasks.types import InductionTask, Kind, Task, Triplet  # noqa: E402

KINDS = (Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION)
SIZES = {False: (1_000, 16_000, 160_000), True: (1_000, 16_000)}  # over all kinds; by whether full
BATCH, REFERENCES, ROUNDS = 64, 6, 30


def tasks(kind: Kind) -> Iterator[Task]:
    """Ever new tasks, short ones, so that filling does not take all day."""
    body = "    x = [y for y in x if y] or x"
    number = 0
    while True:
        number += 1
        program = f"def f(x):\n{body}\n    return x[{number}:]"
        if kind == Kind.INDUCTION:
            inputs = tuple(str(n) for n in range(10))
            yield InductionTask(program, inputs, inputs, inputs, "Cuts a list.", 5)
        else:
            yield Triplet(program, f"[1, 2, {number}]", "[]", "list:[]")


class Run:
    def __init__(self, size: int, full: bool, folder: Path):
        each = size // len(KINDS)
        capacity = each if full else each + 2 * ROUNDS * BATCH
        self.buffers = Buffers(KINDS, BufferSettings(capacity=capacity), folder)
        self.new = {kind: tasks(kind) for kind in KINDS}
        self.rng = random.Random(0)
        self.seconds: list[float] = []
        self.parts: dict[str, list[float]] = {"keep": [], "draw": [], "disk": []}
        for kind in KINDS:
            for number in range(each):
                self.buffers[kind].append(next(self.new[kind]), iteration=number // BATCH)
        self.buffers.cursor()

    def iteration(self, number: int) -> None:
        """Tasks are made before the clock starts: writing them is the model's work."""
        fresh = {kind: [next(self.new[kind]) for _ in range(BATCH)] for kind in KINDS}
        started = time.process_time()
        for kind in KINDS:
            for _ in range(BATCH):
                if kind == Kind.INDUCTION:
                    self.buffers.sample_program(self.rng)
                else:
                    self.buffers[kind].sample_references(REFERENCES, self.rng)
        drawn = time.process_time()
        entries = {k: [self.buffers[k].append(task, iteration=number) for task in fresh[k]] for k in KINDS}
        kept = time.process_time()
        for kind in KINDS:
            new = [entry for entry in entries[kind] if entry is not None]
            assert len(new) == BATCH
            self.buffers[kind].sample_solve(BATCH, new[: BATCH // 2], self.rng)
            for entry in new:
                self.buffers[kind].set_solve_rate(entry.id, 0.5)
            self.buffers[kind].mean_age(number)
        solved, flushing = time.process_time(), time.perf_counter()
        self.buffers.cursor()
        flushed = time.perf_counter() - flushing
        self.seconds.append(time.process_time() - started)
        for part, took in (("keep", kept - drawn), ("draw", drawn - started + solved - kept), ("disk", flushed)):
            self.parts[part].append(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            (size, full): Run(size, full, Path(folder) / f"{size}{full}")
            for full in (False, True)
            for size in SIZES[full]
        }
        for number in range(ROUNDS):
            for run in runs.values():
                run.iteration(number)
        rows = []
        heads = " ".join(f"{part:>7}" for part in ("keep", "draw", "disk"))
        print(f"{'tasks kept':>15} {'':>5} {'CPU ms':>13} {'against 1k':>11} {heads}")
        for (size, full), run in runs.items():
            milliseconds = 1e3 * statistics.median(run.seconds)
            ratio = milliseconds / (1e3 * statistics.median(runs[SIZES[full][0], full].seconds))
            parts = {part: 1e3 * statistics.median(took) for part, took in run.parts.items()}
            columns = " ".join(f"{took:7.2f}" for took in parts.values())
            print(f"{size:15,d} {'full' if full else '':>5} {milliseconds:13.2f} {ratio:11.3f} {columns}")
            rows.append({"tasks": size, "full": full, "ms": round(milliseconds, 3), "ratio": round(ratio, 4)})
        print(json.dumps({"benchmark": "buffers", "batch": BATCH, "rounds": ROUNDS, "rows": rows}))


if __name__ == "__main__":
    main()
