"""One proposal from request to verdict: asked with references of the buffers, parsed, validated. Iterations and seeding
share it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from azr_jax.executor.jobs import Validate
from azr_jax.rollout.engine import Rollout
from azr_jax.selfplay.asking import Asker, Question
from azr_jax.selfplay.played import Completion, Proposed
from azr_jax.selfplay.streams import Streams
from azr_jax.tasks.buffers import Buffers, Entry
from azr_jax.tasks.parsing import parse_proposal
from azr_jax.tasks.prompts import PromptTooLong
from azr_jax.tasks.types import FormatError, Kind, Validation

DRAWS = 100


def draw(seed: int, iteration: int, purpose: str) -> random.Random:
    """A stream of its own for every purpose, so that a resumed run draws what it would have drawn."""
    return random.Random(f"{seed}/{iteration}/{purpose}")


@dataclass(frozen=True)
class Proposer:
    asker: Asker
    streams: Streams
    buffers: Buffers
    references: int  # K
    reference_sampling: str
    shown: int  # pairs an induction solver will see

    def ask(
        self, kind: Kind, index: int, request_id: int, rng: random.Random, on_done: Callable[[Proposed], None]
    ) -> Proposed:
        """Queues one request. `on_done` comes when the proposal has become a task, or is known to be none."""
        question, references = self._question(kind, rng)
        program = references[0].task.program if kind == Kind.INDUCTION else ""
        proposed = Proposed(kind, index, tuple(entry.id for entry in references), question.prompt.dropped, program)
        then = partial(self._finished, proposed, question, on_done)
        self.streams.sample(self.asker.request(request_id, question, 1), then)
        return proposed

    def _question(self, kind: Kind, rng: random.Random) -> tuple[Question, list[Entry]]:
        """Induction is shown one program of any kind's buffer, every other kind K tasks of its own."""
        if kind == Kind.INDUCTION:
            return self._about_a_program(rng)
        references = self.buffers[kind].sample_references(self.references, rng, self.reference_sampling)
        question = self.asker.propose(kind, [entry.task for entry in references])
        return question, references[: question.prompt.references]

    def _about_a_program(self, rng: random.Random) -> tuple[Question, list[Entry]]:
        """A program too long to ask about gives way to another draw."""
        for _ in range(DRAWS):
            entry = self.buffers.sample_program(rng)
            try:
                return self.asker.propose(Kind.INDUCTION, [entry.task]), [entry]
            except PromptTooLong:
                continue
        raise PromptTooLong(
            f"rollout.max_prompt_tokens={self.asker.settings.max_prompt_tokens}: {DRAWS} programs drawn for induction "
            "proposals were all too long"
        )

    def _finished(
        self, proposed: Proposed, question: Question, on_done: Callable[[Proposed], None], rollout: Rollout
    ) -> None:
        proposed.completion = Completion(question.tokens, rollout, self.asker.text(question, rollout))
        proposed.proposal = parse_proposal(proposed.kind, proposed.completion.text, program=proposed.program)
        if isinstance(proposed.proposal, FormatError):
            on_done(proposed)
            return

        def judged(validation: Validation) -> None:
            if validation.task is not None and not self.asker.can_ask(proposed.kind, validation.task):
                validation = Validation(None, "too long for a prompt")
            proposed.validation = validation
            on_done(proposed)

        self.streams.judge(Validate(proposed.proposal, shown=self.shown), judged)
