"""The executor's thread: steps jobs, hands their requests to the zygotes, remembers equal work."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import selectors
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from azr_jax.executor.cases import ChildRequest, Result, Steps, Together
from azr_jax.executor.jobs import Job, unjudged
from azr_jax.executor.lanes import Work
from azr_jax.executor.link import ChildEnd, Reply, ZygoteSettings
from azr_jax.executor.stats import Stats
from azr_jax.executor.zygotes import Zygotes

log = logging.getLogger(__name__)

_CACHED = 4_096  # results remembered
_CACHED_BYTES = 8 * 2**20  # and the size of requests and results together
_TOLD = 20  # exceptions of our own that are logged; all are counted


@dataclass(slots=True, eq=False)
class _Task:
    """A job in progress."""

    number: int
    job: Job
    what: str
    steps: Steps
    future: Future[Any]
    since: float
    asked: ChildRequest | Together | None = None  # what it waits for
    answers: dict[ChildRequest, Result] = field(default_factory=dict[ChildRequest, Result])  # what of it is in

    @property
    def wanted(self) -> Together:
        return self.asked if isinstance(self.asked, tuple) else (self.asked,) if self.asked else ()

    def answer(self) -> object:
        """What the generator is sent; None starts it."""
        results = tuple(self.answers[request] for request in self.wanted)
        return results if isinstance(self.asked, tuple) else results[0] if results else None


class Loop:
    """Owns the thread and the zygotes. `add`, `pending`, `snapshot` and `close` may be called from other threads."""

    def __init__(self, workers: int, settings: ZygoteSettings, done: Callable[[], None]) -> None:
        self._done = done
        self._stats = Stats()
        self._numbers = itertools.count(1)
        self._tasks: dict[int, _Task] = {}
        self._added: deque[_Task] = deque()
        self._works: dict[ChildRequest, Work] = {}
        self._cache: OrderedDict[ChildRequest, Result] = OrderedDict()
        self._cache_bytes = 0
        self._told = 0
        self._closing = False
        self._ended = False
        self._broken: BaseException | None = None
        self._sleeping = False
        self._ready = threading.Event()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)
        self._zygotes = Zygotes(workers, settings, self._selector, self._stats, self._settle, self._read)
        self._links = self._zygotes.links
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------ from other threads
    def add(self, job: Job, steps: Steps, future: Future[Any]) -> None:
        self.check_open()
        kind = getattr(job, "kind", None) or getattr(getattr(job, "proposal", None), "kind", "")
        what = f"{type(job).__name__.lower()} {kind}".strip()
        task = _Task(next(self._numbers), job, what, steps, future, time.monotonic())
        self._tasks[task.number] = task
        self._added.append(task)
        if self._ended:  # between the check above and here
            self._abandon(task)
        if self._sleeping:
            self._wake()

    def check_open(self) -> None:
        if self._closing or self._broken is not None:
            raise RuntimeError("the executor is closed") from self._broken

    def wait_ready(self) -> None:
        self._ready.wait()
        if self._broken is not None:
            raise RuntimeError(f"the executor did not start: {self._broken}") from self._broken

    @property
    def layers(self) -> list[str]:
        return self._zygotes.layers

    @property
    def held(self) -> list[str]:
        return self._zygotes.held

    @property
    def missing(self) -> dict[str, str]:
        return self._zygotes.missing

    def trouble(self) -> str:
        return self._zygotes.trouble()

    def waited(self, seconds: float) -> None:
        self._stats.count("submit_waits")

    def snapshot(self) -> dict[str, float]:
        return self._stats.snapshot() | {"jobs_pending": float(len(self._tasks)), "zygotes": float(len(self._links))}

    def pending(self) -> list[str]:
        now = time.monotonic()
        running = {t.number for w in list(self._links.values()) if w is not None for t in list(w.waiting)}
        trouble = self.trouble()
        return ([trouble] if trouble else []) + [
            f"#{t.number} {t.what}: {'running' if t.number in running else 'queued'}, {now - t.since:.1f} s old"
            for t in list(self._tasks.values())
        ]

    def close(self) -> None:
        self._closing = True
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._wake()
            self._thread.join()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, hence awake; or closed, hence ended
            os.eventfd_write(self._wake_fd, 1)

    # ------------------------------------------------------------------------------------ the thread
    def _run(self) -> None:
        try:
            self._zygotes.start()
            while not self._closing:
                self._turn()
        except BaseException as error:
            self._broken = error
        finally:
            self._end()

    def _turn(self) -> None:
        while self._added:
            task = self._added.popleft()
            if task.future.set_running_or_notify_cancel():
                self._step(task)
            else:
                self._forget(task)
        self._zygotes.turn()
        if self._zygotes.up:
            self._ready.set()
        self._sleeping = True
        events = self._selector.select(0 if self._added else self._zygotes.wait_s())
        self._sleeping = False
        for key, _ in events:
            if key.data is None:
                os.eventfd_read(self._wake_fd)
            else:
                self._zygotes.hear(key.data)

    def _end(self) -> None:
        self._zygotes.close()
        self._selector.close()
        os.close(self._wake_fd)
        self._closing = self._ended = True
        for task in list(self._tasks.values()):
            self._abandon(task)
        self._ready.set()

    def _abandon(self, task: _Task) -> None:
        error = RuntimeError("the executor was closed before this job was done")
        error.__cause__ = self._broken
        self._forget(task)
        with contextlib.suppress(InvalidStateError):
            if task.future.running() or task.future.set_running_or_notify_cancel():
                task.future.set_exception(error)

    # ------------------------------------------------------------------------------------ jobs
    def _step(self, task: _Task) -> None:
        """Advances a job until it has to wait for children, or is done."""
        while True:
            try:
                task.asked = task.steps.send(task.answer())
            except StopIteration as stop:
                self._finish(task, stop.value)
                return
            except BaseException as error:  # a mistake of ours or of a user's kind: its verdict, not everybody's end
                self._tell(f"judging {task.what}")
                self._finish(task, unjudged(task.job, error))
                return
            task.answers = {request: self._cache[request] for request in task.wanted if request in self._cache}
            for request in task.answers:
                self._cache.move_to_end(request)
                self._stats.count("cache_hits")
            missing = [request for request in dict.fromkeys(task.wanted) if request not in task.answers]
            for request in missing:
                self._want(task, request)
            if missing:
                return

    def _want(self, task: _Task, request: ChildRequest) -> None:
        work = self._works.get(request)
        if work is None:
            work = Work(request, time.monotonic())
            self._works[request] = work
            self._zygotes.put(work)
        else:
            self._stats.count("cache_hits")
        work.waiting.append(task)

    def _finish(self, task: _Task, value: object) -> None:
        self._forget(task)
        reason = getattr(value, "reason", "") or ("accepted" if task.what.startswith("validate") else "ran")
        self._stats.count(f"{task.what.split()[0]}/{reason}")
        try:
            task.future.set_result(value)
        except BaseException:  # of a callback that exits: what it waited for is there all the same
            self._tell(f"telling of {task.what}")

    def _tell(self, doing: str) -> None:
        """Counts an exception of our own and logs where it was raised; one like the other says no more."""
        self._stats.count("own_errors")
        if self._told < _TOLD:
            self._told += 1
            log.exception("the executor failed at %s; it goes on", doing)

    def _forget(self, task: _Task) -> None:
        if self._tasks.pop(task.number, None) is not None:
            self._done()

    # ------------------------------------------------------------------------------------ results
    def _read(self, answer: ChildEnd) -> Reply:
        try:
            return answer.read()
        except Exception:
            self._tell("reading what a child wrote")
            return Reply(Result("crashed", detail="unreadable"), 0.0)

    def _settle(self, work: Work, result: Result) -> None:
        if result.end == "done":
            self._remember(work.request, result)
        self._deliver(work, result)

    def _deliver(self, work: Work, result: Result) -> None:
        del self._works[work.request]
        for task in work.waiting:
            task.answers[work.request] = result
            if task.answers.keys() >= set(task.wanted):
                self._step(task)

    def _remember(self, request: ChildRequest, result: Result) -> None:
        """Only what a child finished in good order: a timeout or a crash may be the machine's fault."""
        self._cache[request] = result
        self._cache_bytes += len(request.body) + result.size
        while len(self._cache) > _CACHED or self._cache_bytes > _CACHED_BYTES:
            dropped, forgotten = self._cache.popitem(last=False)
            self._cache_bytes -= len(dropped.body) + forgotten.size
