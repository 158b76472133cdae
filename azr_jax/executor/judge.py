"""What self-play asks of whoever runs and judges programs, and how a job becomes steps that any of them can carry out.

There are two: the executor in its own processes (pool.py), and a farm of sandboxes behind HTTP (http_judge.py). Golds
and comparisons stay in this process with both: what travels is a program and inputs, what comes back are values.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from azr_jax.executor.jobs import Gives, Job, Run, Validate, Verify
from azr_jax.executor.said import check_requests, checked_answer
from azr_jax.executor.verify import run

if TYPE_CHECKING:
    from azr_jax.executor.cases import Steps
    from azr_jax.executor.settings import ExecutorSettings

T = TypeVar("T")


class Judge(Protocol):
    """`submit` may be called from any thread; every job comes to a result, or to a RuntimeError when closed before."""

    @property
    def layers(self) -> str:
        """One line for the start of a run: who runs programs, and what holds them."""
        ...

    def submit(self, job: Gives[T]) -> Future[T]: ...

    def stats(self) -> dict[str, float]:
        """Counts since the start and percentiles of times."""
        ...

    def pending(self) -> list[str]:
        """One line for each job not finished, the oldest first."""
        ...

    def health(self) -> str:
        """Empty if all is well; else one line that says what is wrong, since when."""
        ...

    def close(self) -> None:
        """Ends everything; jobs not finished get a RuntimeError."""
        ...


def steps_of(job: Job, settings: ExecutorSettings) -> Steps:
    """The job as a generator of requests that is sent their results and returns its own."""
    return run(job, settings.timeout_s) if isinstance(job, Run) else _asked_of_the_kind(job, settings)


def _asked_of_the_kind(job: Validate | Verify, settings: ExecutorSettings) -> Steps:
    """What the kind asks for and what it says are looked at before anybody acts on them: it may be anybody's code."""
    if isinstance(job, Validate):
        found = job.proposal.kind.validate(job, settings)
    else:
        found = job.kind.verify(job, settings)
    if not isinstance(found, Generator):
        return checked_answer(job, found)
    steps = cast("Steps", found)
    answer: object = None
    while True:
        try:
            asked = steps.send(answer)
        except StopIteration as stop:
            return checked_answer(job, stop.value)
        check_requests(asked)
        answer = yield asked
