"""One iteration of self-play: propose -> validate -> estimate -> solve, streaming.

    play       buffers give references, prompts make B propose requests per kind
    proposed   a finished proposal is parsed and goes to the executor at once (proposing.py);
               if it became a task, that task at once becomes n estimate requests
    settled    when a kind has all its proposals back, its solve batch is drawn and queued behind
    answered   a finished attempt is parsed and goes to the executor at once; verdicts come in beside the sampling

Nothing waits for a phase to end that does not need it. What each completion is worth is decided in scoring.py; the
update happens in train.py. What is drawn and sampled depends on the seed and the iteration alone, never on the order
in which completions and verdicts happen to arrive.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Literal

from azr_jax.executor.jobs import Verify
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.asking import Question
from azr_jax.selfplay.played import Completion, Played, Proposed, Solved
from azr_jax.selfplay.proposing import Proposer, draw
from azr_jax.tasks.parsing import parse_answer
from azr_jax.tasks.types import FormatError, Kind, Task, Verdict


class Stage(IntEnum):
    PROPOSE = 0
    ESTIMATE = 1
    SOLVE = 2


def request_id(stage: Stage, kind: Kind, index: int) -> int:
    """The same work has the same id in every run of the same seed: the engine draws its randomness from it."""
    return (stage << 28) | (list(Kind).index(kind) << 24) | index


@dataclass(frozen=True)
class PlaySettings:
    seed: int
    kinds: tuple[Kind, ...]
    batch: int  # B
    estimate_attempts: int  # n; 0: nobody asks how hard tasks are, because nobody learns to propose
    induction_reward: Literal["binary", "fraction"]
    solve_sampling: str


class Iteration:
    """Plays one iteration. `on_progress(stage, done, total)` is called as completions come in."""

    def __init__(
        self,
        number: int,
        settings: PlaySettings,
        proposer: Proposer,
        on_progress: Callable[[Stage, int, int], None] = lambda stage, done, total: None,
    ):
        self.number, self.settings, self.proposer, self.on_progress = number, settings, proposer, on_progress
        self.asker, self.streams, self.buffers = proposer.asker, proposer.streams, proposer.buffers
        self.played = Played(number)
        self._unsettled = dict.fromkeys(settings.kinds, settings.batch)
        self._done = dict.fromkeys(Stage, 0)
        self._total = dict.fromkeys(Stage, 0)

    def play(self) -> Played:
        started, waited = time.perf_counter(), self.streams.waited_s
        for kind in self.settings.kinds:
            self._expect(Stage.PROPOSE, self.settings.batch)
            self.played.proposed[kind] = [
                self.proposer.ask(
                    kind,
                    index,
                    request_id(Stage.PROPOSE, kind, index),
                    draw(self.settings.seed, self.number, f"propose/{kind}/{index}"),
                    self._proposed,
                )
                for index in range(self.settings.batch)
            ]
        self.streams.run()
        self._put_in_order()
        self.played.seconds = time.perf_counter() - started
        self.played.waited_s = self.streams.waited_s - waited
        return self.played

    def _proposed(self, proposed: Proposed) -> None:
        self._advance(Stage.PROPOSE)
        if proposed.task is not None and self.settings.estimate_attempts:
            n = self.settings.estimate_attempts
            self._expect(Stage.ESTIMATE, n)
            self._attempt(
                Stage.ESTIMATE, proposed.kind, proposed.index, proposed.task, proposed.index, n, proposed.attempts
            )
        self._unsettled[proposed.kind] -= 1
        if not self._unsettled[proposed.kind]:
            self._settled(proposed.kind)

    def _settled(self, kind: Kind) -> None:
        new = []
        for proposed in self.played.proposed[kind]:
            if proposed.task is not None:
                entry = self.buffers[kind].append(proposed.task, iteration=self.number, references=proposed.references)
                if entry is not None:
                    proposed.entry_id = entry.id
                    new.append(entry)
        rng = draw(self.settings.seed, self.number, f"solve/{kind}")
        batch = self.buffers[kind].sample_solve(self.settings.batch, new, rng, self.settings.solve_sampling)
        self.played.solved[kind] = []
        self._expect(Stage.SOLVE, len(batch))
        for index, entry in enumerate(batch):
            self._attempt(Stage.SOLVE, kind, index, entry.task, entry.id, 1, self.played.solved[kind])

    def _attempt(
        self, stage: Stage, kind: Kind, index: int, task: Task, task_id: int, n: int, attempts: list[Solved]
    ) -> None:
        """Queues n attempts at one task; each is added to `attempts` as it comes."""
        question = self.asker.solve(kind, task)
        then = partial(self._answered, stage, kind, task, task_id, attempts, question)
        self.streams.sample(self.asker.request(request_id(stage, kind, index), question, n), then)

    def _answered(
        self,
        stage: Stage,
        kind: Kind,
        task: Task,
        task_id: int,
        attempts: list[Solved],
        question: Question,
        rollout: Rollout,
    ) -> None:
        self._advance(stage)
        completion = Completion(question.tokens, rollout, self.asker.text(question, rollout))
        solved = Solved(kind, task, task_id, completion, parse_answer(kind, completion.text))
        attempts.append(solved)
        if isinstance(solved.answer, FormatError):
            return

        def judged(verdict: Verdict) -> None:
            solved.verdict = verdict

        self.streams.judge(Verify(kind, task, solved.answer, induction_reward=self.settings.induction_reward), judged)

    def _put_in_order(self) -> None:
        """Attempts arrived in any order: sort them by request and sample, then note each task's solve rate."""
        for kind in self.settings.kinds:
            self.played.solved[kind].sort(key=lambda solved: solved.completion.rollout.request.id)
            for proposed in self.played.proposed[kind]:
                proposed.attempts.sort(key=lambda attempt: attempt.completion.rollout.sample)
                if proposed.entry_id is not None and proposed.solve_rate is not None:
                    self.buffers[kind].set_solve_rate(proposed.entry_id, proposed.solve_rate)

    def _expect(self, stage: Stage, count: int) -> None:
        self._total[stage] += count
        self.on_progress(stage, self._done[stage], self._total[stage])

    def _advance(self, stage: Stage) -> None:
        self._done[stage] += 1
        self.on_progress(stage, self._done[stage], self._total[stage])
