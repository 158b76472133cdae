"""One proposal from request to verdict: asked with tasks of the buffers, parsed, validated. Iterations and seeding
share it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from azr_jax.executor.jobs import Validate, unjudged
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.event_loop import Streams
from azr_jax.selfplay.prompting import Asker, Question
from azr_jax.selfplay.results import Completion, Proposed
from azr_jax.tasks.buffers import Buffers
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.kind import KindFailed
from azr_jax.tasks.leaks import leak
from azr_jax.tasks.programs import calls_parts, join_parts, rename_part, without_comments, without_globals
from azr_jax.tasks.prompts import PromptTooLong
from azr_jax.tasks.traits import traits
from azr_jax.tasks.types import FormatError, Kind, Proposal, Validation

log = logging.getLogger(__name__)

DRAWS = 100
NOT_NOVEL = "not novel"
CONTAMINATION = "of an evaluation"  # why a program that the run is measured on is refused


def draw(seed: int, iteration: int, purpose: str) -> random.Random:
    """A stream of its own for every purpose, so that a resumed run draws what it would have drawn."""
    return random.Random(f"{seed}/{iteration}/{purpose}")


@dataclass(frozen=True)
class ProposeSettings:
    references: int  # K
    reference_sampling: str
    shown: int  # pairs an induction solver will see
    inputs: int = 64  # the most an induction proposal may give
    fewest: int = 2  # of them, how many have to be good
    pairs: Literal["inducible", "as_given"] = "inducible"  # which of them are shown
    strip_comments: bool = False
    strip_globals: bool = False
    message_leak: float = 0.0  # a message that holds so much of its program as code is refused; 0: none is
    novelty_gate: float = 0.0  # what is nearer than this to anything ever kept is refused
    composite_probability: float = 0.0  # of a proposal that has to call programs of the buffer
    composite_most: int = 3
    limited: bool = False  # it does without the words dropped in the iteration


@dataclass(frozen=True)
class Proposer:
    asker: Asker
    streams: Streams
    buffers: Buffers
    settings: ProposeSettings
    reserved: Reserved = field(default_factory=Reserved)  # programs of the run's evaluations

    def ask(
        self, kind: Kind, index: int, request_id: int, rng: random.Random, on_done: Callable[[Proposed], None]
    ) -> Proposed:
        """Queues one request. `on_done` comes when the proposal has become a task, or is known to be none."""
        question, proposed = (self._about_a_program if kind.about_a_program else self._new)(kind, index, rng)
        then = partial(self._finished, proposed, question, on_done)
        request = self.asker.request(request_id, question, 1, limited=self.settings.limited)
        self.streams.sample(request, then)
        return proposed

    def _new(self, kind: Kind, index: int, rng: random.Random) -> tuple[Question, Proposed]:
        """Shown are K tasks of its own kind, and, at times, functions to call."""
        references = self.buffers[kind].sample_references(
            self.settings.references, rng, self.settings.reference_sampling
        )
        tasks, functions = [entry.task for entry in references], self._functions(kind, rng)
        stripped = self.settings.strip_globals
        try:
            question = self.asker.propose(kind, tasks, list(functions), stripped=stripped)
        except PromptTooLong:
            functions = {}
            question = self.asker.propose(kind, tasks, stripped=stripped)
        shown = references[: question.prompt.references]
        return question, Proposed(
            kind,
            index,
            references=(*(entry.id for entry in shown), *functions.values()),
            dropped_references=question.prompt.dropped,
            shown=tuple(entry.task.program for entry in shown),
            functions=tuple(functions),
        )

    def _functions(self, kind: Kind, rng: random.Random) -> dict[str, int]:
        """Programs of the buffer, their entry points renamed to g1, g2, ..., with the ids of their entries."""
        chance, functions = self.settings.composite_probability, dict[str, int]()
        if not chance or rng.random() >= chance:
            return functions
        for entry in self.buffers[kind].sample_references(rng.randint(1, self.settings.composite_most), rng):
            try:
                functions[rename_part(entry.task.program, len(functions) + 1)] = entry.id
            except ValueError:  # cannot be renamed safely
                continue
        return functions

    def _about_a_program(self, kind: Kind, index: int, rng: random.Random) -> tuple[Question, Proposed]:
        """Shown is one program of any kind's buffer; one too long to ask about gives way to another draw."""
        last: Exception | None = None
        for _ in range(DRAWS):
            entry = self.buffers.sample_program(rng)
            try:
                question = self.asker.propose(kind, [entry.task])
            except (PromptTooLong, KindFailed) as error:
                last = error
                continue
            return question, Proposed(kind, index, (entry.id,), 0, program=entry.task.program)
        if isinstance(last, KindFailed):
            raise last
        raise PromptTooLong(f"{DRAWS} programs drawn for {kind} proposals were all too long")

    def _finished(
        self, proposed: Proposed, question: Question, on_done: Callable[[Proposed], None], rollout: Rollout
    ) -> None:
        proposed.completion = Completion(question.tokens, rollout, self.asker.text(question, rollout))
        text, program = proposed.completion.text, proposed.program
        proposed.proposal = self.asker.read_proposal(proposed.kind, text, rollout, program)
        if isinstance(proposed.proposal, FormatError):
            on_done(proposed)
        elif not calls_parts(proposed.proposal.program, len(proposed.functions)):
            proposed.validation = Validation(None, "does not call the functions given")
            on_done(proposed)
        elif self._tells_the_program(proposed.proposal):
            proposed.validation = Validation(None, "the message holds the program")
            on_done(proposed)
        else:
            job = self.job(proposed.proposal, proposed.functions)

            def judged(validation: Validation) -> None:
                try:
                    proposed.validation = self._admitted(proposed, validation)
                except Exception as error:  # something that a program can do to a reader of ours: it is the one refused
                    log.exception("looking at an accepted proposal failed; it is refused")
                    refused = unjudged(job, error)
                    assert isinstance(refused, Validation)
                    proposed.validation = refused
                on_done(proposed)

            self.streams.judge(job, judged)

    def _tells_the_program(self, proposal: Proposal) -> bool:
        """A message may, or inputs that are shown beside it."""
        most, said = self.settings.message_leak, "\n".join([proposal.message, *proposal.inputs])
        return most > 0.0 and bool(proposal.message) and leak(proposal.program, said) >= most

    def job(self, proposal: Proposal, functions: Sequence[str] = ()) -> Validate:
        """What the executor is asked: the program without what is to be stripped, with the functions it calls."""
        program = proposal.program
        if not proposal.kind.about_a_program:  # there it was kept before
            program = without_comments(program) if self.settings.strip_comments else program
            program = without_globals(program) if self.settings.strip_globals else program
        s = self.settings
        whole = replace(proposal, program=join_parts(program, functions))
        return Validate(whole, shown=s.shown, fewest=s.fewest, pairs=s.pairs, most=s.inputs)

    def _admitted(self, proposed: Proposed, validation: Validation) -> Validation:
        """Notes the traits of what the executor accepted, and refuses what is too long or too near to what was kept."""
        task, kind = validation.task, proposed.kind
        if task is None:
            return validation
        if task.program in self.reserved:
            return Validation(None, CONTAMINATION)
        if reason := self.asker.why_not(kind, task):
            return Validation(None, reason)
        assert isinstance(proposed.proposal, Proposal)
        written = proposed.proposal.program if proposed.functions else task.program
        proposed.traits = traits(task, written, proposed.shown, self.buffers[kind].history)
        if proposed.traits.nearest < self.settings.novelty_gate:
            return Validation(None, NOT_NOVEL)
        self.buffers[kind].holds(task)  # a kind that fails at marking it does so here, where it costs this proposal
        return validation

    def keep(self, proposed: Proposed, iteration: int) -> None:
        """A task into its buffer, unless it is there, or too near to what was kept meanwhile, from its own batch."""
        task, buffer = proposed.task, self.buffers[proposed.kind]
        if task is None:
            return
        assert proposed.traits is not None
        history = buffer.history
        proposed.traits = replace(
            proposed.traits, nearest=history.nearest(task), mean_distance=history.mean_distance(task)
        )
        if proposed.traits.nearest < self.settings.novelty_gate:
            proposed.validation = Validation(None, NOT_NOVEL)
            return
        proposed.kept = buffer.append(task, iteration=iteration, references=proposed.references)
