"""Answers that two small models wrote, and others by hand, each with the verdict of a reader (tests/fixtures).

benchmarks/judges.py prints how often MMLU-Pro's expressions and math-verify by itself decide as the reader did.
"""

import gzip
import json
from pathlib import Path

import pytest

from azr_jax.evals.letters import letter_in
from azr_jax.evals.mathematics import MathJudge, final_answer
from tests.evals.at_once import is_right

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def cases(name: str) -> list[dict]:
    with gzip.open(FIXTURES / f"judged_{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_letters_are_read_as_a_reader_does():
    """Of 186 answers by models, 24 had a letter that nobody chose: of a label at the cut, a formula, a unit."""
    wrong = [
        (case["from"], case["text"][-80:], case["decided"], found)
        for case in cases("letters")
        if (found := letter_in(case["text"], "boxed")) != case["decided"]
    ]
    assert not wrong


def test_every_verdict_that_others_do_not_share_has_a_reason():
    letters, mathematics = cases("letters"), cases("mathematics")
    assert len(letters) >= 300 and len(mathematics) >= 300
    assert all(case["why"] for case in letters if case["mmlu_pro"] != case["decided"])
    assert all(case["why"] for case in mathematics if case["math_verify"] != case["decided"])


@pytest.fixture(scope="module")
def judge():
    made = MathJudge(1, limit_s=10.0)  # generous: a loaded machine is no wrong answer
    yield made
    made.close()


def test_mathematics_is_judged_as_a_reader_does(judge):
    """Among what was wrong: a recurring decimal, x <= 2 for an interval, 25 = x, pounds, the number of a step."""
    wrong = [
        (case["from"], case["gold"], case["text"][-80:], case["decided"])
        for case in cases("mathematics")
        if is_right(judge, case["suite"], case["gold"], case["text"]) != case["decided"]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 20.\n\nReason: 1. 20 minutes is 20 minutes.\n2", "20"),
        ("12. So there are 3 left.\n13. Now, we", "3"),
        ("Step 16: there are 5.\nStep 17: Determine", "5"),
        ("The answer is: $1,200.", "1200"),
        ("The answer is **18**.", "18"),
        ("The answer is 18 - 3 = 15", "15"),
        ("The answer is -3, or 3 below zero.", "-3"),
    ],
)
def test_the_number_that_is_called_the_answer_goes_before_the_last_one(text, found):
    """Numbers of steps counted as answers, and whatever stood behind an answer."""
    assert final_answer(text, numbers=True) == found
