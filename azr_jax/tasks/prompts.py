"""(role, kind, material) -> Prompt, in four styles. What is asked for is the kind's; how a style asks is told here.

    think       a conversation: reasoning in <think>, the answer in <answer>, long requests (the paper's form)
    think_chat  the same requests and tags inside the model's own chat template, for chat models that reason first
    chat        short requests as messages for the model's own chat template; references are earlier turns
    completion  headings over fenced blocks, for small base models that only continue text

chat and completion open the first block for the model (`prefix`), so it starts inside it. What is parsed is
prefix + completion. Nothing here counts or knows tokens, the caller's `count_tokens` does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from azr_jax.tasks import wording
from azr_jax.tasks.kind import KindFailed, asked
from azr_jax.tasks.types import Answer, Kind, Proposal, Task

log = logging.getLogger(__name__)

THOUGHT = ("think", "think_chat")
STYLES = (*THOUGHT, "chat", "completion")
PROGRAM_PLACE = "def f(a, b):\n    ..."  # where a program goes in the form that is shown
OPENED_PROGRAM = "```python\ndef f("  # what a small model is given of its program


class PromptTooLong(ValueError):
    """Over the token limit with nothing left to leave out."""


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str = ""  # styles think and completion
    messages: tuple[
        dict[str, str], ...
    ] = ()  # styles of a chat template: {"role": ..., "content": ...}, the last one the user's
    prefix: str = ""  # begins the completion; parse prefix + completion
    stop: tuple[str, ...] = ()  # sampling may end where one of these appears
    stop_after: str = ""  # but only behind this: a thought may name the tag that ends the answer
    references: int = 0  # shown
    dropped: int = 0  # left out because the prompt would have been too long

    def render(self, template: Callable[[list[dict[str, str]]], str] | None = None) -> str:
        """The whole prompt as text; `template` turns messages into text, up to where the assistant begins."""
        if not self.messages:
            return self.text + self.prefix
        if template is None:
            raise ValueError("a chat prompt needs the model's chat template")
        opened = template([dict(message) for message in self.messages])
        # Some templates of models that reason open the reasoning themselves.
        return opened if opened.rstrip().endswith(self.prefix.rstrip() or "\0") else opened + self.prefix


@dataclass(frozen=True, slots=True)
class PromptRules:
    """What a proposer is told beside its material: worked examples in the short requests, the rest in the long ones."""

    banned: tuple[str, ...] = ()  # modules and names that the executor refuses
    stripped: bool = False  # comments and globals are taken out of what it writes
    message: str = "question"  # what an induction message is: question (or instruction) | hint
    examples: str = "one"  # which worked examples are shown: one | several | matching | none


@dataclass(frozen=True, slots=True)
class Material:
    """What a kind makes the request to a proposer of."""

    style: str
    references: Sequence[Any]  # tasks of its own; for a kind that is about a program, one task of any kind
    functions: Sequence[str] = ()  # that the program must call
    inputs: int = 10  # asked for, where several are
    rules: PromptRules = PromptRules()


def propose(
    kind: Kind,
    references: Sequence[Task],
    *,
    style: str,
    inputs: int = 10,
    functions: Sequence[str] = (),
    rules: PromptRules = PromptRules(),
    max_tokens: int | None = None,
    count_tokens: Callable[[Prompt], int] | None = None,
) -> Prompt:
    """Asks for a proposal.

    `references` are shown as what exists already, and left out from the last one on while the prompt has more than
    `max_tokens` tokens. A kind that is about a program takes exactly one, which is not left out: its program is what
    the `inputs` inputs are for. `functions` are programs (g1, g2, ...) that `f` must call: the ablation with composite
    functions.
    """
    _check_style(style)
    if kind.about_a_program and len(references) != 1:
        raise ValueError(f"references: {len(references)} given, a proposal of {kind} is made of exactly one program")
    tasks = [task for task in references if kind.about_a_program or isinstance(task, kind.task_type)]

    def build(shown: int) -> Prompt:
        return asked(kind, "propose_prompt", Material(style, tasks[:shown], functions, inputs, rules), gives=Prompt)

    if kind.about_a_program:
        return _checked(build(1), max_tokens, count_tokens)
    shown = len(tasks)
    try:
        prompt = build(shown)
    except KindFailed:
        if not shown:
            raise
        log.exception("it is asked without references")
        shown, prompt = 0, build(0)
    while shown and max_tokens is not None and count_tokens is not None and count_tokens(prompt) > max_tokens:
        shown -= 1
        prompt = build(shown)
    prompt = replace(prompt, references=shown, dropped=len(tasks) - shown)
    return prompt if shown else _checked(prompt, max_tokens, count_tokens)


def solve(
    kind: Kind,
    task: Task,
    *,
    style: str,
    examples: str = "one",
    max_tokens: int | None = None,
    count_tokens: Callable[[Prompt], int] | None = None,
) -> Prompt:
    """Asks for an answer, after the worked `examples` in the short styles. What is to be found is not in the prompt."""
    _check_style(style)
    return _checked(asked(kind, "solve_prompt", task, style, examples, gives=Prompt), max_tokens, count_tokens)


def thought(request: str, style: str) -> Prompt:
    """Any request in a style that reasons first."""
    stop, after = answer_stop(style), "</think>"
    if style == "think":
        text = fill(wording.CONVERSATION, request=request)
        return Prompt(text=text, prefix="<think>", stop=stop, stop_after=after)
    message = {"role": "user", "content": fill(wording.THINK_FIRST, request=request)}
    return Prompt(messages=(message,), prefix="<think>\n", stop=stop, stop_after=after)


def conversation(turns: Sequence[tuple[str, str]], last: str, prefix: str, stop: tuple[str, ...]) -> Prompt:
    """Of the style chat: requests that were answered, and the last one."""
    messages: list[dict[str, str]] = []
    for request, answered in turns:
        messages += [{"role": "user", "content": request}, {"role": "assistant", "content": answered}]
    return Prompt(messages=(*messages, {"role": "user", "content": last}), prefix=prefix, stop=stop)


def answer_stop(style: str) -> tuple[str, ...]:
    """Where a solver's answer ends: what an engine of somebody else's should stop at. Short ones are a block alone."""
    _check_style(style)
    return ("</answer>",) if style in THOUGHT else ("\n```",)


def block(name: str, text: str) -> str:
    """A fenced block. The fence is longer than any run of backticks inside, so that it can be read back."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{name}\n{text}\n{fence}"


def render_proposal(proposal: Proposal) -> str:
    """The blocks a proposer is asked for; parsing.parse_proposal reads them back."""
    return proposal.kind.render_proposal(proposal)


def render_answer(answer: Answer) -> str:
    """The block a solver is asked for; parsing.parse_answer reads it back."""
    return block(answer.kind.answer_block, answer.text)


def opening(name: str) -> str:
    """The beginning of a block, for a model to go on from."""
    return OPENED_PROGRAM if name == "python" else f"```{name}\n"


def layout(*parts: tuple[str, str]) -> str:
    """An answer as it has to look, letter by letter, with words where its contents go."""
    return "\n".join(["<answer>", *(block(name, place) for name, place in parts), "</answer>"])


def fill(template: str, **values: str) -> str:
    """The template with exactly its placeholders filled: one too many or too few is a mistake of ours."""
    wanted = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    if wanted != set(values):
        raise KeyError(f"template wants {sorted(wanted)}, was given {sorted(values)}: {template[:60]!r}")
    return template.format(**values)


def _check_style(style: str) -> None:
    if style not in STYLES:
        raise ValueError(f"tasks.prompt_style={style!r}: should be {', '.join(STYLES)}")


def _checked(prompt: Prompt, max_tokens: int | None, count_tokens: Callable[[Prompt], int] | None) -> Prompt:
    if max_tokens is not None and count_tokens is not None:
        tokens = count_tokens(prompt)
        if tokens > max_tokens:
            raise PromptTooLong(
                f"the prompt has {tokens} tokens with nothing left to leave out; at most {max_tokens} fit"
            )
    return prompt
