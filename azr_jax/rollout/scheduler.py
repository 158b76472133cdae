"""Which completion stands in which slot, with which pages: decided on the host, the same in every process.

Completions enter in the order they were asked for, when a slot is free and there are pages for their prompt. Pages for
what they write are added as they grow. When there are none left, the youngest gives up its slot and its pages and waits
at its old place in the queue; it starts over later, and since its randomness is its own, it says the same again.
"""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, field

import numpy as np

from azr_jax.rollout.cache import Pages, Piece, pieces
from azr_jax.rollout.requests import EngineSettings, Request


@dataclass
class Sequence:
    """One completion that is waiting or under way."""

    request: Request
    sample: int
    rank: tuple[int, int]  # of its arrival; the largest is the youngest
    submitted: float
    started: float = 0.0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)  # in the order of the positions they hold

    def __lt__(self, other: Sequence) -> bool:
        return self.rank < other.rank

    @property
    def position(self) -> int:
        """Of the token that goes into the model next."""
        return len(self.request.prompt) - 1 + len(self.tokens)

    @property
    def next_token(self) -> int:
        return self.tokens[-1] if self.tokens else self.request.prompt[-1]

    @property
    def left(self) -> int:
        return self.request.max_new_tokens - len(self.tokens)


@dataclass(frozen=True)
class Placement:
    """What the device has to do before a sequence can be decoded."""

    prompt: tuple[int, ...]
    replica: int
    body: list[int]  # pages of the prompt without its last token
    fresh: list[Piece]  # to be computed; the other pieces were found
    copy: tuple[int, int] | None  # the page that decoding goes on in is a copy: from, to


class Scheduler:
    """Slots, their page tables, and the queue. Slots and pages belong to replicas; a completion stays in its own."""

    def __init__(self, settings: EngineSettings, replicas: int = 1):
        self.settings, self.replicas = settings, replicas
        self.slots_each = settings.rows
        self.pages = [Pages(settings.pool) for _ in range(replicas)]
        self.slots: list[Sequence | None] = [None] * (replicas * self.slots_each)
        self.table_SxM = np.zeros((len(self.slots), settings.pages_per_slot), np.int32)
        self.waiting: list[Sequence] = []  # a heap by rank
        self.crowded: set[int] = set()  # replicas where one was preempted and none has ended since: nobody enters
        self.preemptions = self.shared_tokens = 0
        self._arrivals = itertools.count()

    def submit(self, request: Request) -> None:
        arrival, now = next(self._arrivals), time.perf_counter()
        for sample in range(request.n):
            heapq.heappush(self.waiting, Sequence(request, sample, (arrival, sample), now))

    def replica_of(self, slot: int) -> int:
        return slot // self.slots_each

    def running(self, replica: int | None = None) -> list[tuple[int, Sequence]]:
        """Slots in use, of one replica or of all, the oldest sequence first."""
        held = [(slot, sequence) for slot, sequence in enumerate(self.slots) if sequence is not None]
        held = [pair for pair in held if replica in (None, self.replica_of(pair[0]))]
        return sorted(held, key=lambda pair: pair[1].rank)

    def longest_first(self) -> list[int]:
        """All slots, replica by replica, in each the longest sequence first and empty slots last."""

        def order(slot: int) -> tuple[int, int]:
            sequence = self.slots[slot]
            return self.replica_of(slot), -1 - sequence.position if sequence else 0

        return sorted(range(len(self.slots)), key=order)

    @property
    def pages_in_use(self) -> int:
        return sum(pages.in_use for pages in self.pages)

    def place(self) -> Placement | None:
        """The next in the queue gets a slot, if there is one and pages for its prompt and one token."""
        if not self.waiting:
            return None
        free = {self.replica_of(slot): slot for slot in reversed(range(len(self.slots))) if self.slots[slot] is None}
        for replica in [replica for replica in self.crowded if not self.running(replica)]:
            self.crowded.discard(replica)
        body = pieces(self.waiting[0].request.prompt, self.settings.chunk, self.settings.page_size)
        # Where the most of the prompt is known already; among equals, where the most room is.
        choices = [
            (-len(self._known(replica, body)), self.pages[replica].in_use, replica)
            for replica in free
            if replica not in self.crowded
        ]
        for _, _, replica in sorted(choices):
            if placement := self._place_in(free[replica], replica, body):
                return placement
        return None

    def _known(self, replica: int, body: list[Piece]) -> list[tuple[int, ...]]:
        """The pages of the pieces at the beginning that were computed before."""
        found = (self.pages[replica].find(piece.key) for piece in body)
        return [pages for pages in itertools.takewhile(lambda pages: pages is not None, found) if pages is not None]

    def _place_in(self, slot: int, replica: int, body: list[Piece]) -> Placement | None:
        sequence, size, mine = self.waiting[0], self.settings.page_size, self.pages[replica]
        known = self._known(replica, body)
        shared = [page for pages in known for page in pages]
        fresh = body[len(known) :]
        mine.hold(shared)
        counts = [-(-piece.length // size) for piece in fresh]
        new = mine.allocate(sum(counts) + 1)
        if new is None:
            mine.release(shared)
            return None
        heapq.heappop(self.waiting)
        *added, last = new
        for piece, end in zip(fresh, itertools.accumulate(counts)):
            mine.drop(piece.key)  # it may be known while a piece before it is not
            mine.remember(piece.key, added[end - -(-piece.length // size) : end])
        mine.used([piece.key for piece in body])
        self.shared_tokens += sum(piece.length for piece in body[: len(known)])
        held = shared + added
        copy = (held[-1], last) if (len(sequence.request.prompt) - 1) % size else None
        # The page copied from stays held until `copied`; it is not part of the sequence.
        sequence.pages = [*(held[:-1] if copy else held), last]
        self.slots[slot], sequence.started = sequence, time.perf_counter()
        self.table_SxM[slot] = 0
        self.table_SxM[slot, : len(sequence.pages)] = sequence.pages
        return Placement(sequence.request.prompt, replica, held, fresh, copy)

    def copied(self, placement: Placement) -> None:
        if placement.copy:
            self.pages[placement.replica].release([placement.copy[0]])

    def grow(self, steps: int) -> None:
        """Pages for what each sequence writes in the next `steps`, the oldest served first."""
        for slot, sequence in self.running():
            replica = self.replica_of(slot)
            last = sequence.position + min(steps, sequence.left) - 1
            missing = last // self.settings.page_size + 1 - len(sequence.pages)
            while self.slots[slot] is sequence and missing > 0:
                new = self.pages[replica].allocate(missing)
                if new is None:
                    self._preempt_youngest(replica)
                    continue
                have = len(sequence.pages)
                self.table_SxM[slot, have : have + missing] = new
                sequence.pages += new
                missing = 0

    def end(self, slot: int) -> Sequence:
        """Empties a slot. Whoever waits for pages may try again."""
        sequence = self._leave(slot)
        self.crowded.discard(self.replica_of(slot))
        return sequence

    def withdraw(self, request_id: int) -> list[Sequence]:
        """Takes a request's samples out of the queue."""
        gone = [sequence for sequence in self.waiting if sequence.request.id == request_id]
        self.waiting = [sequence for sequence in self.waiting if sequence.request.id != request_id]
        heapq.heapify(self.waiting)
        return sorted(gone)

    def forget(self) -> None:
        """New weights: nothing that was computed is of use any more."""
        for pages in self.pages:
            pages.forget()
        self.preemptions = self.shared_tokens = 0

    def _preempt_youngest(self, replica: int) -> None:
        slot, sequence = self.running(replica)[-1]
        self._leave(slot)
        for values in (sequence.tokens, sequence.logprobs, sequence.sampled_logprobs):
            values.clear()
        heapq.heappush(self.waiting, sequence)
        self.crowded.add(replica)
        self.preemptions += 1

    def _leave(self, slot: int) -> Sequence:
        sequence = self.slots[slot]
        assert sequence is not None
        self.slots[slot] = None
        self.pages[self.replica_of(slot)].release(sequence.pages)
        sequence.pages = []
        return sequence
