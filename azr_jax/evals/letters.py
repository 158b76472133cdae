"""The letter that an answer to a multiple-choice question chooses.

Asked in this order: a box, the words "the answer is", the words of a conclusion, an option that is named, a text that
is one option, a letter that stands alone in the last line. An answer that goes through the options one after the other
and does not come to a conclusion (because it was cut off, often) has chosen nothing: the letters before its sentences
are labels. Nor has one that names two, and letters of formulas and units are none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from azr_jax.evals.mathematics import last_boxed
from azr_jax.tasks.parsing import answer_part

LETTERS = "ABCDEFGHIJ"

_MARKS = re.compile(r"""\*\*|[`$"{}\u201c\u201d]|\\[()\[\]]|\\(?:text|mathrm|mathbf|textbf|textit|bf|mathit)\b""")
_FORMULA = re.compile(r"\$\$?[^$\n]+\$\$?|\\\((?:(?!\\[()]).)+\\\)|\\\[.*?(?:\\\]|\Z)", re.DOTALL)
_I = r"(?!(?<=[AI])(?:['\u2019]|\s+[a-z]))"  # not the pronoun, nor the article
_NOT_I = r"(?!(?<=I)(?:['\u2019]|\s+[a-z]))"
_OF_TWO = r"(?![)\]]?,?\s*(?:(?:or|and|nor|/|&)\s*|,\s*)(?i:option\s+)?[(\[]?[A-J](?:\b(?![')])|[)\]]))"
_NAMED = rf"(?:[(\[]([A-Ja-j])(?=[)\]])|[(\[]?([A-J])\b{_NOT_I}|([b-j])(?=\s*(?:\.\s*)?(?:\n|$))){_OF_TWO}"
_WRONG = r"(?i:not|wrong|incorrect|false|too|also|ruled|out\b|eliminated|invalid)"
_VERB = r"(?i:is|are|was|seems|looks|can be|cannot|can't|isn't|does not|doesn't)"
_NOT = rf"(?![)\]]?\s*(?:{_VERB}\s*(?:an?\s+)?)?{_WRONG})"
_KIND = r"(?:\s+(?:the|letter|option|choice|answer|best|correct|right|only|one|number|labell?ed))*"
_SAYS = (
    r"(?:\s+(?:is|was|should be|would be|must be|has to be|will be|could only be|can only be)|\s*(?:[:=\u2192]|->|-))"
)
_ANSWER = re.compile(
    rf"(?i:\b(?:answer|ans|correct (?:option|choice|letter|statement)|right (?:option|choice)|(?:my|final) choice)\b"
    rf"(?:\s*\([^()]*\))?{_SAYS}(?:,?\s*(?:therefore|thus|then|hence|clearly|indeed|simply),?)?{_KIND}):?\s*{_NAMED}{_NOT}"
)
_CONCLUDED = (
    re.compile(
        r"(?i:\b(?:so|thus|therefore|hence|must be|(?:leaves|leaving)(?: us with| only)?|left with|"
        r"choose|chose|take|pick|select|go with|"
        r"going with|corresponds to|matches|i\.e\.,?|conclude(?: with)?)"
        rf"(?:\s+that)?,?(?:\s+it(?:'s|\s+is|\s+must be))?{_KIND}(?:\s+(?:is|must be))?):?\s*{_NAMED}"
        rf"(?!\s*[=+*/^<>]){_NOT}"
    ),
    re.compile(rf"(?i:\b(?:which|that|this) (?:is|would be) (?:the )?(?:option|choice|answer)):?\s*{_NAMED}{_NOT}"),
    re.compile(
        rf"(?<!nor )(?<!either )(?<!nor \()(?<!either \(){_NAMED}[)\]]?,?\s+(?i:is|must be|has to be|seems|looks)\s+"
        r"(?i:(?:(?:therefore|thus|clearly|indeed)\s+)?(?:the\s+|my\s+)?(?:only\s+|most\s+)?(?:final\s+)?"
        r"(?:correct|right|best|true\b|answer|choice))"
    ),
    re.compile(
        rf"(?i:\b(?:it is|it's|it\u2019s|would be|should be|say|guess|definitely|certainly)):?\s*{_NAMED}"
        r"(?=[)\].,;!]|\s*$|\n)"
    ),
)
# A sentence about an option that says it is the one, at its begin or at its end.
_CHOSEN = re.compile(
    r"(?i:(?:is |this is |it is |yes\W+)*(?:the )?(?:correct|right|true)\b(?! if| when| only| but)"
    r"|.*?\b(?:is|are) (?:the )?(?:correct|right)(?: one| answer| choice| option)?\s*(?:[.;!]|$))"
)
_REFUSED = re.compile(
    r"(?i:(?:is |this is |it is )?(?:incorrect|wrong|false|no)\b"
    r"|.*?\b(?:is|are) (?:\w+ )?(?:not|too|incorrect|wrong|false)\b)"
)
_REMAINS = re.compile(rf"{_NAMED}[)\]]?\s+(?i:remains|is left|is the only one left)\b|;\s*{_NAMED}[)\]]? is[.!]?\s*$")
_OPTION = re.compile(rf"(?i:\b(?:option|choice)(?:\s+is)?):?\s*{_NAMED}{_NOT}")
# A letter before a sentence about it: at the start of a line or a sentence, with text behind.
_LABEL = re.compile(
    r"(?:^|(?<=[.;!?:\n]))[ \t]*(?:(?:[-*\u2022#]+|\d+[.)])[ \t]*)?(?i:option\s+|choice\s+)?[(\[]?([A-J])[)\].:]+"
    r"\s*(?=\S)",
    re.MULTILINE,
)
_NEXT_LINE = re.compile(r"\n+[ \t]*[(\[]?([A-J])[)\].:]")  # which is an option too
_LIST = re.compile(r"[(\[]?\b[A-J]\b[)\]]?(?:,?\s*(?:or|and|nor|/|,)\s*[(\[]?[A-J]\b[)\]]?)+")
_BRACKETED = re.compile(rf"(?<![A-Za-z\d])(?<![Nn]ot )\(([A-J])\){_NOT}")
_AT_THE_END = re.compile(
    r"(?:^|(?i:\b(?:is|be|but|only|just|with|for|then|get|to|it))\s+|[:=\u2192-]\s*)(?<![=+*/^] )\[?([A-J])\]?[.!]?$"
)
_MENTIONED = re.compile(r"(?i:option|choice)\s*\(?([A-J])\b")
_ENDS_AT = re.compile(rf"{_MENTIONED.pattern}\)?\s*$")
_CUT = re.compile(r"(?i:[-*\u2022]\s*|\d+[.)]\s*)?(?i:option |choice )?[(\[]?([A-J])[)\].:]*")


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
    answers = list(_named(_ANSWER, said))
    if answers and not _ascend(answers):
        return answers[-1]
    for words in _CONCLUDED:
        found = list(_named(words, said))
        if found:
            return found[-1]
    if found := list(_named(_REMAINS, said)):
        return found[-1]
    labels = _LABEL.findall(said)
    if _walks(labels) or answers:
        if boxed is not None:
            return None
        return _last_alone(part, labels) or _marked_right(said)
    found = list(_named(_OPTION, said))
    if _ENDS_AT.search(said) and _walks(_MENTIONED.findall(said)):
        return None
    if found:
        return found[-1]
    return _only_letter(said) or (_last_alone(part, labels) if boxed is None else None)


def _named(words: re.Pattern[str], said: str) -> Iterator[str]:
    """The letters behind (or before) such words, but the first of a list of options."""
    line_end, behind = -1, None
    for match in words.finditer(said):
        letter = next(group for group in match.groups() if group).upper()
        if line_end < match.end():  # looked for once a line
            line_end = said.find("\n", match.end()) % (len(said) + 1)  # the end of the text where there is none
            behind = _NEXT_LINE.match(said, line_end)
        if not (behind and LETTERS.find(behind[1]) == LETTERS.find(letter) + 1):
            yield letter


def _ascend(answers: list[str]) -> bool:
    """Whether every option was called the answer in turn."""
    return len(answers) > 3 and all(b == chr(ord(a) + 1) for a, b in itertools.pairwise(answers[:4]))


def _walks(labels: list[str]) -> bool:
    """Whether the labels are those of options gone through from the first: A, B, ..."""
    return list(dict.fromkeys(labels))[:2] == ["A", "B"] and labels[0] == "A"


def _marked_right(said: str) -> str | None:
    """Of options gone through, the one that is called right, where that is one alone and all behind it are refused."""
    marks = list(_LABEL.finditer(said))
    ends = [*(mark.start() for mark in marks[1:]), len(said)]
    told = [(mark[1], said[mark.end() : end].strip()) for mark, end in zip(marks, ends)]
    right = [place for place, (_, text) in enumerate(told) if _CHOSEN.match(text)]
    if len(right) == 1 and all(_REFUSED.match(text) for _, text in told[right[0] + 1 :]):
        return told[right[0]][0]
    return None


def _only_letter(said: str) -> str | None:
    """`(C)`, `C.`, `c`, `Option C`, `C) what it says`: the letter, where the text is that and nothing else."""
    found = re.fullmatch(
        r"(?i:option|choice|answer)?\s*[(\[]?([A-Ja-j])(?:[)\]].*|[.:](?:\s.*)?|\s+-\s.*|[ \t]*\n.*)?",
        said.strip(),
        re.DOTALL,
    )
    return found.group(1).upper() if found else None


def _last_alone(part: str, labels: list[str]) -> str | None:
    """The letter that the last line names, formulas and labels apart; not the next option's label, cut off there."""
    line = (_MARKS.sub("", _FORMULA.sub(" ", part)).strip().split("\n") or [""])[-1].strip()
    cut = _CUT.fullmatch(line)
    if cut and _walks(labels) and LETTERS.find(cut[1]) in (LETTERS.find(labels[-1]) + 1, LETTERS.find(labels[-1])):
        return None
    rest = _LIST.sub(" ", _LABEL.sub(" ", line) if _walks(labels) else line)
    found = _BRACKETED.findall(rest) or _AT_THE_END.findall(rest.strip())
    return found[-1] if found else None
