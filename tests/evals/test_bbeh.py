"""BIG-Bench Extra Hard: the answer is found and compared by the rules of the benchmark's own script.

The rows are made up in its format (task, input, target): the file itself has not been at hand but for the first rows of
five tasks, whose targets are among these. The others are of the kinds its 23 tasks have: options, numbers, words,
lists, texts with quotes and question marks.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.evals.bbeh import answer_in, right

# Of the file itself, those of every shape that five of its tasks show.
OF_THE_FILE = (
    "[emma, lily]", "unanswerable", "[thursday]", "07-27-2002", "2006-06-08", "els llaços", "He really cried.",
    "to bite", "[commuting, reading, meditating, socializing, sleeping]",
    "[ətkəbox]", "the stranger's dog", "venéxo", "ïnkana",
    "819", "ar mangi bima\u02d0gru.", "7", "67.75", "2.0", "-52", "8749", "-67517",
    "congratulations, rationalizations, organizations, oversimplifications, misrepresentations, skimpy, zoroaster",
)  # fmt: skip
GOLDS = (
    *OF_THE_FILE,
    "(A)", "(k)", "42", "-3.50", "yes", "unknown", "proved", "2, 1, 3", "yes, no, unknown", "[[0, 1], [2, 3]]",
    "'x' and 'y'", "What is it", "ambiguous", "Charlie, Bob", "No, the 3rd. one", "1e3", "Lady of the Lake",
)  # fmt: skip


@pytest.mark.parametrize("gold", GOLDS)
def test_golds_are_right_however_they_are_said_and_no_other_is(gold):
    said = (
        gold,
        f"The answer is: {gold}",
        f"Let me see.\nThe answer is: no\nWait. The final answer is: {gold}.",
        f"The answer is **{gold}**",
        f"<think>The answer is: perhaps</think><answer>{gold}</answer>",
        f"So it is \\boxed{{{gold}}}.",
        f"The answer is $\\boxed{{\\text{{{gold}}}}}$",
        f"The answer is: {gold}\n\nI hope that this helps.",
    )
    for text in said:
        answer = answer_in(text)
        assert answer is not None and right(gold, answer), text
        assert [other for other in GOLDS if other != gold and right(other, answer)] == []


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("(A)", "a"), ("a", "(A)"), ("3.50", "3.5"), ("1000", "1e3"), ("Yes", "YES"), ("it's", "its"), ("1, 2", "1,2"),
        ("1, 2", "[1, 2]"), ("[1, 2]", "1, 2"), ("what is it", "What is it?"),
    ],
)  # fmt: skip
def test_what_counts_as_the_same(gold, answer):
    assert right(gold, answer_in(answer) or "")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("(A)", "(b)"), ("(a)", "a or b"), ("42", "42 apples"), ("yes", "yes, it is"), ("1, 2", "2, 1"), ("12", "1"),
        ("nan", "nano"),
    ],
)  # fmt: skip
def test_what_does_not(gold, answer):
    assert not right(gold, answer_in(answer) or "")


@pytest.mark.parametrize(
    "text", ["", "<think>The answer is: 7", "The answer is:", "\\boxed{}", "<answer></answer>", "."]
)
def test_nothing_is_no_answer(text):
    assert answer_in(text) is None


@given(st.text(), st.text())
def test_no_text_stops_the_judge(gold, text):
    answer = answer_in(text)
    assert answer is None or right(gold, answer) in (True, False)
