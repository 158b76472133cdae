"""Which request runs next: short work never waits behind programs that do not end.

Every request first gets a slice of time. Most are done within it; one that is not is ended and waits, in a lane of
its own, for a second run with its whole limit. There are as many slow runs at once as workers. Beside them there is
always room for one short run, so ten programs that never end cost an honest one ten slices shared by the workers, and
not ten limits. The price: what takes longer than a slice is begun twice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from azr_jax.executor.cases import ChildRequest

SLICE_S = 0.1
_WORTH_A_SLICE = 4  # slices that a limit must be long, or the whole limit is the slice


@dataclass(slots=True, eq=False)
class Work:
    """A request in progress, for one job or for several that ask the same."""

    request: ChildRequest
    since: float
    waiting: list[Any] = field(default_factory=list[Any])  # who wants the result
    slow: bool = False  # it has used up its slice
    used_s: float = 0.0  # by its slice
    lost_s: float = 0.0  # by tries that came to nothing
    starved: int = 0  # tries for which the kernel had no memory to begin
    given: float = 0.0  # when a zygote got it the last time
    # Of zygotes that had it: since when, at what time.
    deaths: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    @property
    def seconds(self) -> float:
        """How long its next run may take."""
        limit = self.request.timeout_s
        return limit if self.slow or limit < _WORTH_A_SLICE * SLICE_S else SLICE_S

    @property
    def sliced(self) -> bool:
        return self.seconds < self.request.timeout_s


class Lanes:
    """What waits, by hash seed, short and slow apart; and how much of either is running."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._waiting: dict[tuple[bool, int], deque[Work]] = {}
        self._short = 0  # running
        self._slow: Counter[int] = Counter()  # running, by seed

    def put(self, work: Work, *, first: bool = False) -> None:
        lane = self._waiting.setdefault((work.slow, work.request.seed), deque())
        lane.appendleft(work) if first else lane.append(work)

    def take(self, seed: int, zygotes: int) -> Work | None:
        """What an idle zygote of this seed runs now; `ended` is told when it has. `zygotes` of the seed are up."""
        slow = self._slow.total()
        if self._waiting.get((False, seed)) and self._short < max(1, self._workers - slow):
            self._short += 1
            return self._waiting[False, seed].popleft()
        one_more = slow < self._workers and (not slow or slow + self._short < self._workers)
        if self._waiting.get((True, seed)) and one_more and self._slow[seed] + 1 < zygotes:
            self._slow[seed] += 1
            return self._waiting[True, seed].popleft()
        return None

    def ended(self, work: Work) -> None:
        if work.slow:
            self._slow[work.request.seed] -= 1
        else:
            self._short -= 1

    def lacking(self, zygotes: Mapping[int, int]) -> list[int]:
        """Seeds whose slow work waits only because the last zygote is kept for short work: one more would do."""
        waiting = [seed for (slow, seed), works in self._waiting.items() if slow and works]
        return [s for s in waiting if self._slow[s] < self._workers and zygotes.get(s, 0) <= self._slow[s] + 1]
