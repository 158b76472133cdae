"""What reads a model's text or what a child wrote takes time that grows with its length, and raises nothing."""

# ruff: noqa: E501 - a table of scraps

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "executor"))

from costs import NOISE_S, cpu_s

from azr_jax.evals import evalplus, jail_runtime, letters, mathematics, questions, spelling

READERS: dict[str, Callable[[str], object]] = {
    "boxed": mathematics.last_boxed,
    "final answer": mathematics.final_answer,
    "final number": lambda t: mathematics.final_answer(t, numbers=True),
    "only number": mathematics.only_number,
    "hedged": lambda t: mathematics.hedged("5", t),
    "spelling": spelling.plain,
    "compound": spelling.compound,
    "letter": lambda t: letters.letter_in(t, "chat"),
    "letter of a completion": lambda t: letters.letter_in(t, "completion"),
    "letter in a box": lambda t: letters.letter_in("\\boxed{" + t + "}", "chat"),
    "program": lambda t: questions.program_in(t, "chat", before="def f(x):\n", name="f"),
    "script": lambda t: questions.program_in(t, "chat"),
    "completed program": lambda t: questions.program_in(t, "completion", stops=("\nclass", "\n#")),
    "printed words": jail_runtime._words,
}
UNITS = [
    "a", "A", "A.", "A) ", "(A", "(A) ", "\nA) ", "A\n", "I ", "A is ", "answer is ", "answer: the option ", "so it is the ",
    "therefore, ", "must be ", "option ", "choice is ", "1", "1,", "1,234", "1,234,", "1 234", "123 ", ".1", "1.", "1/", "-1", "- ",
    "$", "$1", "\\boxed{", "\\boxed", "\\boxed 1", "\\boxed ", "{", "}", "{}", "\\{", "\\text{", "\\text{1", "\\mathbf{", "\\mathbf{1",
    "\\bm{", "\u221a", "\u221a(", "\u221a (", "\\,", "1\\,", "1\\,234", "~", "1~", "1~234", "5 cm ", "5 cm, ", "5 \\text{a}", "aa ",
    "aa.", "=", "1=", "or ", " ", "\t", "\n", "\n ", " \n", "\r\n", "```\n", "```python\n", "```", "`", "**", "<answer>", "</answer>",
    "<think>", "</think>", "def f", "def f(", "\ndef f(x):\n", "\ndef ", "import a\n", "\nreturn ", "a, ", "a,b ", "a=", "a(", "#", "'", '"""',
    "class A", "4e5 ", "4e", "1e9 ", "0.", "00", "nan ", "\u2212", "\u00a0", "\u2022 A", "not ", "the correct answer ", "A seems ", "\\(", "\\)",
]  # fmt: skip
# what no repetition takes stands at the end, so that all ways to read the rest are tried
TEXTS: dict[str, Callable[[int], str]] = {repr(unit): lambda n, unit=unit: (unit * n)[:n] + "!" for unit in UNITS}


def is_linear(read: Callable[[str], object], make: Callable[[int], str]) -> bool:
    """Four times the length costs no more than nine times as much (three for each doubling); asked again when busy."""
    small, large = make(5_000), make(20_000)
    return any(
        cpu_s(lambda: read(large), times) <= 9 * max(cpu_s(lambda: read(small), times), NOISE_S) for times in (1, 3, 5)
    )


def test_a_quantity_in_many_units_is_read_at_once():
    """Some two hundred words took longer than anybody waits: each could be read as one word or as several."""
    began = time.thread_time()
    assert not spelling.compound("5 cm " * 200 + "!") and spelling.compound("28 hours and 35 minutes")
    assert spelling.compound("2 ft, 3 in.") and not spelling.compound("28 hours")
    assert time.thread_time() - began < 0.1


def test_what_evalplus_would_run_is_found_in_bounded_time(monkeypatch):
    """Its search tries every run of lines. Within its limit of 768 tokens it is exact; beyond, it ends."""
    assert evalplus.program("some words\ndef f(x):\n    return g(x)\nand more", "f") == "def f(x):\n    return g(x)"
    monkeypatch.setattr(evalplus, "_MOST_READ", 200_000)
    read = lambda text: evalplus.program(text, "f")  # noqa: E731
    assert [name for name, make in TEXTS.items() if cpu_s(lambda make=make: read(make(10_000)), 1) > 1.0] == []


@pytest.mark.parametrize("reader", READERS)
def test_answers_are_read_in_linear_time(reader):
    read = READERS[reader]
    for make in TEXTS.values():
        read(make(1_000))
    assert [name for name, make in TEXTS.items() if not is_linear(read, make)] == []
