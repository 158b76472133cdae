"""The words of the project as frozen dataclasses: what a task, a proposal, an answer and a verdict are.

Programs, inputs and outputs are Python source text; nothing here runs or evaluates them. The gold value of a
task travels in `value`, in the executor's codec, and never in a form that has to be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from azr_jax.tasks.kind import Kind


class Role(StrEnum):
    PROPOSE = "propose"
    SOLVE = "solve"


@dataclass(frozen=True, slots=True)
class Triplet:
    """A task of kind deduction, abduction or error. The program's entry point is always `f`."""

    program: str
    input: str  # what stands between the parentheses of the call f(...)
    output: str  # the value as Python text, for prompts; for kind error the exception's name or NoError
    value: str  # the same value in the executor's codec: the gold that verdicts compare with


@dataclass(frozen=True, slots=True)
class InductionTask:
    """Several cases of one program. The solver sees the first `shown` of them and is judged on the rest."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: tuple[str, ...]
    message: str
    shown: int


Task = Triplet | InductionTask


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the proposer wrote, parsed. It becomes a task once the executor has validated it."""

    kind: Kind
    program: str
    inputs: tuple[str, ...]  # one input, or the ten of an induction proposal
    message: str = ""  # induction only


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver wrote, parsed: an expression, an argument list, a program or an exception's name."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class FormatError:
    """A completion without the asked-for blocks; `reason` is a short fixed phrase that can be counted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Validation:
    """The executor's word on a proposal: a task, or the reason there is none."""

    task: Task | None
    reason: str = ""  # a short fixed phrase that can be counted; empty when accepted
    detail: str = ""  # for people: the exception's text, the offending import, ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """The executor's word on an answer. `score` is in [0, 1]; `correct` means it is 1."""

    score: float
    reason: str  # "correct", "wrong value", "timeout", ...: a short fixed phrase that can be counted
    detail: str = ""

    @property
    def correct(self) -> bool:
        return self.score == 1.0
