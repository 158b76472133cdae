"""Spellings of one and the same answer, made one before math-verify compares: it takes many of them for something else.

What changes no value is taken away: thin spaces between the digits of a number, bold and upright type around one,
signs that are single characters. What an answer says stays what it says.
"""

from __future__ import annotations

import re

_SIGNS = {
    "\u00b0": r"^\circ", "\u221e": r"\infty", "\u2212": "-", "\u00d7": r"\times ", "\u00b7": r"\cdot ",
    "\u22c5": r"\cdot ",
    "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}", "\u2153": r"\frac{1}{3}",
    "\u2154": r"\frac{2}{3}", "\u2264": r"\le ", "\u2265": r"\ge ", "\u222a": r"\cup ",
}  # fmt: skip
_ROOT = re.compile(r"\u221a\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
_GROUP = r"(?:\\[,;:! ]|~|\u00a0|\u202f|\u2009|\{,\})"
_GROUPED = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)")
_TYPED = re.compile(
    r"\\(?:mathbf|mathrm|mathit|mathsf|textbf|textit|textrm|text)\{\s*([^{}A-Za-z\\]*\d[^{}A-Za-z\\]*)\}"
)
_MONEY = re.compile(r"[\u00a3\u20ac\u00a5]|\\text\{\s*\\?\$\s*\}")
_RECURRING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar)\{?(\d+)\}?")
_MIXED = re.compile(r"\s*(-?)(\d+) (\d+)/(\d+)\s*")
_SPACED = re.compile(r"\s*-?\d{1,3}(?: \d{3})+(?:\.\d+)?\s*")
_NAMED_LAST = re.compile(r"([^=<>]+)=\s*([A-Za-z])\s*")
_IMAGINARY = re.compile(r"(?<=\d)\s+i\b")
_BOLD = re.compile(r"\\(?:boldsymbol|bm|pmb)\{([^{}]*)\}")


def plain(answer: str) -> str:
    """The answer in the spelling that is compared."""
    for sign, latex in _SIGNS.items():
        answer = answer.replace(sign, latex)
    answer = _ROOT.sub(lambda found: rf"\sqrt{{{found[1] or found[2]}}}", answer)
    answer = _BOLD.sub(r"\1", _TYPED.sub(r"\1", answer))
    answer = _GROUPED.sub(lambda found: re.sub(_GROUP, "", found[0]), answer)
    answer = _RECURRING.sub(_fraction, _MONEY.sub("", answer).replace("~", " "))
    if _SPACED.fullmatch(answer):
        return answer.replace(" ", "")
    if mixed := _MIXED.fullmatch(answer):
        return rf"{mixed[1]}\frac{{{int(mixed[2]) * int(mixed[4]) + int(mixed[3])}}}{{{mixed[4]}}}"
    if last := _NAMED_LAST.fullmatch(answer):
        return f"{last[2]}={last[1]}"
    return _IMAGINARY.sub("i", answer)


def _fraction(recurring: re.Match[str]) -> str:
    """0.1(6) is (16 - 1) / 90."""
    whole, once, again = recurring.groups()
    below = int("9" * len(again) + "0" * len(once))
    return rf"\frac{{{int((whole or '0') + once + again) - int((whole or '0') + once)}}}{{{below}}}"


# One way to read each text: a word ends where its letters do, and what is blank belongs to what stands before it.
_WORD = r"(?:\\(?:text|mathrm|textrm)\{[^{}]*\}|[A-Za-z]{2,}(?![A-Za-z])\.?)"
_QUANTITY = rf"\$?-?\d[\d,]*(?:\.\d+)?(?:[\s~]|\\[,;: ])*{_WORD}(?:[\s~]|\\[,;: ]|{_WORD})*"
_COMPOUND = re.compile(rf"\s*(?:{_QUANTITY}(?:,\s*)?){{2,}}")


def compound(answer: str) -> bool:
    """Whether it is one quantity in several units, as 28 hours and 35 minutes: no number of it is the answer."""
    return bool(_COMPOUND.fullmatch(answer))
