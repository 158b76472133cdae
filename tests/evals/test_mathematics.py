"""Final answers found in what models write, and compared by a process that can be killed."""

from types import SimpleNamespace

import pytest

from azr_jax.evals import mathematics
from azr_jax.evals.datasets import Row
from azr_jax.evals.mathematics import MathJudge, final_answer, gold_of, last_boxed
from azr_jax.evals.suites import SUITES, Judges
from azr_jax.selfplay.event_loop import EventLoop
from tests.evals.at_once import finished


@pytest.fixture(scope="module")
def judge():
    made = MathJudge(1, limit_s=10.0)  # generous: a loaded machine is no wrong answer
    yield made.judge
    made.close()


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("025", "25"),
        ("\\frac{1}{2}", "0.5"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)"),
        ("x^2+1", "1+x^2"),
        ("10\\%", "0.1"),
    ],
)
def test_equal_answers(judge, gold, answer):
    assert judge(gold, answer).correct


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("25", "26"), ("\\frac{1}{2}", "2"), ("(1,2]", "[1,2]"), ("x+1", "y+1"), ("7", ""), ("7", "{" * 40), ("7", "\\")],
)
def test_other_answers(judge, gold, answer):
    assert judge(gold, answer).score == 0


def test_an_answer_that_takes_for_ever_is_killed_and_the_next_is_judged():
    made = MathJudge(1, limit_s=3.0)
    try:
        assert made.judge("7", "9^{9^{9^{9^{9}}}}+\\int_0^1 x^{x^{x}} dx").score == 0
        assert made.judge("7", "7").correct
        assert made.judge("7", "7" * 2_000).reason == "too long"
    finally:
        made.close()


def test_a_worker_that_does_not_start_is_an_error_and_never_a_wait(monkeypatch):
    monkeypatch.setattr(mathematics.sys, "executable", "/bin/false")
    made = MathJudge(1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="math-verify"):
            made.judge("7", "7")
    with pytest.raises(RuntimeError, match="math-verify"):
        made.start()
    made.close()


def test_an_answer_is_not_run_as_a_program(judge, tmp_path):
    """math-verify hands some text to sympy's reader, which evaluates it: the worker cannot open a file for writing."""
    file = tmp_path / "made"
    for text in (f"__import__('os').system('touch {file}')", f"open('{file}', 'w')", f'exec(\'open("{file}", "w")\')'):
        assert judge("7", text).score == 0
    assert not file.exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think>\\boxed{1}</think><answer>\\boxed{\\frac{1}{2}}</answer>", "\\frac{1}{2}"),
        ("<think>so</think><answer> $12$ </answer>", "12"),
        ("<think>so</think><answer>```output\n12\n```</answer>", "12"),
        ("<answer>1</answer> no, <answer>2", "2"),
        ("first \\boxed{1}, then \\boxed{a_{2}}.", "a_{2}"),
        ("<think>still at it, 12", None),
        ("It is 12.", None),
        ("\\boxed{", None),
        ("<answer></answer>", None),
    ],
)
def test_where_the_answer_is(text, found):
    assert final_answer(text) == found


def test_grade_school_answers_may_be_the_last_number():
    assert final_answer("She has 3 and then earns $1,250.50.", numbers=True) == "1250.50"
    assert final_answer("none", numbers=True) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is .5", ".5"),
        ("10-18", "18"),
        ("10 - 18", "18"),
        ("= -18", "-18"),
        ("1 000 of them", "1000"),
        ("1,000,000.50 left", "1000000.50"),
        ("cost -$5", "-5"),
        ("3/4", "3/4"),
        ("about 7.", "7"),
    ],
)
def test_the_last_number(text, found):
    assert final_answer(text, numbers=True) == found


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1234", r"1\,234"), ("1234", r"1\;234"), ("1234", r"1\ 234"), ("1234", "1~234"), ("1234", "1{,}234"),
        ("1234567", r"1\,234\,567"), ("12345.5", r"12\,345.5"), ("-1234", r"-1\,234"),
        ("90", "90°"), ("90^\\circ", "90°"), ("90", "90^\\circ"), ("90^\\circ", "90"), ("90", r"90\text{ degrees}"),
        ("5", r"5~\mathrm{kg}"), ("5", r"5\,\mathrm{kg}"), ("5", r"5\ \text{kg}"), ("5", r"5~\text{cm}^2"),
        ("3.21", r"\mathbf{3.21}"), ("3.21", r"\mathrm{3.21}"), ("3.21", r"\textbf{3.21}"), ("3.21", r"\text{3.21}"),
        ("3.21", r"\boldsymbol{3.21}"), ("3.21", r"\bm{3.21}"), ("-5", "\u22125"), ("\\sqrt{2}", "\u221a2"),
        ("2\\sqrt{3}", "2\u221a3"), ("\\sqrt{x+1}", "\u221a(x+1)"), ("\\infty", "\u221e"),
        ("3/4", "\u00be"), ("6", "2\u00d73"),
        ("(1,2)", r"(1,\,2)"), ("x+1", r"x\,+\,1"),
    ],
)  # fmt: skip
def test_spellings_of_the_same(judge, gold, answer):
    """1\\,234 was 235, 90 degrees was no number, and bold type around one made it wrong."""
    assert judge(gold, answer).correct


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1234", r"1\,235"), ("234", r"1\,234"), ("235", r"1\,234"), ("1234", r"12\,34"), ("1", r"1\,234"),
        ("90", "9°"),        ("3.21", r"\mathbf{3.22}"), ("2", "\u221a2"), ("5", r"6~\mathrm{kg}"),
    ],
)  # fmt: skip
def test_spellings_of_something_else(judge, gold, answer):
    assert judge(gold, answer).score == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed 14", "14"), (r"\boxed 14.", "14"), (r"so $\boxed 14$", "14"), (r"\boxed -3", "-3"),
        (r"\boxed{14", None),         (r"\boxed {14}", "14"), (r"\fbox{1} \boxed{2}", "2"),
        (r"\boxed{1} and \boxed 2", "2"), (r"\boxed", None),
        (r"$\fboxed{3}$", "3"), (r"\boxed\frac{1}{2}", None),
    ],
)  # fmt: skip
def test_boxes_with_and_without_braces(text, found):
    assert last_boxed(text) == found


@pytest.mark.parametrize(
    ("answer", "several"),
    [
        (r"28\text{ hours and }35\text{ minutes}", True), ("28 hours and 35 minutes", True),
        ("28 hours, 35 minutes", True),         ("18 dollars and 50 cents", True),
        (r"5\,\text{ft}~3\,\text{in}", True), ("2 hours 30 min", True),
        ("28 hours", False), (r"28\text{ hours}", False), ("28", False), ("18 dollars a day", False),
        ("18 dollars per 2 days", True), ("x = 28 hours", False), (r"28\text{ hours and a bit}", False),
    ],
)  # fmt: skip
def test_one_quantity_in_several_units_is_no_number(answer, several):
    """28 hours and 35 minutes counted as 28."""
    assert mathematics.hedged("28", answer) == several


GRADE_SCHOOL = SUITES["gsm8k"]


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        *(("18", text, True) for text in (
            "18.", "18 dollars", "**18**", "`18`", "The answer is 18", "Answer: 18", "€18", "USD 18", "$18 per day",
            "\\boxed{\\text{18 dollars}}", "\\boxed{\\$18}", "x = 18", "3 * 6 = 18", "The answer is $18$.", "18.00",
            "54/3 = 18.00 = 18",
        )),
        *(("1000", text, True) for text in ("1,000 dollars", "1 000", "1\\,000", "1_000", "$1,000", "1{,}000")),
        *(("18", text, False) for text in (
            "17", "-18", "1.8", "180", "17, 18", "between 17 and 18", "17=18", "1=2=3=18", "17 \\lor 18", "18 or 19",
            "18 \\text{ (or 19)}", "none",
        )),
    ],
)  # fmt: skip
def test_grade_school_answers(judge, gold, answer, right):
    """However they are worded; several at once are none."""
    row = Row("0", {"question": "?", "answer": f"#### {gold}"})
    item = GRADE_SCHOOL.make(GRADE_SCHOOL, row, "think", Judges(None, None))  # type: ignore[arg-type]
    assert item is not None
    asks = SimpleNamespace(submit=lambda asked: finished(judge(asked.gold, asked.answer)))
    assert EventLoop(None, asks).run(item.grade(f"<think>so</think><answer>{answer}</answer>")).score == right


def test_boxes_within_boxes():
    assert last_boxed(r"\boxed{\text{a \} b} {c}}") == r"\text{a \} b} {c}"


def test_gold_answers_stand_where_each_benchmark_keeps_them():
    assert gold_of("gsm8k", {"answer": "3 + 1\n#### 1,004"}) == "1004"
    assert gold_of("amc23", {"answer": 27.0}) == "27"
    assert gold_of("aime24", {"answer": "025"}) == "025"
    assert gold_of("math500", {"solution": r"so $\boxed{3}$ or \boxed{\frac{1}{2}}", "answer": "x"}) == r"\frac{1}{2}"
    assert gold_of("olympiadbench", {"final_answer": ["$\\frac{1}{2}$"]}) == "\\frac{1}{2}"
