"""One task from request to verdicts: asked, the attempts parsed as they come and judged beside the sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from azr_jax.executor.jobs import Verify
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.event_loop import Streams
from azr_jax.selfplay.prompting import Asker
from azr_jax.selfplay.results import Completion, Solved
from azr_jax.tasks.types import FormatError, Kind, Task, Verdict

HELD_OUT_IDS = 3 << 28  # request ids above those of an iteration's own stages


@dataclass(frozen=True)
class Solver:
    asker: Asker
    streams: Streams
    induction_reward: Literal["binary", "fraction"]
    deduction_answer: Literal["literal", "operators", "any"]
    abduction_answer: Literal["literal", "operators", "any"]

    def ask(
        self,
        kind: Kind,
        task: Task,
        task_id: int,
        request_id: int,
        n: int,
        on_answer: Callable[[Solved], None],
        on_score: Callable[[], None] = lambda: None,
    ) -> None:
        """Queues n attempts. `on_answer` gets each as it comes; its verdict is filled in when it is known.

        `on_score` comes then, or at once for what is no answer.
        """
        question = self.asker.solve(kind, task)

        def finished(rollout: Rollout) -> None:
            completion = Completion(question.tokens, rollout, self.asker.text(question, rollout))
            answer = self.asker.read_answer(kind, completion.text, rollout)
            solved = Solved(kind, task, task_id, completion, answer)
            on_answer(solved)
            if isinstance(solved.answer, FormatError):
                on_score()
                return

            def judged(verdict: Verdict) -> None:
                solved.verdict = verdict
                on_score()

            forms = self.deduction_answer, self.abduction_answer
            job = Verify(kind, task, solved.answer, self.induction_reward, *forms)
            self.streams.judge(job, judged)

        self.streams.sample(self.asker.request(request_id, question, n), finished)


def attempt_all(
    asker: Asker, streams: Streams, tasks: Sequence[tuple[Kind, Task]], attempts: int, first_id: int = HELD_OUT_IDS
) -> list[list[float]]:
    """The score of every attempt, a list for each task."""
    solver = Solver(asker, streams, induction_reward="binary", deduction_answer="any", abduction_answer="any")
    solved: list[list[Solved]] = [[] for _ in tasks]
    for number, (kind, task) in enumerate(tasks):
        solver.ask(kind, task, number, first_id + number, attempts, solved[number].append)
    streams.run()
    return [[one.score for one in of_task] for of_task in solved]
