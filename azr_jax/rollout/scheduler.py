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
    body: list[int]  # pages of the prompt without its last token
    fresh: list[Piece]  # to be computed; the other pieces were found
    copy: tuple[int, int] | None  # the page that decoding goes on in is a copy: from, to


class Scheduler:
    """Slots, their page tables, and the queue."""

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self.pages = Pages(settings.page_count)
        self.slots: list[Sequence | None] = [None] * settings.slots
        self.table_SxM = np.zeros((settings.slots, settings.pages_per_slot), np.int32)
        self.waiting: list[Sequence] = []  # a heap by rank
        self.crowded = False  # a sequence was preempted and none has ended since: nobody enters
        self.preemptions = self.shared_tokens = 0
        self._arrivals = itertools.count()

    def submit(self, request: Request) -> None:
        arrival, now = next(self._arrivals), time.perf_counter()
        for sample in range(request.n):
            heapq.heappush(self.waiting, Sequence(request, sample, (arrival, sample), now))

    def running(self) -> list[tuple[int, Sequence]]:
        """Slots in use, the oldest sequence first."""
        held = [(slot, sequence) for slot, sequence in enumerate(self.slots) if sequence is not None]
        return sorted(held, key=lambda pair: pair[1].rank)

    def place(self) -> Placement | None:
        """The next in the queue gets a slot, if there is one and pages for its prompt and one token."""
        if self.crowded and any(self.slots):
            return None
        self.crowded = False
        if not self.waiting or None not in self.slots:
            return None
        sequence, size = self.waiting[0], self.settings.page_size
        body = pieces(sequence.request.prompt, self.settings.chunk, size)
        found = [self.pages.find(piece.key) for piece in body]
        known = list(itertools.takewhile(lambda pages: pages is not None, found))
        shared = [page for pages in known for page in pages or ()]
        fresh = body[len(known) :]
        self.pages.hold(shared)
        counts = [-(-piece.length // size) for piece in fresh]
        new = self.pages.allocate(sum(counts) + 1)
        if new is None:
            self.pages.release(shared)
            return None
        heapq.heappop(self.waiting)
        *added, last = new
        for piece, end in zip(fresh, itertools.accumulate(counts)):
            self.pages.drop(piece.key)  # it may be known while a piece before it is not
            self.pages.remember(piece.key, added[end - -(-piece.length // size) : end])
        self.pages.used([piece.key for piece in body])
        self.shared_tokens += sum(piece.length for piece in body[: len(known)])
        pages = shared + added
        copy = (pages[-1], last) if (len(sequence.request.prompt) - 1) % size else None
        # The page copied from stays held until `copied`; it is not part of the sequence.
        sequence.pages = [*(pages[:-1] if copy else pages), last]
        slot = self.slots.index(None)
        self.slots[slot], sequence.started = sequence, time.perf_counter()
        self.table_SxM[slot] = 0
        self.table_SxM[slot, : len(sequence.pages)] = sequence.pages
        return Placement(sequence.request.prompt, pages, fresh, copy)

    def copied(self, placement: Placement) -> None:
        if placement.copy:
            self.pages.release([placement.copy[0]])

    def grow(self, steps: int) -> None:
        """Pages for what each sequence writes in the next `steps`, the oldest served first."""
        for slot, sequence in self.running():
            last = sequence.position + min(steps, sequence.left) - 1
            missing = last // self.settings.page_size + 1 - len(sequence.pages)
            while self.slots[slot] is sequence and missing > 0:
                new = self.pages.allocate(missing)
                if new is None:
                    self._preempt_youngest()
                    continue
                have = len(sequence.pages)
                self.table_SxM[slot, have : have + missing] = new
                sequence.pages += new
                missing = 0

    def end(self, slot: int) -> Sequence:
        """Empties a slot. Whoever waits for pages may try again."""
        sequence = self._leave(slot)
        self.crowded = False
        return sequence

    def withdraw(self, request_id: int) -> list[Sequence]:
        """Takes a request's samples out of the queue."""
        gone = [sequence for sequence in self.waiting if sequence.request.id == request_id]
        self.waiting = [sequence for sequence in self.waiting if sequence.request.id != request_id]
        heapq.heapify(self.waiting)
        return sorted(gone)

    def _preempt_youngest(self) -> None:
        slot, sequence = self.running()[-1]
        self._leave(slot)
        for values in (sequence.tokens, sequence.logprobs, sequence.sampled_logprobs):
            values.clear()
        heapq.heappush(self.waiting, sequence)
        self.crowded = True
        self.preemptions += 1

    def _leave(self, slot: int) -> Sequence:
        sequence = self.slots[slot]
        assert sequence is not None
        self.slots[slot] = None
        self.pages.release(sequence.pages)
        sequence.pages = []
        return sequence
