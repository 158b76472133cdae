"""What a model wrote -> Proposal | Answer | FormatError(reason).

Two steps: find the part that is the answer, then cut it into blocks. The answer is what stands in the last <answer>
tag; without one, what follows the last </think>; without that, everything. A block is fenced as in Markdown and named
by the word after the fence (python, input, output, message); a few other spellings of the name are understood, fences
may be indented, left open at the end, or closed at the end of a line.

Read leniently (`tasks.format`), that is whatever can be found, also in a text that was cut or goes on. Read strictly, a
completion as a whole has to be what was asked for, and nothing else:

    think, think_chat   <think> reasoning </think> <answer> blocks </answer>, with nothing but white space around
    chat, completion    the blocks, the first of which the prompt opened; words around them are let be

In every style it ended by itself, each block is closed by a fence of its own, and there are as many blocks as were
asked for: what passes is worth no more than a short text of the same meaning, however long, repeated or cut it may be.

Every step looks at each line a fixed number of times, so 100 kB of fences cost milliseconds, and nothing here evaluates
anything: whether a program runs or an input is allowed is for the executor to say.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import dedent

from azr_jax.tasks.kind import KindFailed, asked
from azr_jax.tasks.programs import arguments, parse
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Role

log = logging.getLogger(__name__)

NAMES = {
    "python": "python", "py": "python", "python3": "python", "program": "python", "code": "python",
    "input": "input", "inputs": "input", "args": "input", "arguments": "input",
    "output": "output", "outputs": "output", "result": "output", "error": "output", "exception": "output",
    "message": "message", "msg": "message",
}  # fmt: skip
MOST_INPUTS = 64  # of an induction proposal; more are cut off
LONGEST_TREE = 10_000  # characters of an input that is looked at as a syntax tree
TAGGED = ("think", "think_chat")  # styles whose answer stands in tags
OPEN, CLOSE = "<answer>", "</answer>"
TAGS = ("<think>", "</think>", OPEN, CLOSE)


@dataclass(frozen=True, slots=True)
class Block:
    name: str  # python | input | output | message, or "" for a fence without a name we know
    text: str
    closed: bool  # it does not run to the end of the text
    fenced: bool  # a fence of its own closes it; without one, it ended where the next block began


def parse_proposal(kind: Kind, text: str, *, program: str = "") -> Proposal | FormatError:
    """For induction, `program` is the one the proposer was shown: it writes only the inputs and the message."""
    found = answer_part(text)
    return FormatError("reasoning not finished") if found is None else proposal_in(kind, found, program)


def parse_answer(kind: Kind, text: str) -> Answer | FormatError:
    found = answer_part(text)
    return FormatError("reasoning not finished") if found is None else answer_in(kind, found, "<answer>" in text)


def answer_of(role: Role, kind: Kind, text: str, *, style: str, ended: bool) -> str | FormatError:
    """The part of `text`, prefix and completion, that holds the blocks; or why it is not well-formed.

    `ended`: it was not cut.
    """
    if not ended:
        return FormatError("cut off")
    found = _tagged(text) if style in TAGGED else text
    if isinstance(found, FormatError):
        return found
    parts = blocks(found) if style in TAGGED else _without_stop(blocks(found))
    if not all(block.fenced for block in parts):
        return FormatError("block not closed")
    try:
        return FormatError("more than was asked for") if _too_many(role, kind, parts) else found
    except KindFailed:
        log.exception("a proposal is refused for it")
        return FormatError("reading failed")


def whole_proposal(kind: Kind, text: str, *, style: str, ended: bool, program: str = "") -> Proposal | FormatError:
    found = answer_of(Role.PROPOSE, kind, text, style=style, ended=ended)
    return found if isinstance(found, FormatError) else proposal_in(kind, found, program)


def whole_answer(kind: Kind, text: str, *, style: str, ended: bool) -> Answer | FormatError:
    """Between tags the answer may stand without a fence."""
    found = answer_of(Role.SOLVE, kind, text, style=style, ended=ended)
    return found if isinstance(found, FormatError) else answer_in(kind, found, bare=style in TAGGED)


def _tagged(text: str) -> str | FormatError:
    """What stands between the answer's tags. A thought may name these tags; only </think> ends it."""
    whole = text.strip()
    thought, end, rest = whole.partition("</think>")
    rest = rest.strip()
    if not thought.startswith("<think>"):
        return FormatError("text before the reasoning")
    if not end:
        return FormatError("reasoning not finished")
    if not rest.startswith(OPEN):
        return FormatError("no answer after the reasoning")
    if not rest.endswith(CLOSE):
        return FormatError("text after the answer" if CLOSE in rest else "answer not closed")
    inside = rest[len(OPEN) : -len(CLOSE)]
    return FormatError("more than one answer") if any(tag in inside for tag in TAGS) else inside


def _without_stop(parts: list[Block]) -> list[Block]:
    """A fence that sampling stopped at is the last thing there, and nothing is in it."""
    return parts[:-1] if parts and not parts[-1].fenced and not parts[-1].text else parts


def _too_many(role: Role, kind: Kind, parts: Sequence[Block]) -> bool:
    return len(parts) > 1 if role == Role.SOLVE else asked(kind, "too_many", parts, gives=bool)


def proposal_in(kind: Kind, part: str, program: str) -> Proposal | FormatError:
    try:
        found = kind.read_proposal(blocks(part), program)
    except Exception:  # a mistake in a kind that some text found: that text's loss, and not everybody's end
        log.exception("%s failed at reading a proposal", kind)
        return FormatError("reading failed")
    return found if isinstance(found, Proposal | FormatError) else FormatError("reading failed")


def answer_in(kind: Kind, part: str, bare: bool) -> Answer | FormatError:
    """With `bare` a part without any fence is the answer itself."""
    parts, name = blocks(part), kind.answer_block
    named = [block.text for block in parts if block.name == name]
    if name == "python":
        programs = [block.text for block in parts if block.name in ("python", "") and defines(block.text)]
        named = programs or named
    # A fence without a name, or a tag without fences, can only mean one thing where one thing was asked for.
    named = named or [block.text for block in parts if not block.name]
    if not named and not parts and bare:
        named = [_trim(part)]
    if not named:
        return FormatError(f"no {name} block")
    answer = argument_list(named[-1]) if name == "input" else named[-1]
    return Answer(kind, answer) if answer.strip() else FormatError(f"empty {name} block")


def answer_part(text: str) -> str | None:
    """The part of a completion that is the answer; None when the reasoning never ends."""
    start = text.rfind("<answer>")
    if start >= 0:
        end = text.find("</answer>", start)
        return text[start + len("<answer>") : end if end >= 0 else len(text)]
    end = text.rfind("</think>")
    if end >= 0:
        return text[end + len("</think>") :].replace("</answer>", "\n")
    return None if "<think>" in text else text.replace("</answer>", "\n")


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order. Empty ones without a name are stray fences and left out."""
    cutter = _Cutter()
    # Only these count as line ends: str.splitlines would also cut a Python string at \x0b or \u2028.
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        cutter.line(line)
    cutter.close(closed=False, fenced=False)
    return cutter.found


class _Cutter:
    """Takes lines one by one, knows whether it is inside a block, and collects the finished ones."""

    def __init__(self) -> None:
        self.found: list[Block] = []
        self.fence = ""  # what the block we are in was opened with; empty outside of blocks
        self.name = ""
        self.lines: list[str] = []
        self.label = ""  # the name that the last line outside a block gives the next one

    def line(self, line: str) -> None:
        fence, rest = _fence(line)
        if not self.fence:
            if fence:
                self._open(fence, rest)
            elif line.strip():
                self.label = _label(line)
        elif fence.startswith(self.fence):
            begins = bool(_name_and_rest(rest)[0])  # the next block, although this one was never closed
            self.close(closed=True, fenced=not begins)
            if begins:
                self._open(fence, rest)
        else:
            self._add(line)

    def close(self, closed: bool, fenced: bool) -> None:
        if self.fence and (self.name or any(line.strip() for line in self.lines)):
            self.found.append(Block(self.name, _trim("\n".join(self.lines)), closed, fenced))
        self.fence, self.name, self.lines, self.label = "", "", [], ""

    def _open(self, fence: str, rest: str) -> None:
        name, content = _name_and_rest(rest)
        self.fence, self.name = fence, name or self.label
        if content:
            self._add(content)

    def _add(self, line: str) -> None:
        end = line.rstrip()
        if end.endswith(self.fence):  # "return x```"
            self.lines.append(end.rstrip(self.fence[0]))
            self.close(closed=True, fenced=True)
        else:
            self.lines.append(line)


def _fence(line: str) -> tuple[str, str]:
    """("```", "python") for a fence line, ("", "") for any other."""
    stripped = line.strip()
    for mark in ("`", "~"):
        rest = stripped.lstrip(mark)
        length = len(stripped) - len(rest)
        if length >= 3:
            return stripped[:length], rest.strip()
    return "", ""


def _name_and_rest(rest: str) -> tuple[str, str]:
    """What follows a fence -> the block's name, and content that already stands on the fence's line."""
    word = rest.split(None, 1)[0] if rest else ""
    bare = word.rstrip("`~")
    name = NAMES.get(bare.strip(":").lower(), "")
    content = rest[len(bare) :].strip() if name else rest
    if not name and word == rest and bare.isidentifier() and bare == word:
        content = ""  # a language we have no use for: ```text, ```json, ```bash
    return name, content


def _label(line: str) -> str:
    """The block name that a heading before an unnamed fence gives, such as "### Input 2:"."""
    words = line[:40].strip(" #*_:>-\t").replace(":", " ").lower().split()
    named = len(words) == 1 or (len(words) == 2 and words[1].strip("*_").isdigit())
    return NAMES.get(words[0].strip("*_"), "") if named else ""


def _trim(text: str) -> str:
    """Without blank lines around it, and without the indentation of its first line where all lines share it."""
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    if not filled:
        return ""
    lines = lines[filled[0] : filled[-1] + 1]
    # Only an indented block is touched: dedent would also empty the blank lines of a multi-line string.
    text = "\n".join(lines)
    return (dedent(text) if lines[0][:1].isspace() else text).strip()


def defines(program: str) -> bool:
    return "def " in program or "lambda" in program


def inputs_in(text: str) -> list[str]:
    """One input, or one a line where the block as a whole is none and every line is."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if 1 < len(lines) <= MOST_INPUTS and len(text) <= LONGEST_TREE and arguments(text) is None:
        each = [argument_list(line) for line in lines]
        if all(arguments(line) is not None for line in each):
            return each
    return [argument_list(text)]


def argument_list(text: str) -> str:
    """The text between the parentheses where the whole call f(...) was written, the text itself otherwise."""
    text = text.strip()
    bare = text.removeprefix(">>>").strip()
    if not (bare.startswith("f(") and bare.endswith(")") and len(bare) <= LONGEST_TREE):
        return text
    tree = parse(bare)
    value = tree.body[0].value if tree and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
    whole = isinstance(value, ast.Call) and isinstance(value.func, ast.Name)
    return bare[2:-1].strip() if whole else text
