"""Runs generator jobs: whoever has to wait says for what, and is resumed with it. Sampling and judging go on meanwhile.

    (rollout,) = yield Sample(request)              # completions of the engine, all n of them
    attempts = yield Sample(request, judged)        # the same, each one's own job begun as soon as it ends
    verdict = yield Verify(kind, task, answer)      # the executor's word; so for whatever else it can be asked
    results = yield [job, job, ...]                 # of everything in a list, side by side
    estimate = yield Start(job)                     # goes on beside this one; `yield estimate` when it is needed

Everything runs on one thread, the caller's: the executor's own thread only drops finished futures into a queue. So jobs
need no locks, and what they ask for (a new task's estimate attempts, say) joins the work already under way. What comes
in together is handed out in the order of its request and verdict numbers, never in that of its arrival.

Of several processes each runs its share of the programs, every n-th. The engine is driven by all of them together, so
what is submitted to it must be the same in all after the same round, and a verdict, which comes when it comes, must not
be acted on where it happens to be: after each round they tell each other which verdicts are in, and hand over these.
While the device decodes, that costs nothing. Completions need no telling, since the engine gives all of them to all.

What is under way can be asked at any time, also from another thread: `to_come`, `judging`, `doing`.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from azr_jax.config.schema import ConfigError
from azr_jax.executor.jobs import Validate
from azr_jax.executor.verdict_codec import Settled, from_plain, to_plain
from azr_jax.parallel.hosts import Hosts
from azr_jax.rollout.engine import Engine, Request, Rollout

ASK_AGAIN_S = 0.05  # how soon a verdict is told to the other processes where all wait for one

T = TypeVar("T")
Wanted: TypeAlias = Any  # what a job may yield; its type says what it is resumed with


class Stage(IntEnum):
    PROPOSE = 0
    ESTIMATE = 1
    SOLVE = 2
    HELD_OUT = 3


class RequestId(int):
    """What a request is for. The same work has the same id in every run of the same seed: its randomness is drawn from
    it. 32 bits say the iteration (0: the engine's), 4 the stage, 4 the kind (or the suite, held out), 24 which one.
    """

    def __new__(cls, stage: Stage, group: int, index: int, iteration: int = 0) -> RequestId:
        return super().__new__(cls, (iteration << 32) | (stage << 28) | (group << 24) | index)

    @property
    def stage(self) -> Stage:
        return Stage(self >> 28 & 0xF)

    @property
    def group(self) -> int:
        return self >> 24 & 0xF

    @property
    def index(self) -> int:
        return self & 0xFFFFFF


@dataclass(frozen=True)
class Sample:
    """Gives the request's completions, in the order of their sample numbers, or what `then` makes of each."""

    request: Request
    then: Callable[[Rollout], Job[Any]] | None = None


@dataclass(frozen=True)
class Start:
    """Gives at once a Started, which goes on beside the job that asked."""

    wanted: Wanted


class Started(Generic[T]):
    """Something under way, and its result once it is `done`."""

    def __init__(self, job: Job[T] | None = None, parts: Sequence[Started[Any]] = ()):
        self.job, self.parts = job, parts
        self.done, self.result = False, None
        self.missing = sum(not part.done for part in parts)
        self.awaited_by: list[Started[Any]] = []


class JobExecutor(Protocol):
    """The executor, or whoever else is asked what a job yields and this loop does not know itself."""

    def submit(self, job: Wanted) -> Future[Any]: ...


Job = Generator[Wanted, Any, T]


class EventLoop:
    def __init__(self, engine: Engine | None, executor: JobExecutor, hosts: Hosts | None = None):
        """Without an engine for jobs that sample nothing."""
        self.engine, self.executor, self.hosts = engine, executor, hosts or Hosts()
        self.to_come: dict[int, int] = {}  # completions still to come, by request id, the oldest first
        self.judging: dict[int, Any] = {}  # what the executor was asked and has not answered, the oldest first
        self.doing = ""  # what was just handed to the job that is running
        self.waited_s = 0.0  # time the device had nothing to do because a verdict was awaited
        self._ready: deque[tuple[Started[Any], Any]] = deque()  # jobs to resume, and what with
        self._samples: dict[int, tuple[Sequence[Started[Any]], Sample]] = {}
        self._verdicts_of: dict[int, Started[Any]] = {}
        self._judged: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()  # by this process's executor
        self._numbers = itertools.count()
        self._in: dict[int, Settled] = {}  # verdicts to be handed over
        self.delivered: list[list[int]] | None = None  # numbers of those handed over after each round, where kept
        self._follow: Iterator[Sequence[int]] = iter(())
        self._done: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._show: Callable[[str, int, int], None] = lambda stage, done, total: None
        self._stage: Callable[[str], AbstractContextManager[None]] = lambda name: contextlib.nullcontext()
        self._check: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def shown(self, show: Callable[[str, int, int], None]) -> Generator[None]:
        """Inside, `show(stage, done, total)` is told of every completion, and as `execute` of every verdict."""
        before, self._show = self._show, show
        self._done, self._total = Counter[str](), Counter[str](execute=len(self.judging))
        for request, count in self.to_come.items():
            self._total[_name(self._samples[request][1].request)] += count
        try:
            yield
        finally:
            self._show = before

    def log(self, follow: Iterable[Sequence[int]] = ()) -> None:
        """From here on `delivered` is kept. `follow` is that of another run: while it lasts, verdicts come just so."""
        assert not self.judging, "numbers begin anew"
        self._numbers, self.delivered, self._follow = itertools.count(), [], iter(follow)

    def watched(self, stage: Callable[[str], AbstractContextManager[None]]) -> None:
        """From now on each round of sampling is inside `stage("round")`, each wait inside `stage("verdict")`."""
        self._stage = stage

    @contextlib.contextmanager
    def checked(self, check: Callable[[], None]) -> Generator[None]:
        """Inside, `check()` is called before each round, and gives everything up by raising."""
        before, self._check = self._check, check
        try:
            yield
        finally:
            self._check = before

    def start(self, wanted: Wanted) -> Started[Any]:
        """Begins it, beside whatever is under way; it goes on while something else is run."""
        started = self._start(wanted)
        self._resume("the first job")
        return started

    def run(self, wanted: Wanted, *, spare: Callable[[], object] | None = None) -> Any:
        """What the job, or whatever else may be yielded, gives. When slots stand empty, `spare()` may start more."""
        started = self.start(wanted)
        while not started.done:
            assert self.to_come or self.judging, "a job waits for what nobody is at work on"
            self._check()
            if spare and self.engine and self.engine.has_room:
                spare()
            with self._stage("round" if self.to_come else "verdict"):
                rollouts = self.engine.step() if self.engine and self.to_come else []
                for rollout in sorted(rollouts, key=lambda rollout: (rollout.request.id, rollout.sample)):
                    self._completed(rollout)
                self._deliver(wait=bool(self.judging) and not self.to_come)
        return started.result

    # --- jobs

    def _resume(self, about: str) -> None:
        """Lets jobs go on until all of them wait."""
        self.doing = about
        while self._ready:
            started, value = self._ready.popleft()
            assert started.job is not None
            try:
                wanted = started.job.send(value)
            except StopIteration as stop:
                self._finish(started, stop.value)
                continue
            if isinstance(wanted, Start):
                self._ready.appendleft((started, self._start(wanted.wanted)))
                continue
            awaited = self._start(wanted)
            if awaited.done:
                self._ready.append((started, awaited.result))
            else:
                awaited.awaited_by.append(started)
        self.doing = ""

    def _finish(self, started: Started[Any], result: Any) -> None:
        started.done, started.result = True, result
        for waiting in started.awaited_by:
            if waiting.job is not None:
                self._ready.append((waiting, result))
                continue
            waiting.missing -= 1
            if not waiting.missing:
                self._finish(waiting, [part.result for part in waiting.parts])

    def _start(self, wanted: Wanted) -> Started[Any]:
        match wanted:
            case Started():
                return wanted  # pyright: ignore[reportUnknownVariableType]
            case Generator():
                started = Started[Any](cast("Job[Any]", wanted))
                self._ready.append((started, None))
                return started
            case Sample(request):
                assert self.engine, "jobs that sample need an engine"
                parts = [Started[Any]() for _ in range(request.n)]
                self._samples[request.id], self.to_come[request.id] = (parts, wanted), request.n
                self._count(_name(request), total=request.n)
                self.engine.submit(request)
                return self._all(parts)
            case list() | tuple():
                return self._all([self._start(each) for each in cast("list[Wanted]", wanted)])
            case _:
                return self._judge(wanted)

    def _all(self, parts: Sequence[Started[Any]]) -> Started[Any]:
        whole = Started[Any](parts=parts)
        for part in parts:
            if not part.done:
                part.awaited_by.append(whole)
        if not whole.missing:
            self._finish(whole, [part.result for part in parts])
        return whole

    # --- completions

    def _completed(self, rollout: Rollout) -> None:
        request = rollout.request
        parts, asked = self._samples[request.id]
        self.to_come[request.id] -= 1
        if not self.to_come[request.id]:
            del self.to_come[request.id], self._samples[request.id]
        self._count(_name(request), done=1)
        part = parts[rollout.sample]
        if asked.then is None:
            self._finish(part, rollout)
        else:
            part.job = asked.then(rollout)
            self._ready.append((part, None))
        self._resume(f"request {request.id}, sample {rollout.sample}")

    # --- verdicts

    def _judge(self, job: Wanted) -> Started[Any]:
        number, started = next(self._numbers), Started[Any]()
        self.judging[number], self._verdicts_of[number] = job, started
        self._total["execute"] += 1
        if number % self.hosts.count == self.hosts.index:
            self.executor.submit(job).add_done_callback(lambda future: self._judged.put((number, future)))
        return started

    def _deliver(self, *, wait: bool) -> None:
        """Hands over the verdicts that are in, the oldest question first; with `wait`, at least one of those out."""
        verdicts = self._verdicts(wait=wait)
        if self.delivered is not None:
            self.delivered.append([number for number, _ in verdicts])
        for number, verdict in verdicts:
            job = self.judging.pop(number)
            self._count("execute", done=1)
            self._finish(self._verdicts_of.pop(number), verdict)
            self._resume(f"the verdict on {type(job).__name__} {number}")

    def _verdicts(self, *, wait: bool) -> list[tuple[int, Settled]]:
        """(number, verdict) of what any process has, or a schedule says, the same list in all of them."""
        started, wanted = time.perf_counter(), next(self._follow, None)
        if strangers := set(wanted or ()) - self.judging.keys():
            raise ConfigError([f"pipeline.follow: is of another run; verdicts {sorted(strangers)} were not asked for"])
        while True:
            self._in |= self._told(wait=wait and not self._in if wanted is None else not self._in.keys() >= set(wanted))
            ready = sorted(self._in if wanted is None else self._in.keys() & set(wanted))
            if (ready or not wait) if wanted is None else len(ready) == len(wanted):
                self.waited_s += time.perf_counter() - started if wait else 0.0
                return [(number, self._in.pop(number)) for number in ready]

    def _told(self, *, wait: bool) -> dict[int, Settled]:
        found = self._finished(wait=wait)
        if self.hosts.count > 1:
            told = self.hosts.gather([(number, to_plain(verdict)) for number, verdict in found])
            found = [(number, self._answer(number, plain)) for of_one in told for number, plain in of_one]
        return dict(found)

    def _answer(self, number: int, plain: dict[str, Any]) -> Settled:
        job = self.judging[number]
        return from_plain(plain, job.proposal.kind.task_type) if isinstance(job, Validate) else from_plain(plain)

    def _finished(self, *, wait: bool) -> list[tuple[int, Settled]]:
        """What this process's executor has answered. Alone, it waits for an answer; others may have one meanwhile."""
        found: list[tuple[int, Settled]] = []
        patience = ASK_AGAIN_S if self.hosts.count > 1 else None
        with contextlib.suppress(queue.Empty):
            while True:
                number, future = self._judged.get(block=wait and not found, timeout=patience)
                found.append((number, future.result()))
        return found

    def _count(self, name: str, *, done: int = 0, total: int = 0) -> None:
        self._done[name] += done
        self._total[name] += total
        self._show(name, self._done[name], self._total[name])


def _name(request: Request) -> str:
    """Of the stage it belongs to, for people."""
    return request.id.stage.name.lower() if isinstance(request.id, RequestId) else "sample"
