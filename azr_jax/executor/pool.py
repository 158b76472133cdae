"""The executor as the trainer sees it: submit a job, get a future; a thread of its own does the rest.

Start it before JAX starts its threads. `submit` only puts the job in a queue and wakes the thread (and waits only
when the queue is full). The thread steps the jobs, hands their requests to idle zygotes, kills and replaces zygotes
that stop answering, and completes the futures; a future's callbacks run in that thread and must be short.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from azr_jax.executor.installed import paths_of
from azr_jax.executor.jobs import Gives, checked_job
from azr_jax.executor.judge import steps_of
from azr_jax.executor.link import ZygoteSettings
from azr_jax.executor.loop import Loop
from azr_jax.executor.refusal import refusal
from azr_jax.executor.settings import ExecutorSettings

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
# What must hold for model-written code to be run at all without `allow_weak`: the names are those of jail.probe.
MINIMUM = ("read", "write", "socket", "fork", "exec", "signal", "memory", "notice")


class WeakIsolation(RuntimeError):
    """This machine cannot hold what the executor has to hold."""


class Executor:
    """Runs and judges programs nobody trusts. A context manager; `submit` may be called from any thread."""

    def __init__(self, settings: ExecutorSettings | None = None) -> None:
        self.settings = settings or ExecutorSettings()
        workers = self.settings.workers or len(os.sched_getaffinity(0))
        self._room = threading.Semaphore(self.settings.queue)
        chosen = tuple(self.settings.packages)
        zygotes = ZygoteSettings(self.settings.memory_mb, self.settings.namespaces, chosen, tuple(paths_of(chosen)))
        self._loop = Loop(workers, zygotes, self._room.release)
        try:
            self._loop.wait_ready()
            self._check_walls()
        except BaseException:
            self._loop.close()
            raise

    @property
    def layers(self) -> str:
        """One line: the layers in force, and what the probe found open."""
        held = ", ".join(self._loop.held) or "nothing"
        return f"executor: layers {', '.join(self._loop.layers)}; open to programs: {held}"

    def submit(self, job: Gives[T]) -> Future[T]:
        """The job's future. Waits only while `settings.queue` jobs are unfinished."""
        known = checked_job(job)
        if not self._room.acquire(blocking=False):
            self._wait_for_room()
        future = Future[T]()
        try:
            self._loop.add(known, steps_of(known, self.settings), future)
        except BaseException:
            self._room.release()
            raise
        return future

    def stats(self) -> dict[str, float]:
        """Counts since the start and latency percentiles; see the table in docs/EXECUTOR.md."""
        return self._loop.snapshot()

    def pending(self) -> list[str]:
        """One line for each job not finished, the oldest first: what a watchdog prints when nothing moves."""
        return self._loop.pending()

    def health(self) -> str:
        """Empty if all is well, else one line."""
        return self._loop.trouble()

    def close(self) -> None:
        """Ends every process; jobs not finished get a RuntimeError."""
        self._loop.close()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait_for_room(self) -> None:
        begun = time.monotonic()
        while not self._room.acquire(timeout=1.0):
            self._loop.check_open()
        self._loop.waited(time.monotonic() - begun)

    def _check_walls(self) -> None:
        holes = [name for name in MINIMUM if name in self._loop.held]
        if holes and not self.settings.allow_weak:
            raise WeakIsolation(refusal(holes, self._loop.layers, self._loop.missing))
