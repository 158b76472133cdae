"""The watchdog of a run: which stages it has, how long each may take, and who knows what is waited for.

    watch = Watch(run)
    with watch.stage("update"): ...        # its deadline is the config's watchdog.update_s

On expiry, and on SIGUSR1, it tells: the requests under way with their tokens so far, the programs the executor has not
answered for, which job runs, the state of every process, and the stacks of all threads (monitor/watchdog.py).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from azr_jax.executor.jobs import Job, Run, Validate, Verify
from azr_jax.monitor.watchdog import Watchdog
from azr_jax.run.profiling import phase
from azr_jax.selfplay.event_loop import RequestId, Stage
from azr_jax.tasks.types import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from azr_jax.config.schema import WatchdogConfig
    from azr_jax.executor.judge import Judge
    from azr_jax.rollout.engine import Engine
    from azr_jax.selfplay.event_loop import EventLoop

STAGES = ("seed", "play", "evaluate", "round", "verdict", "update", "weights", "save", "report")


class Watch:
    def __init__(
        self,
        settings: WatchdogConfig,
        workdir: Path,
        loop: EventLoop,
        engine: Engine,
        executor: Judge,
        kinds: Iterable[Kind] = Kind,
        *,
        poll_s: float = 0.5,
    ):
        """Of several processes each has its own, which writes to watchdog.txt, watchdog_1.txt, ..."""
        self._deadlines = {name: getattr(settings, f"{name}_s") for name in STAGES}
        self._seconds: dict[str, float] = defaultdict(float)
        self.dog = Watchdog(workdir, loop.hosts.index, on_expiry=settings.on_expiry, poll_s=poll_s)
        self.dog.waiting_for("job", lambda: [loop.doing] if loop.doing else [])
        self.dog.waiting_for("sampling", lambda: requests(loop, engine, kinds))
        self.dog.waiting_for("executor", lambda: jobs(loop, executor))
        self.dog.watch_children(settings.process_s)
        loop.watched(self.stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        with self.dog.stage(name, self._deadlines[name]), phase(name):
            yield
        self._seconds[name] += time.perf_counter() - began

    def taken(self, *names: str) -> dict[str, float]:
        """`time/<stage>` of these stages since they were last asked for here."""
        return {f"time/{name}": self._seconds.pop(name, 0.0) for name in names}

    @contextmanager
    def on(self) -> Iterator[Watch]:
        """Inside, SIGUSR1 is answered where this is the main thread; afterwards nothing is watched any more."""
        if threading.current_thread() is threading.main_thread():
            self.dog.listen()
        try:
            yield self
        finally:
            self.dog.close()


def requests(loop: EventLoop, engine: Engine, kinds: Iterable[Kind] = Kind) -> list[str]:
    decoding = [
        f"{request_name(request, kinds)}, sample {sample}: {tokens} tokens so far"
        for request, sample, tokens in engine.under_way()
    ]
    to_come = list(loop.to_come.items())
    return decoding + [f"{request_name(request, kinds)}: {count} completions to come" for request, count in to_come]


def request_name(number: int, kinds: Iterable[Kind] = Kind) -> str:
    """`estimate induction/5`"""
    if not isinstance(number, RequestId):
        return f"request {number}"
    if number.stage == Stage.HELD_OUT:
        return f"held-out task {number.index} of suite {number.group}"
    kind = next((kind for kind in kinds if kind.number == number.group), number.group)
    return f"{number.stage.name.lower()} {kind}/{number.index}"


def jobs(loop: EventLoop, executor: Judge) -> list[str]:
    """What the executor says of its jobs, then the programs that are out, the oldest first."""
    return executor.pending() + [job_name(number, job) for number, job in list(loop.judging.items())]


def job_name(number: int, job: Job) -> str:
    """`Verify 12 (deduction): 'def f(x):\\n    return x', answer '3'`"""
    match job:
        case Validate(proposal):
            return f"Validate {number} ({proposal.kind}): {proposal.program!r}, inputs {', '.join(proposal.inputs)}"
        case Verify(kind, task, answer):
            return f"Verify {number} ({kind}): {task.program!r}, answer {answer.text!r}"
        case Run(program):
            return f"Run {number}: {program!r}"
