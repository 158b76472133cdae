"""How a row is put to a model, in five styles, and where its answer is found in what the model wrote.

    think       the conversation of training: reasoning in <think>, the answer in <answer>
    think_chat  the same tags, asked for inside the model's own chat template
    boxed       the model's own chat template; mathematics ends in \\boxed{...}, programs stand in a fenced block
    completion  plain text to go on with, for base models
    evalplus    HumanEval and MBPP as the EvalPlus package puts them to chat models (evals/evalplus.py)

CRUXEval's and LiveCodeBench's reasoning tasks are put as self-play puts deduction and abduction (tasks/prompts.py).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from azr_jax.evals import evalplus
from azr_jax.tasks import prompts
from azr_jax.tasks.parsing import CLOSE, OPEN, TAGGED, answer_part, blocks
from azr_jax.tasks.prompts import Prompt, block, fill
from azr_jax.tasks.types import Kind, Task

STYLES = ("think", "think_chat", "boxed", "completion", "evalplus")
TASK_STYLE = {"think": "think", "think_chat": "think_chat", "boxed": "chat", "completion": "completion"}
LETTERS = "ABCDEFGHIJ"

_FUNCTION = (
    "Complete this Python function so that it does what its description says:\n\n{program}\n\nGive the whole function, "
    "with the imports it needs, in one fenced ```python``` block."
)
_TASK = (
    "{text}\n\nThe function is called `{name}`. It should pass tests like these:\n\n{tests}\n\nGive the whole "
    "program in one fenced ```python``` block."
)
_CONTEST = "Solve this programming problem in Python.\n\n{text}\n\n{how}\n\nGive the program in one ```python``` block."
_STDIN = "The program reads from standard input and prints its answer to standard output."
_STARTER = "Complete this code, keeping its names:\n\n{program}"
_MATH = {
    "think": "{problem}\n\nThe answer is the result alone, a number or an expression in LaTeX, without a sentence.",
    "boxed": "{problem}\n\nReason step by step and put your final answer within \\boxed{{}}.",
    "completion": (
        "Problem: A box holds 3 rows of 4 pens, and 2 pens are taken out. How many are left?\n"
        "Solution: There are 3 times 4, which is 12 pens. Without the 2 taken out, 10 are left. The answer is "
        "\\boxed{{10}}.\n\nProblem: {problem}\nSolution:"
    ),
}
_CHOICE = {
    "think": "{question}\n\n{options}\n\nThe answer is the letter of the right option.",
    "boxed": "{question}\n\n{options}\n\nReason step by step and put the right option's letter within \\boxed{{}}.",
    "completion": "Question: {question}\nOptions:\n{options}\nAnswer: The right option is (",
}
_RESULT = "a word, a number, a list with commas, or an option's letter."
_ANY = {
    "think": f"{{question}}\n\nThe answer is the result alone: {_RESULT}",
    "boxed": f"{{question}}\n\nReason step by step and put the result alone within \\boxed{{{{}}}}: {_RESULT}",
    "completion": "Question: {question}\n\nAnswer: The answer is:",
}
_FORETOLD = (
    "{text}\n\n{starter}\n\nA program that does this is called as\n\n{call}\n\nWhat does it return? Give the value "
    "alone, as Python writes it, in one fenced ```output``` block."
)
_CODE_STOPS = ("\nclass ", "\nif __name__", "\nprint(", "\n```", "\nassert ", '\n"""', "\n#")


def humaneval(fields: dict[str, Any], style: str) -> Prompt:
    if style == "completion":
        return Prompt(text=fields["prompt"].rstrip() + "\n", stop=("\ndef ", *_CODE_STOPS))
    if style == "evalplus":
        return evalplus.prompt(fields["prompt"])
    return _request(fill(_FUNCTION, program=block("python", fields["prompt"].strip())), style)


def described(text: str, entry_point: str, tests: Sequence[str], style: str) -> Prompt:
    """MBPP and MBPP+: a sentence and a few asserts."""
    if style == "completion":
        return Prompt(text=_docstring(text.strip(), tests), prefix=f"def {entry_point}(", stop=_CODE_STOPS)
    if style == "evalplus":
        return evalplus.prompt(_docstring(text, tests))
    return _request(fill(_TASK, text=text.strip(), name=entry_point, tests=block("python", "\n".join(tests))), style)


def _docstring(text: str, tests: Sequence[str]) -> str:
    lines = "\n".join([text, *tests])
    return f'"""\n{lines}\n"""\n'


def contest(fields: dict[str, Any], style: str) -> Prompt:
    starter = fields.get("starter_code", "").strip()
    how = fill(_STARTER, program=block("python", starter)) if starter else _STDIN
    request = fill(_CONTEST, text=fields["question_content"].strip(), how=how)
    if style == "completion":
        return Prompt(
            text=f"{request}\n\n", prefix="```python\n" + (f"{starter}\n" if starter else ""), stop=("\n```",)
        )
    return _request(request, style)


def mathematics(problem: str, style: str) -> Prompt:
    request = fill(_MATH[_words(style)], problem=problem.strip())
    return Prompt(text=request, stop=("\n\nProblem:",)) if style == "completion" else _request(request, style)


def choice(fields: dict[str, Any], style: str) -> Prompt:
    options = "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, fields["options"]))
    request = fill(_CHOICE[_words(style)], question=fields["question"].strip(), options=options)
    return Prompt(text=request, stop=(")", "\n")) if style == "completion" else _request(request, style)


def any_question(question: str, style: str) -> Prompt:
    """BBEH: the question says itself what an answer looks like."""
    request = fill(_ANY[_words(style)], question=question.strip())
    return Prompt(text=request, stop=("\n",)) if style == "completion" else _request(request, style)


def foretold(fields: dict[str, Any], call: str, style: str) -> Prompt:
    """A problem and a call: what would be returned. Answered as a deduction is, without a program to follow."""
    starter, asked = block("python", fields["starter_code"].strip()), block("python", call)
    request = fill(_FORETOLD, text=fields["question_content"].strip(), starter=starter, call=asked)
    if style in ("think", "think_chat"):
        return prompts.thought(request, style)
    prefix, stop = "```output\n", prompts.answer_stop(TASK_STYLE[style])
    if style == "completion":
        return Prompt(text=f"{request}\n\n", prefix=prefix, stop=stop)
    return Prompt(messages=({"role": "user", "content": request},), prefix=prefix, stop=stop)


def reasoning(kind: Kind, task: Task, style: str, examples: str = "one") -> Prompt:
    return prompts.solve(kind, task, style=TASK_STYLE[style], examples=examples)


def _words(style: str) -> str:
    return "think" if style == "think_chat" else style


def _request(request: str, style: str) -> Prompt:
    if style in ("think", "think_chat"):
        return prompts.thought(request, style)
    return Prompt(messages=({"role": "user", "content": request},))


# ---------------------------------------------------------------------------------------------- reading
def first_answer(text: str, style: str) -> str:
    """The completion up to the end of its first whole answer, as training reads it; all of it where there is none.

    Sampling stops there too, but only behind a </think>: a thought may name the tags. A model that never closes its
    thought goes on, often with a question and an answer of its own.
    """
    if style not in TAGGED:
        return text
    opened = text.find(OPEN, max(text.find("</think>"), 0))
    closed = text.find(CLOSE, opened) if opened >= 0 else -1
    return text[: closed + len(CLOSE)] if closed >= 0 else text


def program_in(text: str, style: str, *, before: str = "", name: str = "", stops: Sequence[str] = ()) -> str | None:
    """The program of a completion. `before` is what the prompt shows of it: imports and helpers the answer may use.

    The last fenced program that defines `name` counts, else the last one, else the text where it begins to be one.
    """
    if style == "evalplus":
        return evalplus.program(text, name)
    if style == "completion" and not text.startswith("```"):
        return before + _until_stop(text, stops)
    found = answer_part(text)
    if found is None:
        return None
    fenced = [one for one in blocks(found) if one.name in ("python", "") and one.text]
    defining = [one.text for one in fenced if name and re.search(rf"\bdef\s+{re.escape(name)}\b", one.text)]
    named = [one.text for one in fenced if one.name]  # an unnamed block beside these is a sample or a command
    program = (defining or named or [one.text for one in fenced] or [_bare(found, name)])[-1]
    if not program:
        return None
    stub = f"{before.rstrip()}\n    pass\n\n\n" if name and before else ""
    if stub and not defining and re.search(r"^return\b", program, re.MULTILINE):  # the body alone
        return f"{before.rstrip()}\n{textwrap.indent(program, '    ')}"
    return stub + program


def _bare(text: str, name: str) -> str:
    """A program without a fence: from its first line of code; a script (no name) may begin with any line."""
    start = re.search(r"^(?:from |import |def |class )", text, re.MULTILINE)
    if start and (name or not text[: start.start()].strip()):
        return text[start.start() :].rstrip()
    if not name and re.match(r"\s*[A-Za-z_][\w, ]*(?:=|\()", text):
        return text.strip()
    return text[start.start() :].rstrip() if start else ""


def _until_stop(text: str, stops: Sequence[str]) -> str:
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
