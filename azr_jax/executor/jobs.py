"""What can be asked of the executor, and what a plain run answers. Jobs are data; how each is done stands elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from azr_jax.executor.written import FORMS
from azr_jax.tasks.types import Answer, Kind, Proposal, Task, Validation, Verdict

T = TypeVar("T")


class Gives(Generic[T]):
    """What can be asked, and what its answer is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Validate(Gives[Validation]):
    """A proposal to be made a task."""

    proposal: Proposal
    shown: int = 5  # of an induction task's cases, how many the solver sees
    fewest: int = 2  # of an induction task's inputs, how many must be left: at least one shown and one hidden
    pairs: Literal["inducible", "as_given"] = "inducible"  # whether what is hidden has to follow from what is shown
    most: int = 64  # that may be given; where it equals `fewest`, each of exactly so many has to be good


@dataclass(frozen=True, slots=True)
class Verify(Gives[Verdict]):
    """An answer to be judged."""

    kind: Kind
    task: Task
    answer: Answer
    induction_reward: Literal["binary", "fraction"] = "binary"
    deduction_answer: Literal["literal", "operators", "any"] = "any"  # what counts as one (written.py)
    abduction_answer: Literal["literal", "operators", "any"] = "any"


@dataclass(frozen=True, slots=True)
class Run(Gives[tuple["Outcome", ...]]):
    """A program that defines `f`, and argument lists to call it with. Gives one Outcome for each."""

    program: str
    inputs: tuple[str, ...]
    timeout_s: float | None = None  # None: the executor's own


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call came to. `reason` is "ok", or a short fixed phrase that can be counted."""

    reason: str
    value: str | None = None  # the result in the codec, where there is one
    error: str | None = None  # the exception's class name, where one was raised
    detail: str = ""


Job = Validate | Verify | Run
SHORTEST_S, LONGEST_S = 0.001, 4e6  # a time limit: the zygote is told milliseconds, in 32 bits

UNJUDGED = "judging failed"


def unjudged(job: Job, error: BaseException) -> Validation | Verdict | tuple[Outcome, ...]:
    """What a job comes to where judging it raised: nobody is paid, and whoever waits for it goes on."""
    detail = _said_by(error)
    if isinstance(job, Validate):
        return Validation(None, UNJUDGED, detail)
    if isinstance(job, Verify):
        return Verdict(0.0, UNJUDGED, detail)
    return tuple(Outcome(UNJUDGED, detail=detail) for _ in job.inputs)


def _said_by(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:200]
    except BaseException:  # a class of a user's kind, whose own text raises
        return type(error).__name__[:200]


def is_limit(seconds: object) -> bool:
    """Whether it can be the time limit of a run."""
    return type(seconds) in (int, float) and SHORTEST_S <= seconds <= LONGEST_S  # type: ignore[operator]


def checked_job(job: object) -> Job:
    """Raises TypeError or ValueError for a job that its caller made wrongly, before anything is run."""
    if isinstance(job, Verify):
        right = job.kind.task_type
        if not isinstance(job.task, right):
            found = type(job.task).__name__
            raise TypeError(f"Verify.task: {found} for kind {job.kind}, {right.__name__} would be right")
        if job.induction_reward not in ("binary", "fraction"):
            raise ValueError(f"induction_reward: {job.induction_reward!r}, binary or fraction would be right")
        for field in ("deduction_answer", "abduction_answer"):
            if (form := getattr(job, field)) not in FORMS:
                raise ValueError(f"{field}: {form!r}, one of {', '.join(FORMS)} would be right")
    elif isinstance(job, Validate):
        if job.pairs not in ("inducible", "as_given"):
            raise ValueError(f"pairs: {job.pairs!r}, inducible or as_given would be right")
    elif isinstance(job, Run):
        if job.timeout_s is not None and not is_limit(job.timeout_s):
            raise ValueError(f"Run.timeout_s: {job.timeout_s!r}, {SHORTEST_S:g} to {LONGEST_S:.0f} s would be right")
    else:
        raise TypeError(f"submit: {type(job).__name__}, one of Validate, Verify, Run would be right")
    return job
