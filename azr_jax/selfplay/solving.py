"""One task from request to verdicts: asked, the attempts parsed as they come and judged beside the sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from azr_jax.executor.jobs import Verify
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.asking import Asker
from azr_jax.selfplay.played import Completion, Solved
from azr_jax.selfplay.streams import Streams
from azr_jax.tasks.types import FormatError, Kind, Task, Verdict


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
