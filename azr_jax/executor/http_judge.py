"""A judge whose programs run in a farm of sandboxes elsewhere. Golds stay here, as with the local one.

A thread per worker takes a job, asks the farm for its runs one after the other, and compares what comes back. What the
farm does not answer is asked again, later and later, for as long as it takes: a farm that is down loses no job, and
`health` says since when. Only where a farm that answers others leaves one request unanswered three times does that
request count as crashed. Given up against the local judge: two fixed hash seeds (each run has the farm's own), clocks
that differ from run to run, and the same bytes on another farm; docs/EXECUTOR.md says more.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, TypeVar

from azr_jax.executor.cases import ChildRequest, Result, run_cases
from azr_jax.executor.farm import Farm, Unanswered
from azr_jax.executor.jobs import Gives, Job, checked_job, unjudged
from azr_jax.executor.judge import steps_of
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.executor.stats import Stats
from azr_jax.executor.values import encode

log = logging.getLogger(__name__)
T = TypeVar("T")

WORKERS = 16  # requests at a time where the settings leave it open: what waits for a farm costs nothing here
_OWN_FAILURES = 3  # of one request, with a farm that answers others
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_PROBE = "def f(x):\n    return x + 1\n"
_PROBE_S = 10.0


@dataclass(slots=True, eq=False)
class _Sent:
    number: int
    job: Job
    future: Future[Any]
    since: float
    running: bool = False


class HttpJudge:
    """A Judge. Raises RuntimeError if the farm does not run a first program."""

    def __init__(self, settings: ExecutorSettings, url: str) -> None:
        self.settings = settings
        self._farm = Farm(url, settings.memory_mb)
        self._stats = Stats()
        self._room = threading.Semaphore(settings.queue)
        self._numbers = itertools.count(1)
        self._tasks: dict[int, _Sent] = {}
        self._waiting: queue.SimpleQueue[_Sent | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._down: tuple[float, str] | None = None  # since when, and why
        trouble = self._probe()
        if trouble:
            raise RuntimeError(f"executor.url={url}: {trouble}; start the farm, or take executor.judge=local")
        self._threads = [
            threading.Thread(target=self._work, name=f"judge {n}", daemon=True)
            for n in range(settings.workers or WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def layers(self) -> str:
        return f"executor: programs run at {self._farm.url}; what holds them there is that farm's concern"

    def submit(self, job: Gives[T]) -> Future[T]:
        known, future = checked_job(job), Future[T]()
        while not self._room.acquire(timeout=1.0):
            self._check_open()
        task = _Sent(next(self._numbers), known, future, time.monotonic())
        with self._lock:
            self._check_open()
            self._tasks[task.number] = task
        self._waiting.put(task)
        return future

    def stats(self) -> dict[str, float]:
        return self._stats.snapshot() | {"jobs_pending": float(len(self._tasks))}

    def pending(self) -> list[str]:
        now, trouble = time.monotonic(), self.health()
        return ([trouble] if trouble else []) + [
            f"#{t.number} {type(t.job).__name__.lower()}: {'running' if t.running else 'queued'}, "
            f"{now - t.since:.1f} s old"
            for t in list(self._tasks.values())
        ]

    def health(self) -> str:
        down = self._down
        if down is None:
            return ""
        return f"{self._farm.url} has not answered for {time.monotonic() - down[0]:.0f} s: {down[1]}; jobs wait for it"

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            left = list(self._tasks.values())
        for task in left:
            self._finish(task, error=RuntimeError("the executor was closed before this job was done"))
        for _ in self._threads:
            self._waiting.put(None)

    def __enter__(self) -> HttpJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise RuntimeError("the executor is closed")

    # ------------------------------------------------------------------------------------ the threads
    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            with self._lock:
                if self._closed.is_set():
                    return
                wanted = task.future.set_running_or_notify_cancel()
            if not wanted:
                self._forget(task)
                continue
            task.running = True
            try:
                value = self._through(task.job)
            except _Closed:
                return
            except BaseException as error:  # a mistake of ours or of a user's kind: its verdict, not everybody's end
                log.exception("the executor failed at judging a %s; it goes on", type(task.job).__name__)
                self._stats.count("own_errors")
                value = unjudged(task.job, error)
            what = type(task.job).__name__.lower()
            reason = getattr(value, "reason", "") or ("accepted" if what == "validate" else "ran")
            self._stats.count(f"{what}/{reason}")
            self._finish(task, value)

    def _finish(self, task: _Sent, value: object = None, error: Exception | None = None) -> None:
        self._forget(task)
        with contextlib.suppress(InvalidStateError):  # closed meanwhile
            if error is None:
                task.future.set_result(value)
            else:
                task.future.set_exception(error)

    def _forget(self, task: _Sent) -> None:
        if self._tasks.pop(task.number, None) is not None:
            self._room.release()

    def _through(self, job: Job) -> object:
        steps, answer = steps_of(job, self.settings), None
        while True:
            try:
                asked = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(asked, tuple):
                answer = tuple(self._result(request) for request in asked)
            else:
                answer = self._result(asked)

    def _result(self, request: ChildRequest) -> Result:
        """What the farm says, however long it takes to say it."""
        if json.loads(request.body)["mode"] == "same":
            # It holds the task's own input, which stays here. "No" costs nothing but names of the program's own in it.
            return Result("done", (["value", 0, encode(False), None],))
        own, failures = 0, 0
        while True:
            if self._closed.is_set():
                raise _Closed
            try:
                result = self._farm.run(request)
            except Unanswered as unanswered:
                self._stats.count("second_tries")
                self._closed.wait(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures, 10)))
                failures += 1
                trouble = self._probe()
                own += not trouble
                if own >= _OWN_FAILURES:
                    result = Result("crashed", detail=f"unanswered {own} times: {str(unanswered)[:150]}")
                    self._stats.count("kills/crashed")
                    return result
                continue
            self._told(None)
            self._stats.count("runs")
            self._stats.count("run_total_s", result.run_s)
            self._stats.time("run", result.run_s)
            if result.end != "done":
                self._stats.count(f"kills/{result.end}")
            return result

    def _probe(self) -> str:
        """Whether the farm runs a trivial program: empty, or what is wrong."""
        trial = run_cases(_PROBE, [{"text": "1"}], timeout_s=_PROBE_S)
        try:
            result = self._farm.run(next(trial))
        except Unanswered as unanswered:
            return self._told(str(unanswered))
        try:
            trial.send(result)
        except StopIteration as stop:
            case = stop.value.cases.get(0)
            if case is not None and case.value == "2":
                return self._told(None)
        return self._told(f"a trivial program did not run: {result.end} {result.detail}".strip())

    def _told(self, why: str | None) -> str:
        """Notes and logs that the farm has gone, or is back."""
        with self._lock:
            before = self._down
            self._down = None if why is None else (before[0] if before else time.monotonic(), why)
        if why and not before:
            log.warning("%s does not answer: %s; what is not judged waits", self._farm.url, why)
        if before and not why:
            log.warning("%s answers again after %.0f s", self._farm.url, time.monotonic() - before[0])
        return why or ""


class _Closed(Exception):
    """The judge was closed while a job waited for the farm."""
