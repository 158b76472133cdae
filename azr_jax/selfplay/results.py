"""What one iteration produced: proposals with their attempts, and solutions. Filled by iteration.py, read by the
learner's side (rewards, advantages), the metrics and the records.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from azr_jax.rollout.engine import Rollout
from azr_jax.tasks.buffers import Entry, Unkept
from azr_jax.tasks.traits import Traits
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Task, Validation, Verdict


@dataclass
class Completion:
    """One prompt and what the model wrote after it."""

    prompt: tuple[int, ...]
    rollout: Rollout
    text: str


@dataclass
class Solved:
    """One attempt at one task. `verdict` is None when the completion held no answer to judge."""

    kind: Kind
    task: Task
    task_id: int  # attempts with the same id are attempts at the same task
    completion: Completion
    answer: Answer | FormatError
    verdict: Verdict | None = None
    reward_parts: dict[str, float] = field(default_factory=dict)
    advantage: float = 0.0

    @property
    def reward(self) -> float:
        return sum(self.reward_parts.values())

    @property
    def score(self) -> float:
        return self.verdict.score if self.verdict else 0.0

    @property
    def correct(self) -> bool:
        return self.verdict is not None and self.verdict.correct


@dataclass
class Proposed:
    """One proposal: what was asked with, what came, whether it became a task, and how hard that task is."""

    kind: Kind
    index: int
    references: tuple[int, ...]  # ids of the buffer entries shown
    dropped_references: int  # taken out because the prompt was too long
    program: str = ""  # what an induction proposal was asked about
    shown: tuple[str, ...] = ()  # programs of the references
    functions: tuple[str, ...] = ()  # g1, g2, ...: what the program has to call
    completion: Completion = field(init=False)  # set when it has come
    proposal: Proposal | FormatError | None = None
    validation: Validation | None = None
    traits: Traits | None = None  # of what the executor accepted
    kept: Entry | Unkept | None = None  # None: no task
    attempts: list[Solved] = field(default_factory=list)
    reward_parts: dict[str, float] = field(default_factory=dict)
    advantage: float = 0.0

    @property
    def reward(self) -> float:
        return sum(self.reward_parts.values())

    @property
    def entry_id(self) -> int | None:
        return self.kept.id if isinstance(self.kept, Entry) else None

    @property
    def task(self) -> Task | None:
        return self.validation.task if self.validation else None

    @property
    def refusal(self) -> str:
        """Why it did not become a task; empty where it did."""
        if isinstance(self.proposal, FormatError):
            return self.proposal.reason
        return self.validation.reason if self.validation else ""

    @property
    def solve_rate(self) -> float | None:
        """Share of the estimate attempts that were right; None for what is no task or was not estimated."""
        return sum(a.correct for a in self.attempts) / len(self.attempts) if self.attempts else None


@dataclass
class Played:
    iteration: int
    proposed: dict[Kind, list[Proposed]] = field(default_factory=dict)
    solved: dict[Kind, list[Solved]] = field(default_factory=dict)
    waited_s: float = 0.0  # the device had nothing to do because a verdict was awaited
    seconds: float = 0.0
