"""One proposal as a job, from request to verdict: asked with tasks of the buffers, parsed, validated."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from azr_jax.config.schema import Config
from azr_jax.executor.jobs import UNJUDGED, Validate, unjudged
from azr_jax.selfplay.event_loop import Job, RequestId, Sample
from azr_jax.selfplay.prompting import Prompter, Question
from azr_jax.selfplay.results import Completion, Proposed, Solved
from azr_jax.tasks.buffers import FILTERS, Buffers, Unkept
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.kind import KindFailed
from azr_jax.tasks.leaks import leak
from azr_jax.tasks.novelty import Traits, traits
from azr_jax.tasks.programs import calls_parts, join_parts, rename_part, without_comments, without_globals
from azr_jax.tasks.prompts import PromptTooLong
from azr_jax.tasks.types import Kind, Proposal, Task, Validation

log = logging.getLogger(__name__)

DRAWS = 100
NOT_NOVEL = "not novel"
CONTAMINATION = "of an evaluation"  # why a program that the run is measured on is refused


def draw(seed: int, iteration: int, purpose: str) -> random.Random:
    """A stream of its own for every purpose, so that a resumed run draws what it would have drawn."""
    return random.Random(f"{seed}/{iteration}/{purpose}")


@dataclass(frozen=True)
class Shown:
    """What a proposer is asked with."""

    question: Question
    references: tuple[int, ...]  # ids of the buffer entries
    programs: tuple[str, ...] = ()  # of the references
    functions: tuple[str, ...] = ()  # g1, g2, ...: what the program has to call
    program: str = ""  # what the proposal is to be about, where it has none of its own


@dataclass(frozen=True)
class Proposer:
    prompter: Prompter
    buffers: Buffers
    config: Config
    reserved: Reserved = field(default_factory=Reserved)  # programs of the run's evaluations

    def propose(self, kind: Kind, request: RequestId, rng: random.Random) -> Job[Proposed]:
        """It has become a task, or is known to be none, when this returns."""
        shown = (self._about_a_program if kind.about_a_program else self._new)(kind, rng)
        limited = self.config.rollout.propose_vocab_dropout > 0
        (rollout,) = yield Sample(self.prompter.request(request, shown.question, 1, limited=limited))
        text = self.prompter.text(shown.question.prompt, rollout)
        completion = Completion(shown.question.tokens, rollout, text)
        proposal = self.prompter.read_proposal(kind, text, rollout, shown.program)
        validation, found = None, None
        if isinstance(proposal, Proposal):
            validation, found = yield from self._validate(proposal, shown)
        return Proposed(
            kind,
            completion,
            request.index,
            references=shown.references,
            dropped_references=shown.question.prompt.dropped,
            functions=shown.functions,
            proposal=proposal,
            validation=validation,
            traits=found,
            program=shown.program,
        )

    def _new(self, kind: Kind, rng: random.Random) -> Shown:
        """K tasks of its own kind, and, at times, functions to call."""
        c = self.config
        references = self.buffers[kind].sample_references(c.tasks.references, rng, c.buffer.reference_sampling)
        tasks, functions = [entry.task for entry in references], self._functions(kind, rng)
        stripped = c.tasks.strip_globals
        try:
            question = self.prompter.propose(kind, tasks, list(functions), stripped=stripped)
        except PromptTooLong:
            functions = {}
            question = self.prompter.propose(kind, tasks, stripped=stripped)
        shown = references[: question.prompt.references]
        return Shown(
            question,
            references=(*(entry.id for entry in shown), *functions.values()),
            programs=tuple(entry.task.program for entry in shown),
            functions=tuple(functions),
        )

    def _functions(self, kind: Kind, rng: random.Random) -> dict[str, int]:
        """Programs of the buffer, their entry points renamed to g1, g2, ..., with the ids of their entries."""
        chance, functions = self.config.tasks.composite_probability, dict[str, int]()
        if not chance or rng.random() >= chance:
            return functions
        for entry in self.buffers[kind].sample_references(rng.randint(1, self.config.tasks.composite_most), rng):
            try:
                functions[rename_part(entry.task.program, len(functions) + 1)] = entry.id
            except ValueError:  # cannot be renamed safely
                continue
        return functions

    def _about_a_program(self, kind: Kind, rng: random.Random) -> Shown:
        """One program of any kind's buffer; one too long to ask about gives way to another draw."""
        last: Exception | None = None
        for _ in range(DRAWS):
            entry = self.buffers.sample_program(rng)
            try:
                question = self.prompter.propose(kind, [entry.task])
            except (PromptTooLong, KindFailed) as error:
                last = error
                continue
            return Shown(question, (entry.id,), program=entry.task.program)
        if isinstance(last, KindFailed):
            raise last
        raise PromptTooLong(f"{DRAWS} programs drawn for {kind} proposals were all too long")

    def _validate(self, proposal: Proposal, shown: Shown) -> Job[tuple[Validation, Traits | None]]:
        if not calls_parts(proposal.program, len(shown.functions)):
            return Validation(None, "does not call the functions given"), None
        if self._tells_the_program(proposal):
            return Validation(None, "the message holds the program"), None
        job = self.job(proposal, shown.functions)
        validation: Validation = yield job
        if validation.task is None:
            return validation, None
        try:
            return self._admitted(proposal, validation, validation.task, shown)
        except Exception as error:  # something that a program can do to a reader of ours: it is the one refused
            log.exception("looking at an accepted proposal failed; it is refused")
            refused = unjudged(job, error)
            assert isinstance(refused, Validation)
            return refused, None

    def _tells_the_program(self, proposal: Proposal) -> bool:
        """A message may, or inputs that are shown beside it."""
        most, said = self.config.tasks.message_leak, "\n".join([proposal.message, *proposal.inputs])
        return most > 0.0 and bool(proposal.message) and leak(proposal.program, said) >= most

    def job(self, proposal: Proposal, functions: Sequence[str] = ()) -> Validate:
        """What the executor is asked: the program without what is to be stripped, with the functions it calls."""
        t, program = self.config.tasks, proposal.program
        if not proposal.kind.about_a_program:  # there it was kept before
            program = without_comments(program) if t.strip_comments else program
            program = without_globals(program) if t.strip_globals else program
        whole, most = replace(proposal, program=join_parts(program, functions)), t.induction_inputs
        fewest = t.induction_fewest or most
        return Validate(whole, shown=t.induction_shown, fewest=fewest, pairs=t.induction_pairs, most=most)

    def _admitted(
        self, proposal: Proposal, validation: Validation, task: Task, shown: Shown
    ) -> tuple[Validation, Traits | None]:
        """The traits of what the executor accepted; what is too long or too near to what was kept is refused."""
        kind = proposal.kind
        if task.program in self.reserved:
            return Validation(None, CONTAMINATION), None
        if reason := self.prompter.why_not(kind, task):
            return Validation(None, reason), None
        written = proposal.program if shown.functions else task.program
        found = traits(task, written, shown.programs, self.buffers[kind].history)
        if found.nearest < self.config.tasks.novelty_gate:
            return Validation(None, NOT_NOVEL), found
        self.buffers[kind].mark(task)  # a kind that fails at it does so here, where it costs this proposal
        return validation, found

    def keep(self, proposed: Proposed, iteration: int) -> Proposed:
        """A task into its buffer, unless it is there, or too near to what was kept meanwhile, from its own batch."""
        task, rate, buffer = proposed.task, proposed.solve_rate, self.buffers[proposed.kind]
        if task is None:
            return proposed
        passes = FILTERS[self.config.buffer.valid_program_filter]
        if rate is not None and not passes(rate) and not buffer.holds(task):
            return replace(proposed, kept=Unkept.FILTERED)
        assert proposed.traits is not None
        history = buffer.history
        try:
            found = replace(proposed.traits, nearest=history.nearest(task), mean_distance=history.mean_distance(task))
            if found.nearest < self.config.tasks.novelty_gate:
                return replace(proposed, traits=found, validation=Validation(None, NOT_NOVEL))
            kept = proposed.kept or buffer.append(task, iteration=iteration, references=proposed.references)
        except KindFailed as error:  # it did not when the task was admitted
            return replace(proposed, validation=Validation(None, UNJUDGED, str(error)))
        return replace(proposed, traits=found, kept=kept)

    def note(self, kind: Kind, proposals: Sequence[Proposed], solved: Sequence[Solved]) -> None:
        """In the buffer: what the attempts found."""
        buffer = self.buffers[kind]
        for solution in solved:
            buffer.note_attempt(solution.task_id, solution.correct)
        for proposed in proposals:
            if proposed.entry_id is not None and proposed.solve_rate is not None:
                buffer.set_solve_rate(proposed.entry_id, proposed.solve_rate)
