"""(role, kind, material) -> Prompt, in four styles.

    think       a conversation: reasoning in <think>, the answer in <answer>, long requests (the paper's form)
    think_chat  the same requests and tags inside the model's own chat template, for chat models that reason first
    chat        short requests as messages for the model's own chat template; references are earlier turns
    completion  headings over fenced blocks, for small base models that only continue text

chat and completion open the first block for the model (`prefix`), so it starts inside it. What is parsed is
prefix + completion. The words are in wording.py; nothing here counts or knows tokens, the caller's `count_tokens` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import Formatter

from azr_jax.tasks import wording, worked
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Task, Triplet
from azr_jax.tasks.worked import Worked

STYLES = ("think", "think_chat", "chat", "completion")
ANSWER_NAME = {Kind.DEDUCTION: "output", Kind.ABDUCTION: "input", Kind.INDUCTION: "python", Kind.ERROR: "output"}
PROGRAM_PLACE = "def f(a, b):\n    ..."  # where a program goes in the form that is shown
OPENED_PROGRAM = "```python\ndef f("  # what a small model is given of its program

# With fewer turns than this a small model of the chat style does not keep to the form: SmolLM2-135M wrote a valid
# proposal in 4 of 64 after the identity alone, in 20 of 64 after the identity and these two.
FEWEST_TURNS = 3


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
class Rules:
    """What a proposer is told beside its material: worked examples in the short requests, the rest in the long ones."""

    banned: tuple[str, ...] = ()  # modules and names that the executor refuses
    stripped: bool = False  # comments and globals are taken out of what it writes
    message: str = "question"  # what an induction message is: question (or instruction) | hint
    examples: str = "one"  # which worked examples are shown: one | several | matching | none


def propose(
    kind: Kind,
    references: Sequence[Task],
    *,
    style: str,
    inputs: int = 10,
    functions: Sequence[str] = (),
    rules: Rules = Rules(),
    max_tokens: int | None = None,
    count_tokens: Callable[[Prompt], int] | None = None,
) -> Prompt:
    """Asks for a proposal.

    `references` are shown as what exists already, and left out from the last one on while the prompt has more than
    `max_tokens` tokens. For induction there is exactly one and it is not left out: its program is what the `inputs`
    inputs are for. `functions` are programs (g1, g2, ...) that `f` must call: the ablation with composite functions.
    """
    build = _STYLES[_known(style)]
    if kind == Kind.INDUCTION:
        if len(references) != 1:
            raise ValueError(
                f"references: {len(references)} given, an induction proposal is made of exactly one program"
            )
        return _checked(build.induction(references[0].program, inputs, rules), max_tokens, count_tokens)
    triplets = [task for task in references if isinstance(task, Triplet)]
    shown = len(triplets)
    prompt = build.propose(kind, triplets, functions, rules)
    while shown and max_tokens is not None and count_tokens is not None and count_tokens(prompt) > max_tokens:
        shown -= 1
        prompt = build.propose(kind, triplets[:shown], functions, rules)
    prompt = replace(prompt, references=shown, dropped=len(triplets) - shown)
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
    return _checked(_STYLES[_known(style)].solve(kind, task, examples), max_tokens, count_tokens)


def thought(request: str, style: str) -> Prompt:
    """Any other request in a style that reasons first."""
    return _THOUGHT[style].ask(request)


def answer_stop(style: str) -> tuple[str, ...]:
    """Where a solver's answer ends: what an engine of somebody else's should stop at."""
    return _STYLES[_known(style)].answer_stop


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
    inputs = [block("input", text) for text in proposal.inputs]
    if proposal.kind == Kind.INDUCTION:
        return "\n".join([block("message", proposal.message), *inputs])
    return "\n".join([block("python", proposal.program), *inputs])


def render_answer(answer: Answer) -> str:
    """The block a solver is asked for; parsing.parse_answer reads it back."""
    return block(ANSWER_NAME[answer.kind], answer.text)


def shown_task(kind: Kind, task: Task) -> str:
    """The part of a task that its solver sees."""
    if isinstance(task, InductionTask):
        pairs = zip(task.inputs[: task.shown], task.outputs[: task.shown], strict=True)
        parts = [block("input", given) + "\n" + block("output", result) for given, result in pairs]
        return "\n".join([*parts, block("message", task.message)])
    seen = ("output", task.output) if kind == Kind.ABDUCTION else ("input", task.input)
    return block("python", task.program) + "\n" + block(*seen)


class _Think:
    answer_stop = ("</answer>",)

    def propose(self, kind: Kind, references: Sequence[Triplet], functions: Sequence[str], rules: Rules) -> Prompt:
        return self.ask(
            fill(
                wording.PROPOSE,
                puzzle=wording.PUZZLE[kind],
                layout=_layout(("python", PROGRAM_PLACE), ("input", wording.INPUT_PLACE)),
                returns="" if kind == Kind.ERROR else wording.RETURNS,
                banned=fill(wording.BANNED, names=", ".join(rules.banned)) if rules.banned else "",
                stripped=wording.STRIPPED if rules.stripped else "",
                given=fill(wording.GIVEN, functions=_programs(functions)) if functions else "",
                examples=_examples(kind, references) if references else "",
            )
        )

    def induction(self, program: str, count: int, rules: Rules) -> Prompt:
        calls = [("input", place) for place in (wording.FIRST_PLACE, wording.SECOND_PLACE, "...")]
        return self.ask(
            fill(
                wording.PROPOSE_INDUCTION,
                program=block("python", program),
                count=str(count),
                layout=_layout(*calls, ("message", wording.MESSAGE_PLACE)),
                message=wording.MESSAGE[rules.message],
            )
        )

    def solve(self, kind: Kind, task: Task, examples: str) -> Prompt:
        layout = _layout((ANSWER_NAME[kind], wording.ANSWER_PLACE.get(kind, PROGRAM_PLACE)))
        return self.ask(fill(wording.SOLVE[kind], task=shown_task(kind, task), layout=layout))

    def ask(self, request: str) -> Prompt:
        text = fill(wording.CONVERSATION, request=request)
        return Prompt(text=text, prefix="<think>", stop=self.answer_stop, stop_after="</think>")


class _ThinkChat(_Think):
    def ask(self, request: str) -> Prompt:
        message = {"role": "user", "content": fill(wording.THINK_FIRST, request=request)}
        return Prompt(messages=(message,), prefix="<think>\n", stop=self.answer_stop, stop_after="</think>")


class _Chat:
    answer_stop = ("\n```",)  # an answer is one block: it ends where the fence closes

    def propose(self, kind: Kind, references: Sequence[Triplet], functions: Sequence[str], rules: Rules) -> Prompt:
        first = wording.CHAT_PROPOSE[kind]
        if functions:
            first += fill(wording.CHAT_GIVEN, functions=_programs(functions))
        shown = [_asked(kind, task) for task in references]
        more = worked.proposed(rules.examples)[: max(0, FEWEST_TURNS - len(shown))]
        shown += [render_proposal(Proposal(kind, each.program, each.inputs[:1])) for each in more]
        requests = [first, *[wording.CHAT_AGAIN] * len(shown)]
        return _conversation(list(zip(requests, shown)), requests[-1], OPENED_PROGRAM, ("```output",))

    def induction(self, program: str, count: int, rules: Rules) -> Prompt:
        def ask(text: str) -> str:
            return fill(wording.CHAT_INDUCTION, program=block("python", text), count=str(count))

        shown = worked.shown(rules.examples, worked.parameters_of(program))
        turns = [(ask(each.program), _worked_inputs(each, count)) for each in shown]
        return _conversation(turns, ask(program), "```message\n", ())

    def solve(self, kind: Kind, task: Task, examples: str) -> Prompt:
        def ask(text: str) -> str:
            return fill(wording.CHAT_SOLVE[kind], task=text)

        solved = [_solved(kind, each) for each in worked.shown(examples, worked.arguments_of(task))]
        turns = [(ask(text), answer) for text, answer in solved]
        return _conversation(turns, ask(shown_task(kind, task)), _opened_answer(kind), self.answer_stop)


class _Completion:
    answer_stop = ("\n```",)

    def propose(self, kind: Kind, references: Sequence[Triplet], functions: Sequence[str], rules: Rules) -> Prompt:
        title = wording.TITLE[kind]
        parts = [fill(wording.COMPLETION_GIVEN, functions=_programs(functions))] if functions else []
        for number, task in enumerate(references, start=1):
            parts.append(fill(wording.HEADING, title=title, number=str(number)) + _asked(kind, task) + "\n\n")
        parts.append(fill(wording.HEADING, title=title, number=str(len(references) + 1)))
        return Prompt(text="".join(parts), prefix=OPENED_PROGRAM, stop=("\n###", "```output"))

    def induction(self, program: str, count: int, rules: Rules) -> Prompt:
        title = fill(wording.TITLE[Kind.INDUCTION], count=str(count))
        parts = []
        for each in worked.shown(rules.examples, worked.parameters_of(program)):
            parts.append(fill(wording.HEADING, title=title, number=str(len(parts) + 1)))
            parts[-1] += block("python", each.program) + "\n" + _worked_inputs(each, count) + "\n\n"
        last = fill(wording.HEADING, title=title, number=str(len(parts) + 1)) + block("python", program) + "\n"
        return Prompt(text="".join([*parts, last]), prefix="```message\n", stop=("\n###", "```python"))

    def solve(self, kind: Kind, task: Task, examples: str) -> Prompt:
        parts = []
        for each in worked.shown(examples, worked.arguments_of(task)):
            text, answer = _solved(kind, each)
            parts.append(fill(wording.COMPLETION_SOLVE[kind], number=str(len(parts) + 1), task=text) + answer + "\n\n")
        last = fill(wording.COMPLETION_SOLVE[kind], number=str(len(parts) + 1), task=shown_task(kind, task))
        return Prompt(text="".join([*parts, last]), prefix=_opened_answer(kind), stop=self.answer_stop)


_THOUGHT = {"think": _Think(), "think_chat": _ThinkChat()}
_STYLES = _THOUGHT | {"chat": _Chat(), "completion": _Completion()}


def fill(template: str, **values: str) -> str:
    """The template with exactly its placeholders filled: one too many or too few is a mistake of ours."""
    wanted = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    if wanted != set(values):
        raise KeyError(f"template wants {sorted(wanted)}, was given {sorted(values)}: {template[:60]!r}")
    return template.format(**values)


def _known(style: str) -> str:
    if style not in STYLES:
        raise ValueError(f"tasks.prompt_style={style!r}: should be {', '.join(STYLES)}")
    return style


def _checked(prompt: Prompt, max_tokens: int | None, count_tokens: Callable[[Prompt], int] | None) -> Prompt:
    if max_tokens is not None and count_tokens is not None:
        tokens = count_tokens(prompt)
        if tokens > max_tokens:
            raise PromptTooLong(
                f"the prompt has {tokens} tokens with nothing left to leave out; at most {max_tokens} fit"
            )
    return prompt


def _conversation(turns: Sequence[tuple[str, str]], last: str, prefix: str, stop: tuple[str, ...]) -> Prompt:
    messages = []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return Prompt(messages=(*messages, {"role": "user", "content": last}), prefix=prefix, stop=stop)


def _asked(kind: Kind, task: Triplet) -> str:
    """A reference in the form the proposer is asked for: no output, or small models go on to write one."""
    return render_proposal(Proposal(kind, task.program, (task.input,)))


def _examples(kind: Kind, references: Sequence[Triplet]) -> str:
    """What exists already. The result stands in a line: a third block would look like a part of the answer's form."""
    shown = [
        fill(wording.EXAMPLE, blocks=_asked(kind, task), result=fill(wording.RESULT[kind], output=task.output))
        for task in references
    ]
    return fill(wording.EXAMPLES, tasks="\n\n".join(shown))


def _layout(*parts: tuple[str, str]) -> str:
    """An answer as it has to look, letter by letter, with words where its contents go."""
    return "\n".join(["<answer>", *(block(name, place) for name, place in parts), "</answer>"])


def _programs(functions: Sequence[str]) -> str:
    return "\n".join(block("python", program) for program in functions)


def _worked_inputs(example: Worked, count: int) -> str:
    inputs = tuple(example.inputs[i % len(example.inputs)] for i in range(count))
    return render_proposal(Proposal(Kind.INDUCTION, example.program, inputs, example.message))


def _solved(kind: Kind, example: Worked) -> tuple[str, str]:
    """A worked example as the solver sees it, and its answer."""
    if kind == Kind.INDUCTION:
        task = InductionTask(example.program, example.inputs, example.outputs, (), example.message, shown=2)
        return shown_task(kind, task), render_answer(Answer(kind, example.program))
    given, result = example.error if kind == Kind.ERROR else (example.inputs[0], example.outputs[0])
    answer = given if kind == Kind.ABDUCTION else result
    return shown_task(kind, Triplet(example.program, given, result, "")), render_answer(Answer(kind, answer))


def _opened_answer(kind: Kind) -> str:
    return OPENED_PROGRAM if kind == Kind.INDUCTION else f"```{ANSWER_NAME[kind]}\n"
