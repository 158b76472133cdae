"""Fills the buffers before training: from one identity triplet, or an imported file, by the model itself.

Deduction and abduction play the same triplets and share what is found; other kinds find their own, at last those that
take their programs from the others, as induction. No gradient. After every round the state is written down, so a killed
seeding goes on where it was. A model that does not get there in `max_rounds` is told why, with its most frequent
mistakes.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from azr_jax.config.schema import Config
from azr_jax.executor.jobs import UNJUDGED
from azr_jax.selfplay.event_loop import EventLoop, RequestId, Stage
from azr_jax.selfplay.proposing import CONTAMINATION, Proposer, draw
from azr_jax.selfplay.results import Proposed
from azr_jax.tasks.buffers import Unkept, read_seed_file
from azr_jax.tasks.kind import KindFailed, asked, seeded_together, seeds_of
from azr_jax.tasks.prompts import PromptTooLong
from azr_jax.tasks.types import Kind, Proposal, Task, Validation

log = logging.getLogger(__name__)

SEEDING = 0  # the iteration whose randomness it has: training begins with 1, and with the same request ids
SAMPLES = 3  # proposals shown where seeding gives up


class SeedingFailed(RuntimeError):
    """The model does not produce valid proposals, or a seed file holds nothing to play."""


@dataclass
class Missed:
    """What did not become a new task, for the message of a seeding that gives up."""

    reasons: Counter[str] = field(default_factory=Counter[str])
    samples: list[str] = field(default_factory=list[str])

    def add(self, reason: str, proposed: Proposed) -> None:
        self.reasons[reason] += 1
        self.samples = [*self.samples, proposed.completion.text][-SAMPLES:]


@dataclass
class Seeding:
    config: Config
    slots: int  # completions the engine samples side by side, all its replicas together: a round fills them
    loop: EventLoop
    proposer: Proposer
    state_file: Path
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None
    stop_asked: Callable[[], bool] = lambda: False
    on_written: Callable[[], None] = lambda: None  # the state file, and what it speaks of
    refused: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # rows: reason, program
    _state: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self.proposer.buffers)

    @property
    def target(self) -> int:
        """Tasks that each buffer starts with: S x B."""
        return self.config.seeding.factor * self.config.batch_size

    def fill(self) -> bool:
        """True when every buffer is full; False when asked to stop before that."""
        if not self._resume():
            self._first()
        return all(self._fill_together(kinds) for kinds in seeded_together(self.kinds))

    def _fill_together(self, kinds: tuple[Kind, ...]) -> bool:
        name, missed = " and ".join(kinds), Missed()
        rounds = self._state["rounds"].get(name, 0)
        while (found := min(len(self.proposer.buffers[kind]) for kind in kinds)) < self.target:
            if self.stop_asked():
                return False
            if rounds >= self.config.seeding.max_rounds:
                raise SeedingFailed(self._why(name, rounds, found, missed))
            proposals = self._round(kinds, self._state["asked"].get(name, 0))
            self._keep(proposals, kinds, missed)
            rounds += 1
            self._state["rounds"][name] = rounds
            self._state["asked"][name] = proposals[-1].index + 1
            self._write()
            found = min(len(self.proposer.buffers[kind]) for kind in kinds)
            self.on_progress(name, min(found, self.target), self.target)
        return True

    def _round(self, kinds: tuple[Kind, ...], first: int) -> list[Proposed]:
        """As many proposals as the engine has slots, with ids that no other round has: of each kind from `first` on."""
        # With all its words: nothing is learned from seeds, and every round would do without the same ones.
        config = replace(self.config, rollout=replace(self.config.rollout, propose_vocab_dropout=0.0))
        if config.seeding.strip:
            config = replace(config, tasks=replace(config.tasks, strip_comments=True, strip_globals=True))
        proposer = replace(self.proposer, config=config)
        size = max(1, self.slots // len(kinds))
        jobs = [
            proposer.propose(
                kind,
                RequestId(Stage.PROPOSE, kind.number, index),
                draw(config.seed, SEEDING, f"seed/{kind}/{index}"),
            )
            for kind in kinds
            for index in range(first, first + size)
        ]
        try:
            return self.loop.run(jobs)
        except PromptTooLong as error:
            limit = config.rollout.max_prompt_tokens
            raise SeedingFailed(f"rollout.max_prompt_tokens={limit}: {error}; give it more") from error

    def _keep(self, proposals: Iterable[Proposed], kinds: tuple[Kind, ...], missed: Missed) -> None:
        for proposed in proposals:
            if proposed.task is None:
                missed.add(proposed.refusal, proposed)
            elif reason := self._append(proposed.task, kinds, proposed.references, most=self.target):
                missed.add(reason, proposed)

    def _append(self, task: Task, kinds: tuple[Kind, ...], references: tuple[int, ...], most: int | None = None) -> str:
        """Into each buffer that has not `most` already. Says why where none of them took it."""
        if task.program in self.proposer.reserved:
            return CONTAMINATION
        why_not = {kind: self.proposer.prompter.why_not(kind, task) for kind in kinds}
        buffers = [self.proposer.buffers[kind] for kind, reason in why_not.items() if not reason]
        if not buffers:
            return next(iter(why_not.values()))
        try:
            found = [
                buffer.append(task, iteration=SEEDING, references=references, seed=True)
                for buffer in buffers
                if most is None or len(buffer) < most
            ]
        except KindFailed:
            log.exception("a task is no seed for it")
            return UNJUDGED
        unkept = [one for one in found if isinstance(one, Unkept)]
        return unkept[0] if unkept and len(unkept) == len(found) else ""

    def _first(self) -> None:
        """The tasks nobody proposed: the first of each kind that has one, and the imported file."""
        self._state = {"rounds": {}, "asked": {}, "buffers": None}
        asked_first = [asked(kind, "first", gives=Proposal, or_none=True) for kind in self.kinds]
        firsts = [proposal for proposal in asked_first if proposal is not None]
        for proposal, validation in zip(firsts, self._validate(firsts), strict=True):
            if validation.task is None:
                why = f"{validation.reason} {validation.detail}"
                raise SeedingFailed(f"the executor refused {proposal.program!r}: {why}")
            self._append(validation.task, (proposal.kind,), ())
        if self.config.seeding.import_from:
            self._import(list(read_seed_file(Path(self.config.seeding.import_from), self.kinds)))
        self._write()

    def _import(self, proposals: list[Proposal]) -> None:
        """Every row is validated anew; what is refused is listed."""
        groups = seeded_together(self.kinds)
        for proposal, validation in zip(proposals, self._validate(proposals), strict=True):
            kinds = next((group for group in groups if seeds_of(group[0]) == seeds_of(proposal.kind)), ())
            refusal = validation.reason if kinds else "of a kind that is not played"
            if validation.task is not None and kinds:
                refusal = self._append(validation.task, kinds, ())
            if refusal:
                self.refused.append((refusal, proposal.program))
        reasons = self.refused_reasons()
        if reasons.total() == len(proposals) and Unkept.DUPLICATE not in reasons:
            listed = "".join(f"\n  {count:5d}  {reason}" for reason, count in reasons.most_common())
            raise SeedingFailed(
                f"seeding.import_from={self.config.seeding.import_from}: none of its {len(proposals)} rows is a task "
                f"that can be played; give another file, or none. Why rows were refused:{listed}"
            )

    def _validate(self, proposals: list[Proposal]) -> list[Validation]:
        return self.loop.run([self.proposer.job(proposal) for proposal in proposals])

    def refused_reasons(self) -> Counter[str]:
        """Of the imported file's rows."""
        return Counter(reason for reason, _ in self.refused)

    def _resume(self) -> bool:
        state = self.loop.hosts.from_first(
            lambda: json.loads(self.state_file.read_text()) if self.state_file.exists() else None
        )
        if state is None:
            return False
        self._state = state
        self.proposer.buffers.load(self._state["buffers"])
        return True

    def _write(self) -> None:
        self._state["buffers"] = self.proposer.buffers.cursor()
        if not self.loop.hosts.first:
            return
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._state))
        temporary.replace(self.state_file)
        self.on_written()

    def _why(self, name: str, rounds: int, found: int, missed: Missed) -> str:
        lines = [
            f"seeding of {name} gave up after {rounds} rounds with {found} of {self.target} tasks "
            f"(seeding.max_rounds, of {self.slots} proposals each). Why proposals were refused, most frequent "
            "first:"
        ]
        lines += [f"  {count:5d}  {reason}" for reason, count in missed.reasons.most_common(5)]
        lines += [f"--- a proposal of the model ---\n{text}" for text in missed.samples]
        lines.append(
            "What helps: another tasks.prompt_style, fewer tasks.references, a lower rollout.temperature, a larger "
            "model, rollout.stop_at_answer=true where texts go on after their answer, or "
            "seeding.import_from=<a seed file>."
        )
        return "\n".join(lines)
