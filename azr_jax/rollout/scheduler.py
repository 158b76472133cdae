"""Which completion stands in which slot, with which pages: decided on the host, the same in every process.

Completions enter in the order they were asked for, those of earlier iterations first, when a slot is free and there are
pages for their prompt. Pages for what they write are added as they grow. When there are none left, the youngest gives
up its slot and its pages and waits at its old place in the queue; it starts over later, and since its randomness is its
own, it says the same again.
"""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, field

import numpy as np

from azr_jax.rollout.cache import Pages, PrefillChunk, prefill_chunks
from azr_jax.rollout.requests import EngineSettings, Request, Rollout
from azr_jax.rollout.slots import SlotArrays


@dataclass
class Sequence:
    """One completion that is waiting or under way."""

    request: Request
    sample: int
    iteration: int  # whose randomness it has
    rank: tuple[int, int, int]  # its request's iteration, then its arrival; the largest is the youngest
    submitted: float
    started: float = 0.0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampler_logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)  # of the weights that drew each token
    pages: list[int] = field(default_factory=list)  # in the order of the positions they hold

    def __lt__(self, other: Sequence) -> bool:
        return self.rank < other.rank

    @property
    def text(self) -> tuple[int, ...]:
        """What has to be read before its next token is drawn."""
        return (*self.request.prompt, *self.tokens) if self.tokens else self.request.prompt

    def cut(self, length: int) -> None:
        """Leaves so many of its tokens, and what is known of them."""
        for values in (self.tokens, self.logprobs, self.sampler_logprobs, self.versions):
            del values[length:]

    def rollout(self, finish: str) -> Rollout:
        """What is handed out, now that it has ended."""
        now = time.perf_counter()
        started = self.started or now
        return Rollout(
            self.request,
            self.sample,
            tuple(self.tokens),
            tuple(self.logprobs),
            tuple(self.sampler_logprobs),
            finish,
            tuple(self.versions),
            seconds=now - started,
            waited=started - self.submitted,
        )


@dataclass(frozen=True)
class Placement:
    """What the device has to do before a sequence can be decoded."""

    text: tuple[int, ...]
    replica: int
    body: list[int]  # pages of the text without its last token
    fresh: tuple[PrefillChunk, ...]  # to be computed; the others were found
    copy: tuple[int, int] | None  # the page that decoding goes on in is a copy: from, to


class Scheduler:
    """Slots, their page tables, and the queue. Slots and pages belong to replicas; a completion stays in its own."""

    def __init__(self, settings: EngineSettings, replicas: int = 1):
        self.settings, self.replicas = settings, replicas
        self.slots_each = settings.rows
        self.pages = [Pages(settings.pool) for _ in range(replicas)]
        count = replicas * self.slots_each
        self.slots: list[Sequence | None] = [None] * count
        self.arrays = SlotArrays(count, settings)
        self._replica_S = np.arange(count) // self.slots_each
        self._free = [list(range(at, at + self.slots_each)) for at in range(0, count, self.slots_each)]  # heaps
        self.waiting: list[Sequence] = []  # a heap by rank
        self.crowded: set[int] = set()  # replicas where one was preempted and none has ended since: nobody enters
        self.preemptions = self.shared_tokens = 0
        self._arrivals = itertools.count()

    def submit(self, request: Request, iteration: int) -> None:
        arrival, now = next(self._arrivals), time.perf_counter()
        for sample in range(request.n):
            rank = request.iteration, arrival, sample
            heapq.heappush(self.waiting, Sequence(request, sample, iteration, rank, now))

    def replica_of(self, slot: int) -> int:
        return slot // self.slots_each

    def running(self, replica: int | None = None) -> list[tuple[int, Sequence]]:
        """Slots in use, of one replica or of all, the oldest sequence first."""
        held = [(slot, sequence) for slot, sequence in enumerate(self.slots) if sequence is not None]
        held = [pair for pair in held if replica in (None, self.replica_of(pair[0]))]
        return sorted(held, key=lambda pair: pair[1].rank)

    def longest_first(self) -> np.ndarray:
        """All slots, replica by replica, in each the longest sequence first and empty slots last."""
        state = self.arrays.state
        return np.lexsort((np.where(state.active, -1 - state.position, 0), self._replica_S))

    @property
    def pages_in_use(self) -> int:
        return sum(pages.in_use for pages in self.pages)

    def place(self) -> Placement | None:
        """The next in the queue gets a slot, if there is one and pages for its prompt and one token."""
        free = [replica for replica in range(self.replicas) if self._free[replica]] if self.waiting else []
        if not free:
            return None
        for replica in [replica for replica in self.crowded if not self.running(replica)]:
            self.crowded.discard(replica)
        body = prefill_chunks(self.waiting[0].text, self.settings.chunk, self.settings.prefill_shapes)
        # Where the most of the prompt is known already; among equals, where the most room is.
        choices = [
            (-len(self._known(replica, body)), self.pages[replica].in_use, replica)
            for replica in free
            if replica not in self.crowded
        ]
        for _, _, replica in sorted(choices):
            if placement := self._place_in(replica, body):
                return placement
        return None

    def _known(self, replica: int, body: tuple[PrefillChunk, ...]) -> list[tuple[int, ...]]:
        """The pages of the chunks at the beginning that were computed before."""
        found = (self.pages[replica].find(chunk.key) for chunk in body)
        return [pages for pages in itertools.takewhile(lambda pages: pages is not None, found) if pages is not None]

    def _place_in(self, replica: int, body: tuple[PrefillChunk, ...]) -> Placement | None:
        sequence, size, mine = self.waiting[0], self.settings.page_size, self.pages[replica]
        text = sequence.text
        known = self._known(replica, body)
        shared = [page for pages in known for page in pages]
        fresh = body[len(known) :]
        mine.hold(shared)
        counts = [-(-chunk.length // size) for chunk in fresh]
        new = mine.allocate(sum(counts) + 1)
        if new is None:
            mine.release(shared)
            return None
        heapq.heappop(self.waiting)
        *added, last = new
        for chunk, count, end in zip(fresh, counts, itertools.accumulate(counts)):
            mine.drop(chunk.key)  # it may be known while a chunk before it is not
            mine.remember(chunk.key, added[end - count : end])
        mine.used([chunk.key for chunk in body])
        self.shared_tokens += sum(chunk.length for chunk in body[: len(known)])
        held = shared + added
        copy = (held[-1], last) if (len(text) - 1) % size else None
        # The page copied from stays held until `copied`; it is not part of the sequence.
        sequence.pages = [*(held[:-1] if copy else held), last]
        slot = heapq.heappop(self._free[replica])
        self.slots[slot], sequence.started = sequence, time.perf_counter()
        self.arrays.enter(slot, sequence.request, sequence.sample, sequence.pages, sequence.iteration, sequence.tokens)
        return Placement(text, replica, held, fresh, copy)

    def copied(self, placement: Placement) -> None:
        if placement.copy:
            self.pages[placement.replica].release([placement.copy[0]])

    def grow(self, steps: int) -> None:
        """Pages for what each sequence writes in the next `steps`, the oldest served first."""
        missing_S = self.arrays.short_of_pages(steps, self.settings.page_size)
        in_need = [(one, slot) for slot in np.flatnonzero(missing_S > 0).tolist() if (one := self.slots[slot])]
        for sequence, slot in sorted(in_need):
            replica, missing = self.replica_of(slot), int(missing_S[slot])
            while self.slots[slot] is sequence:
                new = self.pages[replica].allocate(missing)
                if new is not None:
                    self._give(slot, sequence, new)
                    break
                self._preempt_youngest(replica)

    def grow_ahead(self, most: int) -> None:
        """Pages for tokens that guesses may add, where there are some to spare: what has too few is only slower."""
        missing_S = self.arrays.short_of_pages(most, self.settings.page_size)
        # With half of its slots taken a replica has hardly rows to guess in.
        spare = [replica for replica, free in enumerate(self._free) if 2 * len(free) >= self.slots_each]
        for slot in np.flatnonzero((missing_S > 0) & np.isin(self._replica_S, spare)).tolist():
            new = self.pages[self.replica_of(slot)].allocate(int(missing_S[slot]))
            if (sequence := self.slots[slot]) and new:
                self._give(slot, sequence, new)

    def _give(self, slot: int, sequence: Sequence, pages: list[int]) -> None:
        self.arrays.add_pages(slot, pages)
        sequence.pages += pages

    def end(self, slot: int) -> Sequence:
        """Empties a slot. Whoever waits for pages may try again."""
        sequence = self._leave(slot)
        self.crowded.discard(self.replica_of(slot))
        return sequence

    def put_back(self) -> None:
        """All that is under way gives up slot and pages and waits, to be read again with what it has drawn."""
        for slot, sequence in self.running():
            self._leave(slot)
            heapq.heappush(self.waiting, sequence)

    def forget(self) -> None:
        """New weights: nothing that was computed is of use any more."""
        for pages in self.pages:
            pages.forget()
        self.preemptions = self.shared_tokens = 0

    def _preempt_youngest(self, replica: int) -> None:
        slot, sequence = self.running(replica)[-1]
        self._leave(slot)
        sequence.cut(0)
        heapq.heappush(self.waiting, sequence)
        self.crowded.add(replica)
        self.preemptions += 1

    def _leave(self, slot: int) -> Sequence:
        sequence = self.slots[slot]
        assert sequence is not None
        self.slots[slot] = None
        self.arrays.leave(slot)
        heapq.heappush(self._free[self.replica_of(slot)], slot)
        self.pages[self.replica_of(slot)].release(sequence.pages)
        sequence.pages = []
        return sequence
