"""What can be asked of the executor, and what a plain run answers. Jobs are data; how each is done stands elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from azr_jax.tasks.types import Answer, Kind, Proposal, Task


@dataclass(frozen=True, slots=True)
class Validate:
    """A proposal to be made a task. Gives a Validation."""

    proposal: Proposal
    shown: int = 5  # of an induction task's cases, how many the solver sees
    fewest: int = 2  # of an induction task's inputs, how many must be left: at least one shown and one hidden
    most: int = 64  # that may be given; where it equals `fewest`, each of exactly so many has to be good


@dataclass(frozen=True, slots=True)
class Verify:
    """An answer to be judged. Gives a Verdict."""

    kind: Kind
    task: Task
    answer: Answer
    induction_reward: Literal["binary", "fraction"] = "binary"


@dataclass(frozen=True, slots=True)
class Run:
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
