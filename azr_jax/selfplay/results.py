"""What jobs return, whole and frozen: proposals with attempts, solutions. scoring.py gives copies with rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from azr_jax.rollout.engine import Rollout
from azr_jax.tasks.buffers import Entry, Unkept
from azr_jax.tasks.novelty import Traits
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Task, Validation, Verdict


@dataclass(frozen=True)
class Completion:
    """One prompt and what the model wrote after it."""

    prompt: tuple[int, ...]
    rollout: Rollout
    text: str


@dataclass(frozen=True)
class Scored:
    """A completion and what it was worth."""

    kind: Kind
    completion: Completion
    reward_parts: Mapping[str, float] = field(default_factory=dict[str, float], kw_only=True)
    advantage: float = field(default=0.0, kw_only=True)

    @property
    def reward(self) -> float:
        return sum(self.reward_parts.values())

    @property
    def key(self) -> tuple[int, int]:
        """No other completion of its iteration has it."""
        return self.completion.rollout.request.id, self.completion.rollout.sample


S = TypeVar("S", bound=Scored)


@dataclass(frozen=True)
class Solved(Scored):
    """One attempt at one task. `verdict` is None when the completion held no answer to judge."""

    task: Task
    task_id: int  # attempts with the same id are attempts at the same task
    answer: Answer | FormatError
    verdict: Verdict | None = None

    @property
    def score(self) -> float:
        return self.verdict.score if self.verdict else 0.0

    @property
    def correct(self) -> bool:
        return self.verdict is not None and self.verdict.correct


def renamed(solved: Iterable[Solved], ids: Mapping[int, int]) -> tuple[Solved, ...]:
    """With the ids that their tasks have since they were kept."""
    return tuple(replace(one, task_id=ids.get(one.task_id, one.task_id)) for one in solved)


@dataclass(frozen=True)
class Proposed(Scored):
    """One proposal: what was asked with, what came, whether it became a task, and how hard that task is."""

    index: int
    references: tuple[int, ...]  # ids of the buffer entries shown
    dropped_references: int  # taken out because the prompt was too long
    functions: tuple[str, ...]  # g1, g2, ...: what the program has to call
    proposal: Proposal | FormatError
    validation: Validation | None = None  # None: nothing to validate
    traits: Traits | None = None  # of what the executor accepted
    kept: Entry | Unkept | None = None  # None: no task
    attempts: tuple[Solved, ...] = ()
    program: str = ""  # what it was asked about, where it has no program of its own

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


@dataclass(frozen=True)
class Played:
    """All that one iteration sampled, in the order in which it was asked for."""

    iteration: int
    proposed: Mapping[Kind, tuple[Proposed, ...]]
    solved: Mapping[Kind, tuple[Solved, ...]]
    waited_s: float = 0.0  # the device had nothing to do because a verdict was awaited

    def __iter__(self) -> Iterator[Scored]:
        for kind, proposals in self.proposed.items():
            for proposed in proposals:
                yield proposed
                yield from proposed.attempts
            yield from self.solved[kind]

    def with_each(self, changes: Callable[[Scored], Mapping[str, Any]]) -> Played:
        """A copy whose proposals, attempts and solutions have these fields changed."""

        def changed(one: S) -> S:
            attempts: dict[str, Any] = (
                {"attempts": tuple(map(changed, one.attempts))} if isinstance(one, Proposed) else {}
            )
            return replace(one, **changes(one), **attempts)

        return replace(
            self,
            proposed={kind: tuple(map(changed, every)) for kind, every in self.proposed.items()},
            solved={kind: tuple(map(changed, every)) for kind, every in self.solved.items()},
        )
