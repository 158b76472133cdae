"""BIG-Bench Extra Hard: which text is the answer, and when it is the gold.

The rules are those of the benchmark's own script, told in docs/EVALS.md, so that figures can be held against published
ones. Beside them: what stands in a box or behind the reasoning counts as the answer, as in every other suite.
"""

from __future__ import annotations

from azr_jax.evals.mathematics import last_boxed
from azr_jax.tasks.parsing import answer_part

# Looked for one after the other, each in what the one before left.
_SAID = ("The answer is:", "The final answer is ", "The final answer is: ", "The answer is ")
_DRESS = ("boxed{", "text{", "texttt{")


def answer_in(text: str) -> str | None:
    """None where there is nothing that could be an answer."""
    part = answer_part(text)
    if part is None:
        return None
    boxed = last_boxed(part)
    found = (part if boxed is None else boxed).strip()
    for words in _SAID:
        if words in found:
            found = found.split(words)[-1].strip()
    found = _undressed(found.removesuffix("."))
    return _plain(found.replace("**", "").split("\n")[0]).removesuffix(".") or None


def right(gold: str, answer: str) -> bool:
    """Equal but for case, blanks behind commas, an option's brackets, a list's, quotes, a question mark, zeros."""
    gold = _plain(gold.strip()).removesuffix(".")  # as of the answer: the script's own leaves golds that end in one
    number = _number(gold)
    return (
        answer == gold
        or _option(answer) == _option(gold)
        or (number is not None and _number(answer) == number)
        or answer.replace("'", "") == gold.replace("'", "")
        or gold == f"[{answer}]"
        or answer in (f"[{gold}]", f"{gold}?")
    )


def _plain(text: str) -> str:
    return text.lower().replace(", ", ",")


def _undressed(text: str) -> str:
    if len(text) > 1 and text.startswith("$") and text.endswith("$"):
        text = text[1:-1]
    for dress in _DRESS:
        if dress in text and text.endswith("}"):
            text = text[:-1].split(dress)[1]
    return text


def _option(text: str) -> str:
    return text[1] if len(text) == 3 and text[0] == "(" and text[2] == ")" else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
