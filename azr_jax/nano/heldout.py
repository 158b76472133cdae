"""The held-out tasks: programs that pre-training never sees, frozen in a file beside this one.

`make` draws them from the world and gives the same tasks for the same seed; the file is what counts, so that curves of
different days are about the same tasks. Easy ones are more than in pre-training; as there are few of them, one may come
up to three times, each time with inputs of its own.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from azr_jax.executor.pool import Executor
from azr_jax.nano.texts import INDUCTION_INPUTS, KINDS, task_of
from azr_jax.nano.world import Little, execute, held_out, normal_form, write
from azr_jax.tasks.kind import find
from azr_jax.tasks.types import InductionTask, Kind, Task, Triplet

FILE = Path(__file__).with_name("heldout.jsonl")
SEED = 0
PER_KIND = 200
DRAWS = 1000
LEVEL_SHARE = {1: 6, 2: 3, 3: 1}
TIMES = 3  # that programs of the same normal form may stand in it


@dataclass(frozen=True)
class HeldOut:
    kind: Kind
    level: int
    task: Task


def make(executor: Executor, *, seed: int = SEED, per_kind: int = PER_KIND) -> list[HeldOut]:
    """Tasks of every kind."""
    rng = random.Random(f"{seed}/heldout")
    wanted = per_kind * len(KINDS)
    # Half as many again as wanted, for those that execution leaves out.
    drawn = _drawn(rng, wanted + wanted // 2)
    known = list(execute(executor, drawn, INDUCTION_INPUTS))[:wanted]
    if len(known) < wanted:
        raise RuntimeError(f"{len(known)} held-out programs of {wanted} wanted ran well on their inputs")
    chosen = []
    for number, one in enumerate(known):
        kind = KINDS[number % len(KINDS)]
        chosen.append(HeldOut(kind, one.level, task_of(kind, one, rng.randrange(len(one.inputs)))))
    return chosen


def _drawn(rng: random.Random, count: int) -> list[Little]:
    """Where easy programs run out, after so many draws, a harder one takes the place."""
    drawn: list[Little] = []
    times: Counter[str] = Counter()
    for level in rng.choices(list(LEVEL_SHARE), list(LEVEL_SHARE.values()), k=count):
        draws = (write(rng, min(3, level + number // DRAWS), INDUCTION_INPUTS + 2) for number in itertools.count())
        forms = ((normal_form(little.program), little) for little in draws if held_out(little.program))
        form, little = next((form, little) for form, little in forms if times[form] < TIMES)
        times[form] += 1
        drawn.append(little)
    return drawn


def save(tasks: Sequence[HeldOut], file: Path = FILE) -> None:
    rows = [{"kind": held.kind, "level": held.level, **asdict(held.task)} for held in tasks]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(file: Path = FILE) -> Iterator[HeldOut]:
    for line in file.read_text().splitlines():
        row = json.loads(line)
        kind, level = find(row.pop("kind")), row.pop("level")
        if kind == Kind.INDUCTION:
            row |= {name: tuple(row[name]) for name in ("inputs", "outputs", "values")}
            yield HeldOut(kind, level, InductionTask(**row))
        else:
            yield HeldOut(kind, level, Triplet(**row))
