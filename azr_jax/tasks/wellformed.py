"""Whether a completion as a whole is what was asked for, and nothing else: the strict reading (`tasks.format`).

    think, think_chat   <think> reasoning </think> <answer> blocks </answer>, with nothing but white space around
    chat, completion    the blocks, the first of which the prompt opened; words around them are let be

In every style the completion ended by itself, each block is closed by a fence of its own, and there are as many blocks
as were asked for: one puzzle, one answer. parsing.py on its own takes whatever it can find; what passes here first is
worth no more than a short text of the same meaning, however long, repeated or cut it may be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from azr_jax.tasks.kind import KindFailed, asked
from azr_jax.tasks.parsing import Block, answer_in, blocks, proposal_in
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Role

log = logging.getLogger(__name__)

TAGGED = ("think", "think_chat")  # styles whose answer stands in tags
OPEN, CLOSE = "<answer>", "</answer>"
TAGS = ("<think>", "</think>", OPEN, CLOSE)


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
