"""Sampling and judging side by side: each finished completion, and each finished verdict, goes to a callback at once.

Everything runs on one thread, the caller's: the executor's own thread only drops finished futures into a queue. So
callbacks need no locks, and what they submit (a new task's estimate attempts, say) joins the work already under way.

What is under way can be asked at any time, also from another thread: `to_come`, `judging`, `doing` (watching.py).
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from azr_jax.executor.pool import Executor
from azr_jax.rollout.engine import Engine, Request, Rollout


class Streams:
    def __init__(self, engine: Engine, executor: Executor):
        self.engine, self.executor = engine, executor
        self.to_come: dict[int, int] = {}  # completions still to come, by request id, the oldest first
        self.judging: dict[int, Any] = {}  # what the executor was asked and has not answered, the oldest first
        self.doing = ""  # whose callback is running
        self.waited_s = 0.0  # time the device had nothing to do because a verdict was awaited
        self._on_rollout: dict[int, Callable[[Rollout], None]] = {}
        self._judged: queue.SimpleQueue[tuple[int, Future, Callable[[Any], None]]] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._judged_ever = self._judge_total = 0
        self._show: Callable[[str, int, int], None] = lambda stage, done, total: None
        self._stage: Callable[[str], AbstractContextManager[None]] = lambda name: contextlib.nullcontext()
        self._check: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def shown(self, show: Callable[[str, int, int], None]) -> Iterator[None]:
        """Inside, `show("execute", done, total)` is told of every job of the executor."""
        before, self._show = self._show, show
        self._judged_ever = self._judge_total = 0
        try:
            yield
        finally:
            self._show = before

    def watched(self, stage: Callable[[str], AbstractContextManager[None]]) -> None:
        """From now on each round of sampling is inside `stage("round")`, each wait inside `stage("verdict")`."""
        self._stage = stage

    @contextlib.contextmanager
    def checked(self, check: Callable[[], None]) -> Iterator[None]:
        """Inside, `check()` is called before each round, and gives everything up by raising."""
        before, self._check = self._check, check
        try:
            yield
        finally:
            self._check = before

    def sample(self, request: Request, then: Callable[[Rollout], None]) -> None:
        self._on_rollout[request.id] = then
        self.to_come[request.id] = request.n
        self.engine.submit(request)

    def judge(self, job: Any, then: Callable[[Any], None]) -> None:
        number = next(self._numbers)
        self.judging[number] = job
        self._judge_total += 1
        self.executor.submit(job).add_done_callback(lambda future: self._judged.put((number, future, then)))

    def run(self) -> None:
        """Until nothing is being sampled and nothing is being judged."""
        while self.to_come or self.judging:
            self._check()
            with self._stage("round" if self.to_come else "verdict"):
                for rollout in self.engine.step() if self.to_come else ():
                    self._hand_over(rollout)
                self._deliver(wait=not self.to_come)

    def _hand_over(self, rollout: Rollout) -> None:
        request = rollout.request.id
        self.to_come[request] -= 1
        then = self._on_rollout[request]
        if not self.to_come[request]:
            del self.to_come[request], self._on_rollout[request]
        self._call(f"request {request}, sample {rollout.sample}", then, rollout)

    def _deliver(self, *, wait: bool) -> None:
        """Hands over the verdicts that are in; with `wait`, at least one of those still out."""
        started = time.perf_counter()
        while self.judging:
            try:
                number, future, then = self._judged.get(block=wait)
            except queue.Empty:
                return
            if wait:
                self.waited_s += time.perf_counter() - started
                wait = False
            job = self.judging.pop(number)
            self._judged_ever += 1
            self._show("execute", self._judged_ever, self._judge_total)
            self._call(f"the verdict on {type(job).__name__} {number}", then, future.result())

    def _call(self, about: str, then: Callable[[Any], None], what: Any) -> None:
        self.doing = about
        then(what)
        self.doing = ""
