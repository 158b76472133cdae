"""Texts to learn from are the prompts of self-play, and the parsers of self-play read their completions back."""

from __future__ import annotations

import random

import pytest

from azr_jax.nano import texts, tokenizer
from azr_jax.nano.texts import KINDS, draw, proposing, solving, task_of
from azr_jax.nano.world import Known
from azr_jax.tasks import prompts
from azr_jax.tasks.parsing import parse_answer, parse_proposal
from azr_jax.tasks.types import Answer, Kind, Proposal, Role

DOUBLE = Known(
    1,
    "def f(n):\n    return n * 2",
    "It multiplies by 2.",
    ("1", "2", "3", "4", "5", "6"),
    ("2", "4", "6", "8", "10", "12"),
    ("2", "4", "6", "8", "10", "12"),
)
UPPER = Known(
    1,
    "def f(s):\n    s = s[1:]\n    return s.upper()",
    "It drops the first, then makes it upper.",
    ("'ab'", "'xyz'", "'c'", "'ba'", "'dx'", "'eye'"),
    ("'B'", "'YZ'", "''", "'A'", "'X'", "'YE'"),
    ('"B"', '"YZ"', '""', '"A"', '"X"', '"YE"'),
)


def test_a_deduction_text_is_the_solvers_prompt_and_the_output():
    text = solving(Kind.DEDUCTION, DOUBLE, 2)
    prompt = prompts.solve(Kind.DEDUCTION, task_of(Kind.DEDUCTION, DOUBLE, 2), style="completion")
    assert text.prompt == prompt.render()
    assert text.prompt.endswith("return n * 2\n```\n```input\n3\n```\n```output\n")
    assert text.completion == "6\n```"


@pytest.mark.parametrize("kind", KINDS)
def test_parsers_read_back_what_was_written(kind: Kind):
    right = {Kind.DEDUCTION: "'YZ'", Kind.ABDUCTION: "'xyz'", Kind.INDUCTION: UPPER.program}[kind]
    prompt = prompts.solve(kind, task_of(kind, UPPER, 1), style="completion")
    assert parse_answer(kind, prompt.prefix + solving(kind, UPPER, 1).completion) == Answer(kind, right)

    text = proposing(kind, UPPER, 1, [task_of(Kind.DEDUCTION, DOUBLE, 0)])
    prefix = "```message\n" if kind == Kind.INDUCTION else prompts.OPENED_PROGRAM
    assert text.prompt.endswith(prefix)
    inputs = UPPER.inputs[: texts.INDUCTION_INPUTS] if kind == Kind.INDUCTION else ("'xyz'",)
    message = UPPER.message if kind == Kind.INDUCTION else ""
    parsed = parse_proposal(kind, prefix + text.completion, program=UPPER.program)
    assert parsed == Proposal(kind, UPPER.program, inputs, message)


def test_a_completion_is_what_sampling_would_stop_at():
    """An answer ends with the fence that stops it; a proposal holds nothing that would stop it earlier."""
    for kind in KINDS:
        stop = prompts.solve(kind, task_of(kind, DOUBLE, 0), style="completion").stop
        completion = solving(kind, DOUBLE, 0).completion
        assert completion.endswith(stop[0]) and completion.count(stop[0]) == 1
        proposed = proposing(kind, DOUBLE, 0, [])
        assert not any(word in proposed.completion for word in ("\n###", "```output", "```python"))


@pytest.fixture(scope="module")
def built():
    rng = random.Random(0)
    return tokenizer.build(draw(rng, [DOUBLE, UPPER], role, kind) for role in Role for kind in KINDS for _ in range(20))


def test_what_never_varies_is_one_token_and_digits_and_letters_in_strings_are_single(built):
    ids = built.encode(solving(Kind.DEDUCTION, DOUBLE, 2).prompt).ids
    pieces = [built.decode([i]) for i in ids]
    assert pieces[0].endswith("output 2\n```python\ndef f(")  # the worked example and both headings
    assert pieces[1:4] == ["n", ")", ":"]
    assert pieces[-2:] == ["3", "\n```\n```output\n"]
    assert built.encode("'xyz', 1234").tokens == ["'", "x", "y", "z", "'", ",Ġ", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "text", ["", "é\u2028 ü\t\r\n", "def f(a):\n\treturn '''x'''", "### ``` ```python\ndef f(f(", "\x00\x7f"]
)
def test_any_text_comes_back_from_its_tokens(built, text: str):
    assert built.decode(built.encode(text).ids, skip_special_tokens=False) == text


def test_all_texts_come_back_from_their_tokens(built):
    rng = random.Random(1)
    for _ in range(50):
        text = draw(rng, [DOUBLE, UPPER], rng.choice(list(Role)), rng.choice(KINDS))
        for part in (text.prompt, text.completion):
            assert built.decode(built.encode(part).ids) == part
