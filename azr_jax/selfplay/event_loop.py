"""Sampling and judging side by side: each finished completion, and each finished verdict, goes to a callback at once.

Everything runs on one thread, the caller's: the executor's own thread only drops finished futures into a queue. So
callbacks need no locks, and what they submit (a new task's estimate attempts, say) joins the work already under way.

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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from azr_jax.executor.jobs import Validate
from azr_jax.executor.judge import Judge
from azr_jax.executor.verdict_codec import from_plain, to_plain
from azr_jax.parallel.hosts import Hosts
from azr_jax.rollout.engine import Engine, Request, Rollout

ASK_AGAIN_S = 0.05  # how soon a verdict is told to the other processes where all wait for one


class Streams:
    def __init__(self, engine: Engine, executor: Judge, hosts: Hosts | None = None):
        self.engine, self.executor, self.hosts = engine, executor, hosts or Hosts()
        self.to_come: dict[int, int] = {}  # completions still to come, by request id, the oldest first
        self.judging: dict[int, Any] = {}  # what the executor was asked and has not answered, the oldest first
        self.doing = ""  # whose callback is running
        self.waited_s = 0.0  # time the device had nothing to do because a verdict was awaited
        self._on_rollout: dict[int, Callable[[Rollout], None]] = {}
        self._on_verdict: dict[int, Callable[[Any], None]] = {}
        self._judged: queue.SimpleQueue[tuple[int, Future]] = queue.SimpleQueue()  # by this process's executor
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
        self._on_verdict[number] = then
        self._judge_total += 1
        if number % self.hosts.count == self.hosts.index:
            self.executor.submit(job).add_done_callback(lambda future: self._judged.put((number, future)))

    def run(self) -> None:
        """Until nothing is being sampled and nothing is being judged."""
        while self.to_come or self.judging:
            self._check()
            with self._stage("round" if self.to_come else "verdict"):
                for rollout in self.engine.step() if self.to_come else ():
                    self._hand_over(rollout)
                self._deliver(wait=bool(self.judging) and not self.to_come)

    def _hand_over(self, rollout: Rollout) -> None:
        request = rollout.request.id
        self.to_come[request] -= 1
        then = self._on_rollout[request]
        if not self.to_come[request]:
            del self.to_come[request], self._on_rollout[request]
        self._call(f"request {request}, sample {rollout.sample}", then, rollout)

    def _deliver(self, *, wait: bool) -> None:
        """Hands over the verdicts that are in, the oldest question first; with `wait`, at least one of those out."""
        for number, verdict in self._verdicts(wait=wait):
            job, then = self.judging.pop(number), self._on_verdict.pop(number)
            self._judged_ever += 1
            self._show("execute", self._judged_ever, self._judge_total)
            self._call(f"the verdict on {type(job).__name__} {number}", then, verdict)

    def _verdicts(self, *, wait: bool) -> list[tuple[int, Any]]:
        """(number, verdict) of what any process has, the same list in all of them."""
        started = time.perf_counter()
        while True:
            found = self._finished(wait=wait)
            if self.hosts.count > 1:
                told = self.hosts.gather([(number, to_plain(verdict)) for number, verdict in found])
                found = [(number, self._answer(number, plain)) for of_one in told for number, plain in of_one]
            if found or not wait:
                self.waited_s += time.perf_counter() - started if wait else 0.0
                return sorted(found, key=lambda pair: pair[0])

    def _answer(self, number: int, plain: dict[str, Any]) -> Any:
        job = self.judging[number]
        return from_plain(plain, job.proposal.kind.task_type) if isinstance(job, Validate) else from_plain(plain)

    def _finished(self, *, wait: bool) -> list[tuple[int, Any]]:
        """What this process's executor has answered. Alone, it waits for an answer; others may have one meanwhile."""
        found = []
        patience = ASK_AGAIN_S if self.hosts.count > 1 else None
        with contextlib.suppress(queue.Empty):
            while True:
                number, future = self._judged.get(block=wait and not found, timeout=patience)
                found.append((number, future.result()))
        return found

    def _call(self, about: str, then: Callable[[Any], None], what: Any) -> None:
        self.doing = about
        then(what)
        self.doing = ""
