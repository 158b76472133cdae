"""Attempts at one task as a job, from request to verdicts: each is read as it comes and judged beside the sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from azr_jax.executor.jobs import Verify
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.event_loop import Job, RequestId, Sample
from azr_jax.selfplay.prompting import Prompter
from azr_jax.selfplay.results import Completion, Solved
from azr_jax.tasks.types import FormatError, Kind, Task, Verdict


@dataclass(frozen=True)
class Solver:
    prompter: Prompter
    induction_reward: Literal["binary", "fraction"] = "binary"
    deduction_answer: Literal["literal", "operators", "any"] = "any"
    abduction_answer: Literal["literal", "operators", "any"] = "any"

    def attempts(self, kind: Kind, task: Task, task_id: int, request: RequestId, n: int) -> Job[list[Solved]]:
        """N of them, in the order of their sample numbers; none where nobody can be asked."""
        if isinstance(question := self.prompter.solve(kind, task), str):
            return []

        def attempt(rollout: Rollout) -> Job[Solved]:
            completion = Completion(question.tokens, rollout, self.prompter.text(question.prompt, rollout))
            answer = self.prompter.read_answer(kind, completion.text, rollout)
            verdict: Verdict | None = None
            if not isinstance(answer, FormatError):
                forms = self.deduction_answer, self.abduction_answer
                verdict = yield Verify(kind, task, answer, self.induction_reward, *forms)
            return Solved(kind, completion, task, task_id, answer, verdict)

        attempts: list[Solved] = yield Sample(self.prompter.request(request, question, n), attempt)
        return attempts
