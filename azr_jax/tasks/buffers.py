"""The growing stores of tasks, one per kind: append, evict, sample, and a journal on disk to come back from.

What happens in an iteration costs what is new in it, however many tasks are kept. Every task ever kept, every solve
rate measured, and every change between solved and failed is one line of <folder>/<kind>.jsonl; `cursor()` goes into the
checkpoint, and `load(cursor)` brings back exactly the state of that moment. All draws come from a random.Random the
caller hands in. What was ever kept, evicted or not, lives on in each buffer's `history`, for the measures of novelty.

Left out on purpose: files of evicted tasks are not rewritten (500 iterations of the paper are about 100 MB).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from azr_jax.tasks.history import History
from azr_jax.tasks.journal import DamagedJournal, Journal, Position
from azr_jax.tasks.kind import KindFailed, asked
from azr_jax.tasks.sameness import COPIES
from azr_jax.tasks.seedfile import read_seed_file, write_seed_file
from azr_jax.tasks.types import Kind, Task

__all__ = [
    "FILTERS", "Buffer", "BufferSettings", "Buffers", "DamagedJournal", "Entry", "Unkept",
    "read_seed_file", "write_seed_file",
]  # fmt: skip

RECENT = 256  # how many of the newest tasks `recent`, `frontier` and `mistakes` draw from
UNMEASURED = 0.5  # chance of a task without a solve rate under `learnability`; one of rate 1/2 has 1
FILTERS: Mapping[str, Callable[[float], bool]] = {  # which valid tasks are kept, by their measured solve rate
    "all": lambda rate: True,
    "non_one": lambda rate: rate < 1.0,  # the public code's names for it
    "non_extremes": lambda rate: 0.0 < rate < 1.0,
}
LEAST = 0.05  # and one that all or none solved has this much, so that drawing always ends


@dataclass(slots=True)
class Entry:
    """One kept task. Only `solve_rate` ever changes, and only through Buffer.set_solve_rate."""

    id: int  # unique over all kinds
    kind: Kind
    task: Task
    iteration: int  # when it was kept
    references: tuple[int, ...]  # ids of the entries its proposer was shown
    solve_rate: float | None = None
    seed: bool = False  # kept before training; never evicted


class Unkept(StrEnum):
    """Why a task was not kept."""

    DUPLICATE = "already kept"
    FULL = "buffer full"  # and nothing in it may go
    FILTERED = "solve rate filtered"  # buffer.valid_program_filter


@dataclass(frozen=True)
class BufferSettings:
    capacity: int = 16384  # tasks per kind
    evict: str = "oldest_first"  # oldest_first | keep_oldest (a full buffer refuses what is new)
    copies: str = "exact"  # exact | constants | skeletons: what a copy may differ in (sameness.py)
    frontier: tuple[float, float] = (0.2, 0.8)  # measured solve rates that `frontier` draws, both included

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"buffer.capacity={self.capacity}: should be at least 1")
        if self.evict not in ("oldest_first", "keep_oldest"):
            raise ValueError(f"buffer.evict={self.evict!r}: should be oldest_first or keep_oldest")
        if self.copies not in COPIES:
            raise ValueError(f"tasks.copies={self.copies!r}: should be one of {', '.join(COPIES)}")


class Buffer:
    """The tasks of one kind. Made by Buffers."""

    def __init__(self, kind: Kind, settings: BufferSettings, journal: Journal | None, turns: int):
        """Of `turns` kinds: they take turns, so ids are unique and do not depend on which kind is done first."""
        self.kind, self.settings, self._journal, self._turns = kind, settings, journal, turns
        self._clear()

    def _clear(self) -> None:
        self._slots: list[Entry] = []  # all kept entries; a new one takes the slot of the one it evicts
        self._evictable: deque[int] = deque()  # slots of entries that are not seeds, oldest first
        self._newest: deque[Entry] = deque(maxlen=RECENT)
        # The newest RECENT of each, the latest last: measured inside settings.frontier; not solved when tried last.
        self._frontier: dict[int, Entry] = {}
        self._failed: dict[int, Entry] = {}
        self._by_id: dict[int, Entry] = {}
        self._marks: set[bytes] = set()
        self._slot_marks: list[bytes] = []
        self._seed_marks: set[bytes] = set()
        self._iteration_sum = 0
        self._next_id = self.kind.number
        self.history = History(self.kind)

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._slots)

    def holds(self, task: Task) -> bool:
        """Whether this task, or a copy of it (sameness.py), is kept; so counts one that its kind fails to mark."""
        try:
            return self.mark(task) in self._marks
        except KindFailed:
            return True

    def append(
        self, task: Task, *, iteration: int, references: Sequence[int] = (), seed: bool = False
    ) -> Entry | Unkept:
        """The new entry, or why there is none."""
        mark = self.mark(task)
        if self._mark_of_seed(task) in self._seed_marks if seed else mark in self._marks:
            return Unkept.DUPLICATE
        if self._is_closed():
            return Unkept.FULL
        entry = Entry(self._next_id, self.kind, task, iteration, tuple(references), None, seed)
        self._keep(entry, mark)
        if self._journal is not None:
            self._journal.append({"entry": _to_record(entry)})
        return entry

    def would_keep(self, tasks: Mapping[int, Task | None], iteration: int) -> list[Entry]:
        """What of these `append` would make entries of, in the order of the ids given, which are theirs until then."""
        new: dict[bytes, Entry] = {}
        for entry_id, task in sorted(tasks.items(), key=lambda one: one[0]):
            if task is not None and not self.holds(task):
                new.setdefault(self.mark(task), Entry(entry_id, self.kind, task, iteration, ()))
        limited = self.settings.evict == "keep_oldest" or self._is_closed()
        return list(new.values())[: self.settings.capacity - len(self._slots) if limited else None]

    def set_solve_rate(self, entry_id: int, solve_rate: float) -> None:
        """Notes how often the task was solved. An entry evicted meanwhile is left alone."""
        if not 0.0 <= solve_rate <= 1.0:
            raise ValueError(f"solve_rate={solve_rate!r} of entry {entry_id}: should be from 0 to 1")
        entry = self._by_id.get(entry_id)
        if entry is None:
            return
        self._measured(entry, solve_rate)
        if self._journal is not None:
            self._journal.append({"solve_rate": solve_rate, "id": entry_id})

    def note_attempt(self, entry_id: int, correct: bool) -> None:
        """Notes whether the task was solved when it was tried last; written down where that changes."""
        entry = self._by_id.get(entry_id)
        if entry is None or (correct and entry_id not in self._failed):
            return
        _renew(self._failed, entry, not correct)
        if self._journal is not None:
            self._journal.append({"solved": correct, "id": entry_id})

    def sample_references(self, how_many: int, rng: random.Random, how: str = "uniform") -> list[Entry]:
        """Distinct entries to show a proposer; fewer than asked for only where there are fewer."""
        if how == "uniform":
            return self._distinct(self._slots, how_many, rng)
        if how == "recent":
            return self._distinct([e for e in self._newest if e.id in self._by_id], how_many, rng)
        if how == "learnability":
            return self._learnable(how_many, rng)
        raise ValueError(f"buffer.reference_sampling={how!r}: should be uniform, recent or learnability")

    def sample_solve(
        self, how_many: int, new: Sequence[Entry], rng: random.Random, how: str = "max_new"
    ) -> list[Entry]:
        """A batch to solve: a share of this iteration's `new` entries, then uniform draws from the whole buffer.

        `frontier` puts the newest tasks whose measured solve rate is neither high nor low before these, `mistakes` half
        a batch of the last ones that were failed, unless no attempt at all had solved them. New ones are not measured
        yet. Each task once while there are enough; a buffer smaller than the batch gives some twice, an empty one
        nothing.
        """
        chosen = self._distinct(*self._first(how_many, how), rng)
        left = how_many - len(chosen)
        share = {"half_new": (how_many + 1) // 2, "uniform": 0}.get(how, left)
        chosen += self._distinct(new, share, rng) if len(new) > share else list(new)
        taken = {entry.id for entry in chosen}
        # Enough even if every entry taken already is among the draws: at most len(chosen) of how_many fall away.
        extra = self._distinct(self._slots, how_many, rng)
        chosen += [entry for entry in extra if entry.id not in taken][: how_many - len(chosen)]
        while self._slots and len(chosen) < how_many:
            chosen.append(rng.choice(self._slots))
        return chosen

    def _first(self, how_many: int, how: str) -> tuple[list[Entry], int]:
        """The tasks that come before new ones, and how many of them."""
        if how == "frontier":
            return list(self._frontier.values()), how_many
        if how == "mistakes":
            return [entry for entry in self._failed.values() if entry.solve_rate != 0.0], how_many // 2
        if how not in ("max_new", "half_new", "uniform"):
            raise ValueError(
                f"buffer.solve_sampling={how!r}: should be max_new, half_new, uniform, frontier or mistakes"
            )
        return [], 0

    def mean_age(self, iteration: int) -> float:
        """Iterations since the kept tasks were kept, on average; 0 when there are none."""
        return iteration - self._iteration_sum / len(self._slots) if self._slots else 0.0

    def replay(self, records: Iterator[dict[str, Any]]) -> None:
        """Becomes what the journal says."""
        self._clear()
        for record in records:
            if "entry" in record:
                entry = _from_record(self.kind, record["entry"])
                self._keep(entry, self.mark(entry.task))
            elif entry := self._by_id.get(record["id"]):
                if "solve_rate" in record:
                    self._measured(entry, record["solve_rate"])
                else:
                    _renew(self._failed, entry, not record["solved"])

    def mark(self, task: Task) -> bytes:
        """The same for copies of a task. Raises KindFailed."""
        return _marked(self.kind, task, self.settings.copies)

    def _mark_of_seed(self, task: Task) -> bytes:
        """Seeds are not paid: of one skeleton there may be several, or a small model would never have enough."""
        copies = self.settings.copies
        return _marked(self.kind, task, "constants" if copies == "skeletons" else copies)

    def _measured(self, entry: Entry, solve_rate: float) -> None:
        entry.solve_rate = solve_rate
        low, high = self.settings.frontier
        _renew(self._frontier, entry, low <= solve_rate <= high)

    def _is_closed(self) -> bool:
        full = len(self._slots) >= self.settings.capacity
        return full and (self.settings.evict == "keep_oldest" or not self._evictable)

    def _keep(self, entry: Entry, mark: bytes) -> None:
        self.history.add(entry.task)  # first: a kind that fails at it leaves all as it was
        if len(self._slots) < self.settings.capacity:
            slot = len(self._slots)
            self._slots.append(entry)
            self._slot_marks.append(mark)
        else:
            slot = self._evictable.popleft()
            evicted = self._slots[slot]
            self._slots[slot] = entry
            del self._by_id[evicted.id]
            _renew(self._frontier, evicted, False)
            _renew(self._failed, evicted, False)
            self._marks.discard(self._slot_marks[slot])
            self._slot_marks[slot] = mark
            self._iteration_sum -= evicted.iteration
        if entry.seed:
            self._seed_marks.add(self._mark_of_seed(entry.task))
        else:
            self._evictable.append(slot)
        self._newest.append(entry)
        self._by_id[entry.id] = entry
        self._marks.add(mark)
        self._iteration_sum += entry.iteration
        self._next_id = entry.id + self._turns

    @staticmethod
    def _distinct(entries: Sequence[Entry], how_many: int, rng: random.Random) -> list[Entry]:
        return [entries[i] for i in rng.sample(range(len(entries)), min(how_many, len(entries)))]

    def _learnable(self, how_many: int, rng: random.Random) -> list[Entry]:
        """Draws uniformly and keeps a draw the likelier the nearer its solve rate is to one half."""
        chosen: dict[int, Entry] = {}
        while len(chosen) < min(how_many, len(self._slots)):
            entry = rng.choice(self._slots)
            rate = entry.solve_rate
            chance = UNMEASURED if rate is None else max(4.0 * rate * (1.0 - rate), LEAST)
            if rng.random() < chance:
                chosen[entry.id] = entry
        return list(chosen.values())


class Buffers(Mapping[Kind, Buffer]):
    """The buffers of all played kinds. With a folder they live on disk too; without one, in memory only.

    Of several processes that keep the same tasks one writes them down, and the others load what it wrote. It writes
    when it is told to `flush`, and asks `may_write` before: that raises where the folder is another's by now.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        settings: BufferSettings | None = None,
        folder: Path | None = None,
        *,
        writes: bool = True,
        may_write: Callable[[], None] = lambda: None,
    ):
        self.settings, self.folder, self._may_write = settings or BufferSettings(), folder, may_write
        files = {kind: folder / f"{kind}.jsonl" for kind in kinds} if folder is not None else {}
        self._journals = {kind: Journal(file, writes=writes) for kind, file in files.items()}
        turns = max([len(Kind), *(kind.number + 1 for kind in kinds)])
        self._buffers = {kind: Buffer(kind, self.settings, self._journals.get(kind), turns) for kind in kinds}

    def __getitem__(self, kind: Kind) -> Buffer:
        return self._buffers[kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def sample_program(self, rng: random.Random) -> Entry:
        """An entry whose program an induction proposal is built on: one that a proposer wrote, if there is any."""
        sources = [buffer for kind, buffer in self._buffers.items() if not kind.about_a_program and len(buffer)]
        sources = sources or [buffer for buffer in self._buffers.values() if len(buffer)]
        if not sources:
            raise ValueError("no buffer holds a program yet: seed deduction or abduction first, or import tasks")
        return rng.choice(rng.choices(sources, weights=[len(buffer) for buffer in sources])[0]._slots)  # pyright: ignore[reportPrivateUsage]

    def position(self) -> dict[str, Any]:
        """Names the state as it is, on disk or not yet: what `cursor` gives, without the wait."""
        return {str(kind): asdict(journal.end) for kind, journal in self._journals.items()}

    def flush(self) -> None:
        """Everything appended is on disk when this returns."""
        self._may_write()
        for journal in self._journals.values():
            journal.flush()

    def cursor(self) -> dict[str, Any]:
        """Puts everything on disk and names that state; plain JSON, for the checkpoint."""
        self.flush()
        return self.position()

    def load(self, cursor: Mapping[str, Any] | None = None) -> None:
        """Back to the state the cursor names, cutting off what was written after it; without one, all there is."""
        for kind, journal in self._journals.items():
            until = None if cursor is None else Position(**cursor[kind]) if kind in cursor else Position()
            self._buffers[kind].replay(journal.read(until))

    def close(self) -> None:
        self.flush()
        for journal in self._journals.values():
            journal.close()


@lru_cache(maxsize=512)  # a task is looked for once or twice and then kept
def _marked(kind: Kind, task: Task, copies: str) -> bytes:
    return asked(kind, "mark", task, copies, gives=bytes)


def _renew(newest: dict[int, Entry], entry: Entry, belongs: bool) -> None:
    """Puts the entry last, or takes it out; of too many the first goes."""
    newest.pop(entry.id, None)
    if belongs:
        newest[entry.id] = entry
        if len(newest) > RECENT:
            del newest[next(iter(newest))]


def _to_record(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "iteration": entry.iteration,
        "references": entry.references,
        "seed": entry.seed,
        "task": asdict(entry.task),
    }


def _from_record(kind: Kind, record: dict[str, Any]) -> Entry:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, value in record["task"].items()
    }
    task, references = kind.task_type(**fields), tuple(record["references"])
    return Entry(record["id"], kind, task, record["iteration"], references, None, record["seed"])
