"""One iteration of self-play: propose -> validate -> estimate -> solve, streaming.

    play        buffers give references, prompts make B propose requests per kind, the engine samples
    _proposed   a finished proposal was parsed and validated at once (proposing.py);
                if it became a task, that task at once becomes n estimate requests, unless it is kept already
    _settled    when a kind has all its proposals back, its new tasks enter the buffer in the order in which they were
                asked for, so that of equal ones the first is new and the others are copies, even where their
                estimates are under way; its solve batch is drawn and queued behind
    _answered   a finished attempt was parsed and goes to the executor at once (attempting.py)

Nothing waits for a phase to end that does not need it. What each completion is worth is decided in scoring.py; the
update happens in run/. What is drawn and sampled depends on the seed and the iteration alone, never on the order
in which completions and verdicts happen to arrive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Literal

from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.proposing import Proposer, draw
from azr_jax.selfplay.results import Played, Proposed, Solved
from azr_jax.tasks.buffers import Entry, Unkept
from azr_jax.tasks.types import Kind, Task


class Stage(IntEnum):
    PROPOSE = 0
    ESTIMATE = 1
    SOLVE = 2


# Which valid tasks are kept, by their measured solve rate: the public code's names for it.
FILTERS: Mapping[str, Callable[[float], bool]] = {
    "all": lambda rate: True,
    "non_one": lambda rate: rate < 1.0,
    "non_extremes": lambda rate: 0.0 < rate < 1.0,
}


def request_id(stage: Stage, kind: Kind, index: int) -> int:
    """The same work has the same id in every run of the same seed: the engine draws its randomness from it."""
    return (stage << 28) | (kind.number << 24) | index


@dataclass(frozen=True)
class PlaySettings:
    seed: int
    kinds: tuple[Kind, ...]
    batch: int  # B
    estimate_attempts: int  # n; 0: nobody asks how hard tasks are, because nobody learns from it
    induction_reward: Literal["binary", "fraction"]
    solve_sampling: str
    deduction_answer: Literal["literal", "operators", "any"] = "any"
    abduction_answer: Literal["literal", "operators", "any"] = "any"
    valid_program_filter: str = "all"
    estimate_duplicates: bool = False  # False: of a task that is kept already nobody asks how hard it is


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
        self.streams, self.buffers = proposer.streams, proposer.buffers
        s = settings
        forms = s.deduction_answer, s.abduction_answer
        self.solver = Solver(proposer.asker, proposer.streams, s.induction_reward, *forms)
        self.played = Played(number)
        self._filters = settings.valid_program_filter != "all"
        self._unsettled = dict.fromkeys(settings.kinds, settings.batch)  # what a kind still waits for
        self._done = dict.fromkeys(Stage, 0)
        self._total = dict.fromkeys(Stage, 0)

    def play(self) -> Played:
        started, waited = time.perf_counter(), self.streams.waited_s
        for kind in self.settings.kinds:
            self._expect(Stage.PROPOSE, self.settings.batch)
            self.played.proposed[kind] = [self._propose(kind, index) for index in range(self.settings.batch)]
        self.streams.run()
        self._put_in_order()
        self.played.seconds = time.perf_counter() - started
        self.played.waited_s = self.streams.waited_s - waited
        return self.played

    def _propose(self, kind: Kind, index: int) -> Proposed:
        rng = draw(self.settings.seed, self.number, f"propose/{kind}/{index}")
        return self.proposer.ask(kind, index, request_id(Stage.PROPOSE, kind, index), rng, self._proposed)

    def _proposed(self, proposed: Proposed) -> None:
        kind, index, n = proposed.kind, proposed.index, self.settings.estimate_attempts
        self._advance(Stage.PROPOSE)
        if proposed.task is not None and n and self._worth_estimating(proposed.task, kind):
            self._expect(Stage.ESTIMATE, n)
            self._unsettled[kind] += n if self._filters else 0
            then = partial(self._answered, Stage.ESTIMATE, proposed.attempts)
            on_score = partial(self._one_less, kind) if self._filters else lambda: None
            # The task has no id of a buffer yet; the request's is one that no entry has.
            request = request_id(Stage.ESTIMATE, kind, index)
            self.solver.ask(kind, proposed.task, request, request, n, then, on_score)
        self._one_less(kind)

    def _one_less(self, kind: Kind) -> None:
        self._unsettled[kind] -= 1
        if not self._unsettled[kind]:
            self._settled(kind)

    def _worth_estimating(self, task: Task, kind: Kind) -> bool:
        """The buffer of a kind does not change while its proposals come in: the answer is the same in any order."""
        return self.settings.estimate_duplicates or not self.buffers[kind].holds(task)

    def _settled(self, kind: Kind) -> None:
        new = self._keep(self.played.proposed[kind])
        rng = draw(self.settings.seed, self.number, f"solve/{kind}")
        batch = self.buffers[kind].sample_solve(self.settings.batch, new, rng, self.settings.solve_sampling)
        solved = self.played.solved[kind] = []
        self._expect(Stage.SOLVE, len(batch))
        for index, entry in enumerate(batch):
            then = partial(self._answered, Stage.SOLVE, solved)
            self.solver.ask(kind, entry.task, entry.id, request_id(Stage.SOLVE, kind, index), 1, then)

    def _keep(self, proposals: list[Proposed]) -> list[Entry]:
        """In the order in which they were asked for, not in the order in which they came."""
        passes = FILTERS[self.settings.valid_program_filter]
        for proposed in proposals:
            rate, buffer = proposed.solve_rate, self.buffers[proposed.kind]
            if proposed.task and rate is not None and not passes(rate) and not buffer.holds(proposed.task):
                proposed.kept = Unkept.FILTERED
            else:
                self.proposer.keep(proposed, self.number)
        return [proposed.kept for proposed in proposals if isinstance(proposed.kept, Entry)]

    def _answered(self, stage: Stage, attempts: list[Solved], solved: Solved) -> None:
        attempts.append(solved)
        self._advance(stage)

    def _put_in_order(self) -> None:
        """Attempts arrived in any order: sort them by request and sample, then note in the buffers what they found."""
        for kind in self.settings.kinds:
            self.played.solved[kind].sort(key=lambda solved: solved.completion.rollout.request.id)
            for solved in self.played.solved[kind]:
                self.buffers[kind].note_attempt(solved.task_id, solved.correct)
            for proposed in self.played.proposed[kind]:
                proposed.attempts.sort(key=lambda attempt: attempt.completion.rollout.sample)
                if proposed.entry_id is not None and proposed.solve_rate is not None:
                    self.buffers[kind].set_solve_rate(proposed.entry_id, proposed.solve_rate)
                    for attempt in proposed.attempts:
                        attempt.task_id = proposed.entry_id

    def _expect(self, stage: Stage, count: int) -> None:
        self._total[stage] += count
        self.on_progress(stage, self._done[stage], self._total[stage])

    def _advance(self, stage: Stage) -> None:
        self._done[stage] += 1
        self.on_progress(stage, self._done[stage], self._total[stage])
