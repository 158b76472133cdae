"""The letter that an answer to a multiple-choice question chooses.

Asked in this order: a box, the words "the answer is", the words of a conclusion, a text that is one option and nothing
else, the last letter that stands alone. An answer that goes through the options one after the other and does not come
to a conclusion (because it was cut off, often) has chosen nothing: the letters before its sentences are labels.
"""

from __future__ import annotations

import re

from azr_jax.evals.mathematics import last_boxed
from azr_jax.tasks.parsing import answer_part

_MARKS = re.compile(r"""\*\*|[`$"{}]|\\[()\[\]]|\\(?:text|mathrm|mathbf|textbf)\b""")
_I = r"(?!(?<=I)(?:['\u2019]|\s+[a-z]))"  # not the pronoun
_NAMED = rf"[(\[]?([A-J])\b{_I}"
_WRONG = r"(?i:not|wrong|incorrect|false|too|also|ruled|out\b|eliminated)"
_NOT = rf"(?![)\]]?\s*(?:(?i:is|are|was|seems|looks|can be|cannot|can't|isn't)\s*)?{_WRONG})"
_ANSWER = re.compile(rf"(?i:\banswer(?:\s+is|\s*:)(?:\s+the)?(?:\s+(?:option|choice|letter))?):?\s*{_NAMED}{_NOT}")
_KIND = (
    r"(?:\s+(?:the\s+)?(?:(?:correct|right|best|only)\s+)?(?:answer|option|choice|letter|one)(?:\s+(?:is|must be))?)?"
)
_CONCLUDED = (
    re.compile(
        r"(?i:\b(?:so|thus|therefore|hence|must be|leaves(?: us with)?|left with|choose|chose|pick|select|go with)"
        rf"(?:\s+that)?,?(?:\s+it(?:'s|\s+is|\s+must be))?{_KIND}):?\s*{_NAMED}{_NOT}"
    ),
    re.compile(
        rf"{_NAMED}[)\]]?,?\s+(?i:is|must be|has to be|seems|looks)\s+"
        r"(?i:(?:the\s+|therefore\s+|thus\s+)?(?:only\s+)?(?:correct|right|best|true|answer))"
    ),
)
_OPTION = re.compile(rf"(?i:\b(?:option|choice)(?:\s+is)?):?\s*{_NAMED}{_NOT}")
# A letter before a sentence about it: at the start of a line or a sentence, with text behind.
_LABEL = re.compile(
    r"(?:^|(?<=[.;!?:\n]))[ \t]*(?:[-*\u2022]\s*)?(?i:option\s+|choice\s+)?[(\[]?([A-J])[)\].:]+[ \t]*(?=\S)",
    re.MULTILINE,
)


def letter_in(text: str, style: str) -> str | None:
    """The letter chosen, or None."""
    if style == "completion":
        found = re.match(r"\s*\(?([A-J])\b", text)
        return found.group(1) if found else None
    part = answer_part(text)
    if part is None:
        return None
    boxed = last_boxed(part)
    letter = None if boxed is None else _only_letter(_MARKS.sub("", boxed))
    if letter is not None:
        return letter
    said = _MARKS.sub("", part)
    for words in (_ANSWER, *_CONCLUDED):
        found = words.findall(said)
        if found:
            return found[-1]
    labels = _LABEL.findall(said)
    if _walks(labels):
        return None if boxed is not None else _last_alone(_LABEL.sub(" ", said))
    found = _OPTION.findall(said)
    if found:
        return found[-1]
    return _only_letter(said) or (_last_alone(said) if boxed is None else None)


def _walks(labels: list[str]) -> bool:
    """Whether the labels are those of options gone through from the first: A, B, ..."""
    return labels[:2] == ["A", "B"]


def _only_letter(said: str) -> str | None:
    """`(C)`, `C.`, `c`, `Option C`, `C) what it says`: the letter, where the text is that and nothing else."""
    found = re.fullmatch(
        r"(?i:option|choice|answer)?\s*[(\[]?([A-Ja-j])(?:[)\]].*|[.:](?:\s.*)?|\s+-\s.*)?", said.strip(), re.DOTALL
    )
    return found.group(1).upper() if found else None


def _last_alone(said: str) -> str | None:
    found = re.findall(r"\(([A-J])\)", said) or re.findall(r"\b([A-J])\b(?!(?<=[AI])(?:['\u2019]|\s+[a-z]))", said)
    return found[-1] if found else None
