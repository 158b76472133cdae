"""What one iteration's work on the host costs with 1k, 16k and 160k tasks kept: it should not depend on how many.

    python benchmarks/buffers.py

One iteration at the paper's sizes, three kinds: 64 proposals each draw 6 references (induction: one program), the
traits of 64 new tasks are measured (distances to references and to all that was ever kept, rarity of answers), they are
kept, 64 tasks are drawn to be solved, 64 solve rates are noted, ages are measured, and the state is put on disk for the
checkpoint. `full` rows have as many tasks as the buffer may hold, so that every new one evicts an old one.

Every size has a process of its own, so that what the garbage collector makes of its objects counts. They take turns,
one at a time, at the same new tasks, and the clock is the process's own CPU time, so that a busy machine slows all of
them alike; the figure is the median. Waiting for the disk (`disk`, wall time) stands by itself: it belongs to the
machine, not to the size. Takes three or four minutes, nearly all of it to fill the buffers.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from azr_jax.tasks.buffers import Buffers, BufferSettings, Entry  # noqa: E402
from azr_jax.tasks.novelty import traits  # noqa: E402
from azr_jax.tasks.types import InductionTask, Kind, Task, Triplet  # noqa: E402

KINDS = (Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION)
SIZES = {False: (1_000, 16_000, 160_000), True: (1_000, 16_000)}  # over all kinds; by whether full
BATCH, REFERENCES, ROUNDS = 64, 6, 30
PARTS = ("traits", "keep", "draw", "disk")


STEPS = (
    "x = x + {}", "x = x * {} - x", "x = abs(x - {})", "y = y + [x]", "x = len(y) if x > {} else x", "y = y[{}:]",
    "for i in range({}):\n        x = x + i", "while x > {}:\n        x = x // 2", "x, y = y[0] if y else {}, [x]",
)  # fmt: skip


def tasks(kind: Kind, purpose: str) -> Iterator[Task]:
    """Ever new tasks of two to five statements, alike and unlike, the same ones for every size."""
    rng = random.Random(f"{kind}/{purpose}")
    while True:
        steps = (rng.choice(STEPS).format(rng.randrange(1000)) for _ in range(rng.randint(2, 5)))
        program = "\n    ".join(["def f(x, y):", *steps, "return x, y"])
        given = tuple(f"{rng.randrange(10_000)}, [{n}]" for n in range(10))
        if kind == Kind.INDUCTION:
            yield InductionTask(program, given, given, given, "Does some steps.", 5)
        else:
            yield Triplet(program, given[0], str(rng.randrange(10_000)), "")


class Run:
    def __init__(self, size: int, full: bool, folder: Path):
        each = size // len(KINDS)
        capacity = each if full else each + 2 * ROUNDS * BATCH
        self.buffers = Buffers(KINDS, BufferSettings(capacity=capacity), folder)
        self.new = {kind: tasks(kind, "new") for kind in KINDS}
        self.rng = random.Random(0)
        self.seconds: list[float] = []
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        for kind in KINDS:
            for number, task in enumerate(islice(tasks(kind, "kept before"), each)):
                self.buffers[kind].append(task, iteration=number // BATCH)
        self.buffers.cursor()

    def iteration(self, number: int) -> None:
        """Tasks are made before the clock starts: writing them is the model's work."""
        fresh = {kind: [next(self.new[kind]) for _ in range(BATCH)] for kind in KINDS}
        started, shown = time.process_time(), {}
        for kind in KINDS:
            for place in range(BATCH):
                if kind == Kind.INDUCTION:
                    entries = [self.buffers.sample_program(self.rng)]
                else:
                    entries = self.buffers[kind].sample_references(REFERENCES, self.rng)
                shown[kind, place] = [entry.task.program for entry in entries]
        drawn = time.process_time()
        for kind in KINDS:
            for place, task in enumerate(fresh[kind]):
                traits(task, task.program, shown[kind, place], self.buffers[kind].history)
        measured = time.process_time()
        entries = {k: [self.buffers[k].append(task, iteration=number) for task in fresh[k]] for k in KINDS}
        kept = time.process_time()
        for kind in KINDS:
            new = [entry for entry in entries[kind] if isinstance(entry, Entry)]
            assert len(new) > 0.9 * BATCH  # a few are duplicates
            self.buffers[kind].sample_solve(BATCH, new[: BATCH // 2], self.rng)
            for entry in new:
                self.buffers[kind].set_solve_rate(entry.id, 0.5)
            self.buffers[kind].mean_age(number)
        solved, flushing = time.process_time(), time.perf_counter()
        self.buffers.cursor()
        flushed = time.perf_counter() - flushing
        self.seconds.append(time.process_time() - started)
        self.parts["traits"].append(measured - drawn)
        self.parts["keep"].append(kept - measured)
        self.parts["draw"].append(drawn - started + solved - kept)
        self.parts["disk"].append(flushed)


def serve(size: int, full: bool, folder: Path, connection: Connection) -> None:
    """One size in a process of its own: says when it is filled, plays an iteration whenever asked, tells the times."""
    run = Run(size, full, folder)
    connection.send("filled")
    while (number := connection.recv()) is not None:
        run.iteration(number)
        connection.send("done")
    connection.send((run.seconds, run.parts))


def times(cases: list[tuple[int, bool]], folder: Path) -> dict[tuple[int, bool], tuple[list, dict]]:
    connections = {}
    for size, full in cases:
        connections[size, full], theirs = Pipe()
        Process(target=serve, args=(size, full, folder / f"{size}{full}", theirs), daemon=True).start()
        connections[size, full].recv()
    for number in range(ROUNDS):
        for connection in connections.values():
            connection.send(number)
            connection.recv()
    for connection in connections.values():
        connection.send(None)
    return {case: connection.recv() for case, connection in connections.items()}


def main() -> None:
    cases = [(size, full) for full in (False, True) for size in SIZES[full]]
    with tempfile.TemporaryDirectory() as folder:
        found = times(cases, Path(folder))
    rows = []
    heads = " ".join(f"{part:>7}" for part in PARTS)
    print(f"{'tasks kept':>15} {'':>5} {'CPU ms':>13} {'against 1k':>11} {heads}")
    for (size, full), (seconds, parts) in found.items():
        milliseconds = 1e3 * statistics.median(seconds)
        ratio = milliseconds / (1e3 * statistics.median(found[SIZES[full][0], full][0]))
        columns = " ".join(f"{1e3 * statistics.median(took):7.2f}" for took in parts.values())
        print(f"{size:15,d} {'full' if full else '':>5} {milliseconds:13.2f} {ratio:11.3f} {columns}")
        rows.append({"tasks": size, "full": full, "ms": round(milliseconds, 3), "ratio": round(ratio, 4)})
    print(json.dumps({"benchmark": "buffers", "batch": BATCH, "rounds": ROUNDS, "rows": rows}))


if __name__ == "__main__":
    main()
