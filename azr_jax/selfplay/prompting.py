"""From a task or references to what the engine samples, and from what it sampled back to text.

The only place where prompts meet the tokenizer: token limits, the model's chat template, the tokens that end a
completion, and the opened block that a prompt puts before it. So it is also where a completion is read: the text, and
whether it ended by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from azr_jax.config.schema import Config
from azr_jax.executor.hygiene import BANNED
from azr_jax.models.endings import HfTokenizer, stop_ids
from azr_jax.rollout.engine import Request, Rollout
from azr_jax.selfplay.event_loop import RequestId
from azr_jax.tasks import prompts
from azr_jax.tasks.kind import KindFailed
from azr_jax.tasks.parsing import parse_answer, parse_proposal, whole_answer, whole_proposal
from azr_jax.tasks.prompts import Prompt, PromptRules, PromptTooLong
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    tokens: tuple[int, ...]
    prompt: Prompt


class PromptCodec:
    """Prompts to tokens and completions to text, for one model."""

    def __init__(self, tokenizer: HfTokenizer, folder: Path):
        self.tokenizer, self.stop_ids = tokenizer, stop_ids(tokenizer, folder)

    def tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.messages:  # the template writes the special tokens itself
            return tuple(self.tokenizer.encode(prompt.render(self._template), add_special_tokens=False))
        return tuple(self.tokenizer.encode(prompt.render()))

    def text(self, prompt: Prompt, rollout: Rollout) -> str:
        """What the parser reads: the opened block of the prompt, and the completion without its end-of-text token."""
        tokens = list(rollout.tokens)
        if tokens and tokens[-1] in self.stop_ids:
            tokens.pop()
        return prompt.prefix + self.tokenizer.decode(tokens)

    def _template(self, messages: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


class Prompter(PromptCodec):
    def __init__(self, tokenizer: HfTokenizer, folder: Path, config: Config):
        super().__init__(tokenizer, folder)
        self.config = config
        self.style, self.strict = config.tasks.prompt_style, config.tasks.format == "strict"

    def propose(
        self, kind: Kind, references: Sequence[Task], functions: Sequence[str] = (), *, stripped: bool = False
    ) -> Question:
        """Raises PromptTooLong only when it does not fit without any reference, or with an induction's one program.

        `stripped`: the program will lose its comments and globals, and its proposer should know.
        """
        c = self.config
        prompt = prompts.propose(
            kind,
            references,
            style=self.style,
            inputs=c.tasks.induction_inputs,
            functions=functions,
            rules=PromptRules(BANNED, stripped, c.tasks.induction_message, c.tasks.examples),
            max_tokens=c.rollout.max_prompt_tokens,
            count_tokens=self._length,
        )
        return Question(self.tokens(prompt), prompt)

    def solve(self, kind: Kind, task: Task) -> Question | str:
        """Or why nobody can be asked to solve it, which makes it no task."""
        n, examples = self.config.rollout.max_prompt_tokens, self.config.tasks.examples
        try:
            prompt = prompts.solve(
                kind, task, style=self.style, examples=examples, max_tokens=n, count_tokens=self._length
            )
        except PromptTooLong:
            return "too long for a prompt"
        except KindFailed:
            log.exception("nobody is asked to solve a task")
            return "asking failed"
        return Question(self.tokens(prompt), prompt)

    def why_not(self, kind: Kind, task: Task) -> str:
        return "" if isinstance(found := self.solve(kind, task), Question) else found

    def request(self, request_id: RequestId, question: Question, n: int, *, limited: bool = False) -> Request:
        s = self.config.rollout
        return Request(
            id=request_id,
            prompt=question.tokens,
            n=n,
            max_new_tokens=s.max_new_tokens,
            temperature=s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            min_p=s.min_p,
            stop_ids=self.stop_ids,
            stop_strings=question.prompt.stop if s.stop_at_answer else (),
            stop_after=question.prompt.stop_after,
            repetition_stop=s.repetition_stop,
            limited=limited,
        )

    def read_proposal(self, kind: Kind, text: str, rollout: Rollout, program: str = "") -> Proposal | FormatError:
        if self.strict:
            return whole_proposal(kind, text, style=self.style, ended=rollout.ended, program=program)
        return parse_proposal(kind, text, program=program)

    def read_answer(self, kind: Kind, text: str, rollout: Rollout) -> Answer | FormatError:
        if self.strict:
            return whole_answer(kind, text, style=self.style, ended=rollout.ended)
        return parse_answer(kind, text)

    def _length(self, prompt: Prompt) -> int:
        return len(self.tokens(prompt))
