"""The zygotes of an executor: starts them, hands them work, and outlives their deaths.

Zygotes are what the kernel kills first when memory runs out, so a death says little about the program that ran: its
request is run again, later and later. Only where the same request dies alone, with no other death around, is it the
program's doing. New zygotes are started at once after a death, more and more slowly while nothing gets done between,
and for as long as it takes: after the start of the executor, no number of failures loses a job.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import replace

from azr_jax.executor.cases import SEEDS, Cases, ChildRequest, Result, run_cases
from azr_jax.executor.lanes import Lanes, Work
from azr_jax.executor.link import ChildEnd, Link, Lost, Reply, ZygoteSettings
from azr_jax.executor.stats import Stats

_TICK_S = 0.5  # how often deadlines are looked at when nothing happens
_LOOK_S = 0.2  # how often, while something runs, it is seen whether a zygote stands still
_OWN_DEATHS = 3  # of one request, with no other death around, after which it is judged crashed
_ALL_DEATHS = 30  # of one request, whatever else died
_STARVED = 3  # tries of one request that did not begin for want of memory, whatever else died
_AROUND_S = 1.0  # how near another death is one around
_FIRST_STARTS = 5  # that fail in a row before all zygotes were up once, after which there is no executor
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 2.0  # of starts and of second tries
_TRIAL_S = 20.0
Trial = Generator[ChildRequest, Result, Cases]


def _delay(failures: int) -> float:
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures, 10))


class Zygotes:
    """Owned by the executor's thread. `done` is told of every request's result."""

    def __init__(
        self,
        workers: int,
        settings: ZygoteSettings,
        selector: selectors.BaseSelector,
        stats: Stats,
        done: Callable[[Work, Result], None],
        read: Callable[[ChildEnd], Reply],
    ) -> None:
        self._workers, self._settings, self._selector = workers, settings, selector
        self._cores = len(os.sched_getaffinity(0))
        self._stats, self._done, self._read = stats, done, read
        self.links: dict[Link, Work | None] = {}
        self.layers: list[str] = []  # what all zygotes have
        self.held: list[str] = []  # what a program could still do in any of them
        self.missing: dict[str, str] = {}  # layers that are not in force, and why
        self.up = False  # all of the first ones have been
        self._trials: dict[Link, Trial] = {}
        self._lanes = Lanes(workers)
        self._order = itertools.count()
        self._starts: list[tuple[float, int, int]] = []  # when, in which order, of which hash seed
        self._later: list[tuple[float, int, Work]] = []  # second tries
        self._deaths: deque[float] = deque(maxlen=1_000)
        self._in_vain = 0  # deaths since anything was done
        self._failed_starts = 0  # in a row
        self._why = ""  # the last of them
        self._looked = 0.0

    def start(self) -> None:
        for seed in SEEDS:
            for _ in range(self._workers):
                self._start(seed)

    def put(self, work: Work) -> None:
        self._lanes.put(work)
        if not self._of(work.request.seed):
            self._start(work.request.seed)  # one of the seeds beyond the first two, the first time it is wanted

    def turn(self) -> None:
        """What time brings: starts and second tries that are due, zygotes that say nothing; then hands out work."""
        now = time.monotonic()
        while self._starts and self._starts[0][0] <= now:
            self._start(heapq.heappop(self._starts)[2])
        while self._later and self._later[0][0] <= now:
            self._try_again(heapq.heappop(self._later)[2])
        if now >= self._looked + _LOOK_S:
            self._looked = now
            for link in [x for x, work in self.links.items() if work is not None or not x.ready]:
                if link.overdue or link.stopped():
                    self._lost(link, "it stood still")
        self._dispatch()

    def wait_s(self) -> float:
        """Until `turn` has something to do, if nobody speaks before."""
        due = [each[0][0] for each in (self._starts, self._later) if each]
        busy = any(work is not None or not link.ready for link, work in self.links.items())
        tick = _LOOK_S if busy else _TICK_S
        return max(0.0, min([tick, *(at - time.monotonic() for at in due)]))

    def trouble(self) -> str:
        """One line if zygotes do not come up, else empty."""
        if self._failed_starts < _FIRST_STARTS:
            return ""
        return f"no zygote comes up: {self._failed_starts} starts in a row failed, the last with: {self._why}"

    def close(self) -> None:
        for link in list(self.links):
            link.kill()
        self.links.clear()

    # ------------------------------------------------------------------------------------ starts
    def _of(self, seed: int) -> int:
        """Zygotes of a seed that are there or will be."""
        return sum(link.seed == seed for link in self.links) + sum(at[2] == seed for at in self._starts)

    def _start(self, seed: int) -> None:
        try:
            link = Link(seed, self._settings)
        except OSError as error:  # no more processes, descriptors or memory
            self._failed(f"{type(error).__name__}: {error}")
            heapq.heappush(self._starts, (time.monotonic() + _delay(self._failed_starts), next(self._order), seed))
            return
        self.links[link] = None
        self._selector.register(link.sock, selectors.EVENT_READ, link)

    def _failed(self, why: str) -> None:
        self._failed_starts += 1
        self._why = why
        if not self.up and self._failed_starts >= _FIRST_STARTS:
            raise RuntimeError(f"{self._failed_starts} zygotes in a row did not start: {why}")

    def _greeted(self, link: Link) -> None:
        """A zygote has put on its walls: one trivial program, before anybody relies on it."""
        if self.up and not set(link.held) <= set(self.held):
            self._lost(link, f"a later zygote is weaker than the first ones: {', '.join(link.held)}")
            return
        trial = run_cases("def f(x):\n    return x\n", [{"text": "1"}], timeout_s=_TRIAL_S, seed=link.seed)
        self._trials[link] = trial
        try:
            link.send(next(trial), _TRIAL_S)
        except Lost as lost:
            self._lost(link, str(lost))

    def _tried(self, link: Link, trial: Trial, result: Result) -> None:
        """The report is of the weakest: layers all of them have, holes any of them has."""
        try:
            trial.send(result)
        except StopIteration as stop:
            cases: Cases = stop.value
            case = cases.cases.get(0)
            if case is not None and case.value == "1":
                link.ready = True
                self._failed_starts = 0
                self.layers = [x for x in self.layers or link.layers if x in link.layers]
                self.held = sorted({*self.held, *link.held})
                self.missing |= link.missing
                self.up = self.up or all(other.ready for other in self.links)
                return
        self._lost(link, f"its walls stand, but a trivial program did not run: {result.end} {result.detail}".strip())

    # ------------------------------------------------------------------------------------ work
    def _dispatch(self) -> None:
        for link in [x for x, work in self.links.items() if x.ready and work is None]:
            work = self._lanes.take(link.seed, sum(x.seed == link.seed and x.ready for x in self.links))
            if work is not None:
                self._give(link, work)
        for seed in self._lanes.lacking(Counter(link.seed for link in self.links)):
            if self._of(seed) <= self._workers:
                self._start(seed)

    def _give(self, link: Link, work: Work) -> None:
        del self.links[link]  # to the end: who has waited longest comes first in `_dispatch`
        self.links[link] = work
        running = sum(one is not None for one in self.links.values())
        work.given = time.monotonic()
        self._stats.time("queue", work.given - work.since)
        try:
            link.send(work.request, work.seconds, ahead=running < self._cores)  # else no core is idle to fork on
        except Lost as lost:
            self._lost(link, str(lost))

    def hear(self, link: Link) -> None:
        """Reads what a zygote has to say."""
        if link not in self.links:
            return
        try:
            answer = link.receive()
        except Lost as lost:
            self._lost(link, str(lost))
            return
        link.rest()
        work, trial = self.links[link], self._trials.pop(link, None)
        if answer is None:
            self._greeted(link)
        elif trial is not None:
            self._tried(link, trial, self._read(answer).result)
        elif work is None:
            self._read(answer)
            self._lost(link, "it spoke without having been asked")
        else:
            self.links[link] = None
            self._lanes.ended(work)
            self._dispatch()  # before the reading, so that no worker waits for it
            self._heard(work, self._read(answer))

    def _heard(self, work: Work, reply: Reply) -> None:
        end = reply.result.end
        self._stats.count("run_total_s", reply.result.run_s)
        if end in ("killed", "starved"):
            work.lost_s += reply.result.run_s
            if end == "killed":
                self._deaths.append(time.monotonic())
                self._again(work)
            else:
                self._begin_again(work)
            return
        self._in_vain = 0
        if end == "timeout" and work.sliced:
            self._stats.count("moved_to_slow")
            work.slow, work.used_s = True, reply.result.run_s
            self._lanes.put(work)
            return
        self._stats.count("runs")
        self._stats.time("run", reply.result.run_s)
        self._stats.time("cpu", reply.cpu_s)
        if end != "done":
            self._stats.count(f"kills/{end}")
        self._done(work, replace(reply.result, run_s=reply.result.run_s + work.used_s, lost_s=work.lost_s))

    # ------------------------------------------------------------------------------------ deaths
    def _lost(self, link: Link, why: str) -> None:
        """A dead, silent or odd zygote: another takes its place, and its request is run again."""
        work = self.links.pop(link)
        self._trials.pop(link, None)
        self._selector.unregister(link.sock)
        link.kill()
        self._stats.count("zygotes_replaced")
        now = time.monotonic()
        self._deaths.append(now)
        self._in_vain += 1
        if not link.ready:
            self._failed(why)
        patience = self._in_vain - 2 * self._workers  # that all die at once is one fault, and not many
        delay = _delay(patience) if patience > 0 else 0.0
        heapq.heappush(self._starts, (now + delay, next(self._order), link.seed))
        if work is not None:
            self._lanes.ended(work)
            self._again(work)

    def _again(self, work: Work) -> None:
        now = time.monotonic()
        work.deaths.append((work.given, now))
        self._stats.count("second_tries")
        heapq.heappush(self._later, (now + _delay(len(work.deaths) - 1), next(self._order), work))

    def _begin_again(self, work: Work) -> None:
        """No death: it shields no other request, and nothing of a program has been looked at yet."""
        work.starved += 1
        if work.starved >= _STARVED:
            detail = f"no memory to begin with, {work.starved} times"
            self._done(work, Result("crashed", detail=detail, lost_s=work.lost_s))
            return
        self._stats.count("second_tries")
        due = time.monotonic() + _delay(3 * work.starved - 2)  # 0.1 s, then 0.8 s: a storm passes
        heapq.heappush(self._later, (due, next(self._order), work))

    def _try_again(self, work: Work) -> None:
        """Judged only now, when deaths at the same moment have been heard of too."""
        around = [(given - _AROUND_S, ended + _AROUND_S) for given, ended in work.deaths]
        own = sum(sum(first <= at <= last for at in self._deaths) <= 1 for first, last in around)
        if own >= _OWN_DEATHS or len(work.deaths) >= _ALL_DEATHS:
            detail = f"who ran it died {len(work.deaths)} times"
            self._done(work, Result("crashed", detail=detail, lost_s=work.lost_s))
        else:
            self._lanes.put(work, first=len(work.deaths) == 1)
