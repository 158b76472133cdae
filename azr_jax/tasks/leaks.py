"""How much of its program the message of an induction task gives away as code.

Both are cut into words, numbers, texts and signs; names that are not Python's own count alike, so a copy with other
names is a copy. Counted is what of the program stands in the message in runs of RUN and more: words of a language hold
no such runs, and a formula of a few signs may be said as it is. Left out on purpose: a program told in words, which is
what a message is for, and one written in a cipher.
"""

from __future__ import annotations

import builtins
import keyword
import re

from azr_jax.tasks.programs import parse, without_comments

RUN = 6
COMMENT = re.compile(r"(?:#|//).*")
# Signs that stand around lines of code where they are listed, quoted or put into texts.
AROUND = re.compile(r"^[ \t]*(?:(?:\d+[.):]|[>|*#+\-]+)[ \t]+)+|\\[nt]|[\\|\"'`]|,(?=[ \t]*$)", re.MULTILINE)
QUOTES = re.compile(r"[\"'\\|`]")
BETWEEN = re.compile(r"[\"']\s*,\s*[\"']")  # of a list of texts
TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\"[^\"\n]*\"|'[^'\n]*'|[^\w\s;`]")
KNOWN = {*keyword.kwlist, *dir(builtins)}


def leak(program: str, message: str) -> float:
    """The share of the program's code that stands in the message, from 0 to 1; a short one counts with its `def`."""
    bare = without_comments(program) if parse(program) is not None else program
    body = _without_head(bare)
    code = body if len(_tokens(body)) >= RUN else bare
    # What follows a # may be about the code, or be the code; and so with what stands in quotes, or in a list.
    listed = AROUND.sub(" ", BETWEEN.sub(" ", message))
    plain = _share(code, (message, COMMENT.sub("", message)))
    return max(plain, _share(QUOTES.sub(" ", code), (listed, COMMENT.sub("", listed))))


def _share(program: str, readings: tuple[str, ...]) -> float:
    """How much of the code stands in runs that are said."""
    code, runs = _tokens(program), {run for said in readings for run in _runs(_tokens(said))}
    covered = set[int]()
    for i, run in enumerate(_runs(code)):
        if run in runs:
            covered.update(range(i, i + RUN))
    return len(covered) / len(code) if code else 0.0


def _without_head(program: str) -> str:
    """Without the first `def f(...) ...:`. Searched forward only: one pattern would try each bracket with each head."""
    start = program.find("def f(")
    bracket = program.find(")", start) if start >= 0 else -1
    colon = program.find(":", bracket) if bracket >= 0 else -1
    return program[:start] + program[colon + 1 :] if colon >= 0 else program


def _runs(tokens: list[str]) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + RUN]) for i in range(len(tokens) - RUN + 1)]


def _tokens(text: str) -> list[str]:
    found = (token.replace('"', "'") for token in TOKEN.findall(text))
    return ["name" if _is_name(token) else token for token in found]


def _is_name(token: str) -> bool:
    return token.isidentifier() and token not in KNOWN
