"""Algorithm 1 of the paper, one iteration of it: propose -> validate -> estimate -> solve -> reward -> update.

The numbers on the right are the paper's lines. Nothing waits for a phase to end that does not need it: a finished
proposal is validated at once, a new task at once attempted, and a kind whose proposals are all back is solved while
other kinds still propose. What is drawn and sampled depends on the seed and the iteration alone, never on the order in
which completions and verdicts happen to arrive.

With `pipeline.mode=overlapped` proposals of iterations to come, and their estimates, are begun where slots stand empty
(`_begin_next`), and wait for their turn to be kept and solved: the buffers never know of an iteration to come. With
`pipeline.solve_after` below 1 they are solved before they are kept, as soon as so many of a kind are in (`_came`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

from azr_jax.config.schema import Config
from azr_jax.learner.advantages import Baselines
from azr_jax.learner.packing import TrainingSample
from azr_jax.selfplay import scoring
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop, Job, RequestId, Stage, Start, Started
from azr_jax.selfplay.proposing import Proposer, draw
from azr_jax.selfplay.results import Played, Proposed, Solved, renamed
from azr_jax.tasks.buffers import Entry, Unkept
from azr_jax.tasks.rewards import RewardSettings
from azr_jax.tasks.types import Kind, Task

Estimate = Started[list[Solved]] | None  # attempts that measure how hard a new task is
Asked = list[tuple[Proposed, Estimate]]
Turn = tuple[int, Kind]


@dataclass(frozen=True)
class SelfPlay:
    config: Config
    loop: EventLoop
    proposer: Proposer
    solver: Solver
    prices: RewardSettings
    baselines: Baselines | None = None  # of rae: they move on with every iteration
    may_begin: Callable[[], bool] = lambda: True  # something before its turn
    # Before their turn, or before they are kept:
    begun: dict[Turn, Started[Asked]] = field(default_factory=dict[Turn, Started[Asked]])
    came: dict[Turn, dict[int, Task | None]] = field(default_factory=lambda: defaultdict(dict))
    solving: dict[Turn, Started[list[list[Solved]]]] = field(default_factory=dict[Turn, Started[list[list[Solved]]]])

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self.proposer.buffers)

    def iteration(
        self,
        t: int,
        update: Callable[[int, Sequence[TrainingSample]], Mapping[str, float]],
        stage: Callable[[str], AbstractContextManager[None]],
    ) -> tuple[Played, dict[str, float]]:
        """What was played and what it was worth, and the numbers of what was learned from it."""
        with stage("play"):
            spare = partial(self._begin_next, t) if self.config.pipeline.ahead and self.may_begin() else None
            played = self.loop.run(self.play(t), spare=spare)  # 3-15
            played = scoring.with_rewards(played, self.prices)  # 16
        with stage("update"):
            chosen = scoring.learned_from(played, self.config)
            rng = draw(self.config.seed, t, "control")
            advantages, numbers = scoring.compute_advantages(chosen, self.config, rng, self.baselines)
            learned = update(t, scoring.training_samples(chosen, advantages, self.kinds, t))  # 17
        return scoring.with_advantages(played, advantages), {**learned, **numbers}

    def play(self, t: int) -> Job[Played]:
        waited, kinds = self.loop.waited_s, self.kinds
        both = yield [self._play_kind(t, kind) for kind in kinds]
        proposed, solved = ({kind: of_kind[i] for kind, of_kind in zip(kinds, both, strict=True)} for i in (0, 1))
        return Played(t, proposed, solved, self.loop.waited_s - waited)

    def _play_kind(self, t: int, kind: Kind) -> Job[tuple[tuple[Proposed, ...], tuple[Solved, ...]]]:
        asked: Asked = yield self.begun.pop((t, kind), None) or self._proposals(t, kind)  # 3-6, 8-11
        proposals = [proposed for proposed, _ in asked]
        if self.config.buffer.valid_program_filter != "all":
            proposals = yield from self._with_attempts(asked)
        proposals = [self.proposer.keep(proposed, t) for proposed in proposals]  # 7, 12
        new = [proposed.kept for proposed in proposals if isinstance(proposed.kept, Entry)]
        solved = yield self.solving.pop((t, kind), None) or self._solve(t, kind, new)  # 13-15
        estimates = [estimate for _, estimate in asked]
        proposals = yield from self._with_attempts(list(zip(proposals, estimates, strict=True)))
        ids = {proposed.key[0]: proposed.entry_id for proposed in proposals if proposed.entry_id is not None}
        proposals = [replace(proposed, attempts=renamed(proposed.attempts, ids)) for proposed in proposals]
        solved = renamed((solution for solutions in solved for solution in solutions), ids)
        self.came.pop((t, kind), None)
        self.proposer.note(kind, proposals, solved)
        return tuple(proposals), solved

    def _solve(self, t: int, kind: Kind, new: Sequence[Entry]) -> list[Job[list[Solved]]]:
        c, buffer = self.config, self.proposer.buffers[kind]
        rng = draw(c.seed, t, f"solve/{kind}")
        batch = buffer.sample_solve(c.batch_size, new, rng, c.buffer.solve_sampling)
        return [
            self.solver.attempts(kind, entry.task, entry.id, RequestId(Stage.SOLVE, kind.number, index, t), 1)
            for index, entry in enumerate(batch)
        ]

    def _begin_next(self, t: int) -> None:
        """The next iteration proposes before its turn, unless its tokens would be too old when they are used."""
        last = min(t + self.config.pipeline.ahead, self.config.iterations)
        number = next((n for n in range(t + 1, last + 1) if (n, self.kinds[0]) not in self.begun), None)
        if number is not None:
            for kind in self.kinds:
                self.begun[number, kind] = self.loop.start(self._proposals(number, kind))

    def _proposals(self, t: int, kind: Kind) -> list[Job[tuple[Proposed, Estimate]]]:
        return [self._propose(t, kind, b) for b in range(self.config.batch_size)]

    def _propose(self, t: int, kind: Kind, b: int) -> Job[tuple[Proposed, Estimate]]:
        """What became of a proposal, and the attempts at it where it is worth them, which go on."""
        c = self.config
        rng = draw(c.seed, t, f"propose/{kind}/{b}")  # 4, 9
        request = RequestId(Stage.PROPOSE, kind.number, b, t)
        proposed = yield from self.proposer.propose(kind, request, rng)  # 5-6, 10-11
        if c.pipeline.solve_after < 1:
            yield from self._came(t, kind, proposed)
        n, task = c.tasks.estimate_attempts, proposed.task
        if task is None or not c.tasks.rates_wanted:
            return proposed, None
        # In its turn the buffer stays as it is, so the answer is the same in any order; before it, a copy remains one.
        copies_count = c.rewards.duplicate == "full" or c.tasks.train_on_estimates
        if self.proposer.buffers[kind].holds(task) and not copies_count:
            return (replace(proposed, kept=Unkept.DUPLICATE) if (t, kind) in self.begun else proposed), None
        # The task has no id of a buffer yet; the proposal's is one that no entry has.
        request = RequestId(Stage.ESTIMATE, kind.number, b, t)
        return proposed, (yield Start(self.solver.attempts(kind, task, proposed.key[0], request, n)))

    def _came(self, t: int, kind: Kind, proposed: Proposed) -> Job[None]:
        """With the last proposal that is waited for the batch to solve is drawn, of tasks that are not kept yet."""
        came = self.came[t, kind]
        came[proposed.key[0]] = proposed.task
        if len(came) == math.ceil(round(self.config.pipeline.solve_after * self.config.batch_size, 9)):
            new = self.proposer.buffers[kind].would_keep(came, t)
            self.solving[t, kind] = yield Start(self._solve(t, kind, new))

    def _with_attempts(self, asked: Sequence[tuple[Proposed, Estimate]]) -> Job[list[Proposed]]:
        whole: list[Proposed] = []
        for proposed, estimate in asked:
            attempts: list[Solved] = (yield estimate) if estimate else []
            whole.append(replace(proposed, attempts=tuple(attempts)))
        return whole
