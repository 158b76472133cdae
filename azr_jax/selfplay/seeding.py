"""Fills the buffers before training: from one identity triplet, or an imported file, by the model itself.

Deduction and abduction play the same triplets and share what is found; error finds its own; induction takes its
programs from the others. No gradient. After every round the state is written down, so a killed seeding goes on where
it was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from azr_jax.executor.jobs import Validate
from azr_jax.selfplay.iteration import Stage, request_id
from azr_jax.selfplay.played import Proposed
from azr_jax.selfplay.proposing import Proposer, draw
from azr_jax.tasks.buffers import read_seed_file
from azr_jax.tasks.types import Kind, Proposal, Validation

IDENTITY = "def f(x):\n    return x", "'Hello World'"
TOGETHER = ((Kind.DEDUCTION, Kind.ABDUCTION), (Kind.ERROR,), (Kind.INDUCTION,))


class SeedingFailed(RuntimeError):
    """The model does not produce valid proposals."""


@dataclass(frozen=True)
class SeedSettings:
    seed: int
    kinds: tuple[Kind, ...]
    slots: int  # completions the engine samples side by side: a round fills them
    target: int  # tasks each buffer starts with: S x B
    max_rounds: int
    import_from: str


@dataclass
class Seeding:
    settings: SeedSettings
    proposer: Proposer
    state_file: Path
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None
    stop_asked: Callable[[], bool] = lambda: False
    refused: list[tuple[str, str]] = field(default_factory=list)  # of the imported file: (reason, program)
    _state: dict = field(default_factory=dict)

    def fill(self) -> bool:
        """True when every buffer is full; False when asked to stop before that."""
        buffers, target = self.proposer.buffers, self.settings.target
        if not self._resume():
            self._first()
        for together in TOGETHER:
            kinds = tuple(kind for kind in together if kind in self.settings.kinds)
            name = " and ".join(kinds)
            rounds = self._state["rounds"].get(name, 0)
            reasons, misses = Counter[str](), []
            while kinds and min(len(buffers[kind]) for kind in kinds) < target:
                if self.stop_asked():
                    return False
                if rounds >= self.settings.max_rounds:
                    raise SeedingFailed(self._why(name, rounds, min(len(buffers[k]) for k in kinds), reasons, misses))
                proposals = self._round(kinds, rounds)
                self._keep(proposals, kinds)
                for missed in (p for p in proposals if p.task is None):
                    reasons[missed.refusal] += 1
                    misses.append(missed.completion.text)
                rounds += 1
                self._state["rounds"][name] = rounds
                self._write()
                self.on_progress(name, min(min(len(buffers[kind]) for kind in kinds), target), target)
        return True

    def _round(self, kinds: tuple[Kind, ...], number: int) -> list[Proposed]:
        """As many proposals as the engine has slots, in iteration 0, with ids that no other round has."""
        size = max(1, self.settings.slots // len(kinds))
        proposals: list[Proposed] = []
        done: list[Proposed] = []
        total = len(kinds) * size

        def came(proposed: Proposed) -> None:
            done.append(proposed)
            self.on_progress("sample", len(done), total)

        for kind in kinds:
            for index in range(number * size, (number + 1) * size):
                rng = draw(self.settings.seed, 0, f"seed/{kind}/{index}")
                proposals.append(self.proposer.ask(kind, index, request_id(Stage.PROPOSE, kind, index), rng, came))
        self.proposer.streams.run()
        return proposals

    def _keep(self, proposals: Iterable[Proposed], kinds: tuple[Kind, ...]) -> None:
        for proposed in proposals:
            for kind in kinds:
                if proposed.task is not None and len(self.proposer.buffers[kind]) < self.settings.target:
                    buffer = self.proposer.buffers[kind]
                    buffer.append(proposed.task, iteration=0, references=proposed.references, seed=True)

    def _first(self) -> None:
        """The tasks nobody proposed: the identity triplet for every kind of triplet, and the imported file."""
        self._state = {"rounds": {}, "buffers": None}
        program, value = IDENTITY
        wanted: list[tuple[Proposal, tuple[Kind, ...]]] = [
            (Proposal(kind, program, (value,)), (kind,)) for kind in self.settings.kinds if kind != Kind.INDUCTION
        ]
        if self.settings.import_from:
            for proposal in read_seed_file(Path(self.settings.import_from)):
                together = next(kinds for kinds in TOGETHER if proposal.kind in kinds)
                wanted.append((proposal, tuple(kind for kind in together if kind in self.settings.kinds)))
        validations = self._validate([proposal for proposal, _ in wanted])
        for (proposal, kinds), validation in zip(wanted, validations, strict=True):
            if validation.task is None:
                self.refused.append((validation.reason, proposal.program))
                continue
            for kind in kinds:
                self.proposer.buffers[kind].append(validation.task, iteration=0, references=(), seed=True)
        self._write()

    def _validate(self, proposals: list[Proposal]) -> list[Validation]:
        """Verdicts come in any order; they are returned in the order of the proposals."""
        validations: dict[int, Validation] = {}
        for index, proposal in enumerate(proposals):
            job = Validate(proposal, shown=self.proposer.shown)
            self.proposer.streams.judge(job, partial(validations.__setitem__, index))
        self.proposer.streams.run()
        return [validations[index] for index in range(len(proposals))]

    def refused_reasons(self) -> Counter[str]:
        """Of the imported file's rows."""
        return Counter(reason for reason, _ in self.refused)

    def _resume(self) -> bool:
        if not self.state_file.exists():
            return False
        self._state = json.loads(self.state_file.read_text())
        self.proposer.buffers.load(self._state["buffers"])
        return True

    def _write(self) -> None:
        self._state["buffers"] = self.proposer.buffers.cursor()
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._state))
        temporary.replace(self.state_file)

    def _why(self, name: str, rounds: int, found: int, reasons: Counter[str], misses: list[str]) -> str:
        lines = [
            f"seeding of {name} gave up after {rounds} rounds with {found} of {self.settings.target} tasks "
            "(seeding.max_rounds, of rollout.slots proposals each). Why proposals were refused, most frequent first:"
        ]
        lines += [f"  {count:5d}  {reason}" for reason, count in reasons.most_common(5)]
        lines += [f"--- a proposal of the model ---\n{text}" for text in misses[-3:]]
        lines.append(
            "What helps: another tasks.prompt_style, fewer tasks.references, a lower rollout.temperature, a larger "
            "model, or seeding.import_from=<a seed file>."
        )
        return "\n".join(lines)
