"""What is noted of a proposal that became a task: metrics always, terms of its reward where they have a weight.

Where the program is not the proposer's, as in induction, only the answers of a task can earn it anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from azr_jax.tasks.history import History
from azr_jax.tasks.novelty import complexity, distance_to, halstead, squash
from azr_jax.tasks.types import Kind, Task

# A term is one half here: the medians of the public 7B seed programs.
HALF_COMPLEXITY, HALF_VOLUME = 3.0, 200.0


@dataclass(frozen=True, slots=True)
class Traits:
    complexity: int
    halstead: float  # volume
    lines: int
    ast_distance: float  # mean, to the references it was proposed with
    answer_diversity: float  # how rare its answer is among all kept so far
    nearest: float  # distance to the nearest task kept so far, those before it in its batch too
    mean_distance: float  # distance at the mean overlap with all of these

    @property
    def familiarity(self) -> dict[str, float]:
        """As numbers from 0 to 1, by the names of rewards.memory."""
        return {"nearest": 1.0 - self.nearest, "mean": 1.0 - self.mean_distance}

    def terms(self, kind: Kind) -> dict[str, float]:
        """As numbers from 0 to 1, by the names of rewards.intrinsic."""
        own = not kind.about_a_program
        return {
            "complexity": squash(self.complexity, HALF_COMPLEXITY) if own else 0.0,
            "halstead": squash(self.halstead, HALF_VOLUME) if own else 0.0,
            "ast_distance": self.ast_distance if own else 0.0,
            "answer_diversity": self.answer_diversity,
        }


def traits(task: Task, written: str, shown: Sequence[str], history: History) -> Traits:
    """`written` is the part of the program that the proposer wrote, `shown` are the programs it was shown."""
    return Traits(
        complexity=complexity(written),
        halstead=halstead(written).volume,
        lines=len(written.splitlines()),
        ast_distance=distance_to(written, shown),
        answer_diversity=history.surprise(task),
        nearest=history.nearest(task),
        mean_distance=history.mean_distance(task),
    )
