"""Every suite can be asked in every style, and what is asked for is found again in the answer."""

import base64
import json
import pickle
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from azr_jax.evals import evalplus, harness
from azr_jax.evals.code import BrokenTest, Runner
from azr_jax.evals.command import CannotEvaluate, check_window, inside
from azr_jax.evals.datasets import Row
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.questions import STYLES, TASK_STYLE, first_answer, mathematics, program_in
from azr_jax.evals.suites import GROUPS, SUITES, Graded, Judges, UnknownSuite, contest_tests, inside_call, named
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.tasks.prompts import Prompt
from tests.evals.at_once import graded

TESTS = [{"input": "1\n2\n", "output": "3\n", "testtype": "stdin"}]
PROMPT = 'def add(a, b):\n    """Adds.\n    >>> add(1, 2)\n    3\n    """\n'
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, 5) == 5\n"
PLUS = {"entry_point": "add", "canonical_solution": "    return a + b\n", "atol": 0}
PLUS |= {"base_input": [[1, 2]], "plus_input": [[5, 7]]}
CONTEST = {
    "question_content": "Add two numbers.",
    "starter_code": "",
    "metadata": "{}",
    "public_test_cases": json.dumps(TESTS),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(json.dumps(TESTS)))).decode(),
}
RIGHT = "def add(a, b):\n    return a + b"
SCRIPT = "print(int(input()) + int(input()))"
MADE_UP = {
    "humaneval": ("H/0", {"prompt": PROMPT, "test": CHECK} | PLUS, RIGHT),
    "humaneval_plus": ("H/0", {"prompt": PROMPT} | PLUS, RIGHT),
    "mbpp": (
        "11",
        {"text": "Adds.", "code": RIGHT, "test_list": ["assert add(1, 2) == 3"], "test_setup_code": ""},
        RIGHT,
    ),
    "mbpp_plus": (
        "Mbpp/9",
        PLUS | {"prompt": '"""\nAdds.\nassert add(1, 2) == 3\n"""\n', "canonical_solution": RIGHT},
        RIGHT,
    ),
    "livecodebench_v1": ("1", CONTEST, SCRIPT),
    "cruxeval_o": ("s", {"code": "def f(a):\n    return {a}", "input": "1", "output": "{1}"}, "{1}"),
    "cruxeval_i": ("s", {"code": "def f(a):\n    return {a}", "input": "1", "output": "{1}"}, "True"),
    "livecodebench_execution": (
        "s",
        {"code": "def add(a, b):\n    return a + b", "function_name": "add", "input": "add(a=1, b=2)", "output": "3"},
        "3",
    ),
    "gsm8k": ("0", {"question": "1 + 2?", "answer": "#### 3"}, "3"),
    "math500": ("0", {"problem": "1 + 2?", "solution": "\\boxed{3}"}, "3"),
    "livecodebench_v6": ("1", CONTEST | {"contest_date": "2025-03-01T00:00:00"}, SCRIPT),
    "supergpqa": (
        "u",
        {"question": "?", "options": ["x", "y"], "answer": "y", "answer_letter": "B", "discipline": "Law"},
        "B",
    ),
    "aime26": ("1", {"id": 1, "problem": "1 + 2?", "answer": 3}, "3"),
    "bbeh": ("0", {"task": "an odd one", "input": "Which?\n(A) x\n(B) y", "target": "(B)"}, "B"),
    "livecodebench_output": (
        "0",
        {
            "question_content": "Add two numbers.",
            "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:\n        ",
            "function_name": "add",
            "test": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
            "contest_date": "2023-08-21T00:00:00",
        },
        "3",
    ),
    "mmlu_pro": ("0", {"question": "?", "options": ["x", "y"], "answer": "B", "category": "law"}, "B"),
}


@pytest.fixture(scope="module")
def judges(runner: Runner):
    mathematics = MathJudge(1, limit_s=10.0)
    yield Judges(runner, mathematics)
    mathematics.close()


def completion(name: str, style: str, prompt: Prompt, answer: str) -> str:
    """What a model that knows the answer would write after the prompt's prefix."""
    area = SUITES[name].area
    if area == "in_distribution":
        kind = "input" if name == "cruxeval_i" else "output"
        fenced = f"```{kind}\n{answer}\n```"
        return (
            f"<think>hm</think><answer>{fenced}</answer>"
            if style.startswith("think")
            else prompt.prefix + answer + "\n```"
        )
    if style == "evalplus":
        return f"{prompt.prefix}{answer}\n```\nIt adds."
    if style == "completion":
        if name == "bbeh":
            return f" ({answer})\n\nQuestion:"
        if area == "general":
            return f"{answer})"
        if area == "math":
            return f" It is \\boxed{{{answer}}}.\n\nProblem:"
        if name.startswith("livecodebench_v"):
            return prompt.prefix + answer + "\n```"
        body = "    return a + b\n\n\nprint(1)\n"
        return body if name.startswith("humaneval") else f"{prompt.prefix}a, b):\n{body}"
    said = {"code": f"```python\n{answer}\n```"}.get(area, answer)
    if style.startswith("think"):
        return f"<think>Let me see ```python\n1\n```</think> <answer>{said}</answer>"
    return said if area == "code" else f"So it is \\boxed{{{answer}}}."


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", MADE_UP)
def test_right_answers_are_found_and_wrong_ones_are_not_taken(name, style, judges):
    if style == "evalplus" and name not in evalplus.SUITES:
        pytest.skip("refused: test_evalplus.py")
    row_id, fields, answer = MADE_UP[name]
    suite = SUITES[name]
    item = suite.make(suite, Row(row_id, fields), style, judges)
    assert item is not None
    text = completion(name, style, item.prompt, answer)
    assert graded(item, text, judges).score == 1.0, (item.prompt, text, graded(item, text, judges))
    wrong = completion(name, style, item.prompt, answer.replace("+", "-").replace("3", "4").replace("B", "A"))
    wrong = wrong.replace("a + b", "a - b").replace("{1}", "{2}").replace("True", "False")
    assert graded(item, wrong, judges).score == 0.0
    assert graded(item, item.prompt.prefix, judges).score == 0.0


def test_the_gold_of_a_reasoning_task_is_not_in_its_prompt(judges):
    suite = SUITES["cruxeval_o"]
    row = Row("s", {"code": "def f(a):\n    return a * 3", "input": "'q'", "output": "'qqq'"})
    for style in TASK_STYLE:
        assert "qqq" not in str(suite.make(suite, row, style, judges).prompt)


def test_a_call_is_shown_with_its_arguments_and_without_what_it_returns(judges):
    suite = SUITES["livecodebench_output"]
    test = {"input": '[1, 2.5, true]\n"a\\nb"\n\nnull', "output": '[["q", null]]', "testtype": "functional"}
    fields = MADE_UP["livecodebench_output"][1] | {"test": json.dumps([test])}
    item = suite.make(suite, Row("0", fields), "think", judges)
    assert "add([1, 2.5, True], 'a\\nb', None)" in str(item.prompt.text)
    assert "'q'" not in str(item.prompt)
    assert item.date == "2023-08-21"
    assert graded(item, "<think>hm</think><answer>```output\n[['q', None]]\n```</answer>", judges).score == 1.0
    assert graded(item, "<think>hm</think><answer>```output\n[['q', 'None']]\n```</answer>", judges).score == 0.0


def test_only_the_test_split_of_mbpp_is_asked(judges):
    suite = SUITES["mbpp"]
    assert suite.make(suite, Row("10", {}), "think", judges) is None


def test_hidden_tests_are_text_and_nothing_else():
    assert contest_tests(CONTEST) == TESTS + TESTS
    bad = CONTEST | {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(print))).decode()}
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        contest_tests(bad)


def test_the_inside_of_a_call():
    assert inside_call("add(a = 1, b='x, y')") == "a=1, b='x, y'"


def test_an_answer_may_use_what_the_prompt_defines():
    before = "import math\ndef helper(x):\n    return x\n\ndef area(r):\n"
    program = program_in(
        "```python\ndef area(r):\n    return math.pi * helper(r)\n```", "boxed", before=before, name="area"
    )
    assert program == before + "    pass\n\n\ndef area(r):\n    return math.pi * helper(r)"
    for body in ("    x = 1\n    return x", "x = 1\nreturn x"):
        program = program_in(f"```python\n{body}\n```", "boxed", before=before, name="area")
        assert program == before + "    x = 1\n    return x"


def test_which_text_is_the_program():
    fences = "```python\nprint(1)\n```\nRun it:\n```\n6\n```\nor\n```bash\npython a.py\n```"
    assert program_in(fences, "boxed") == "print(1)"
    assert program_in("<think>so</think><answer>n = int(input())\nprint(n)</answer>", "think") == (
        "n = int(input())\nprint(n)"
    )
    sample = "```\ndef add(a, b):\n    return a + b\n```\nUse it:\n```python\nprint(add(1, 2))\n```"
    assert program_in(sample, "boxed", name="add") == "def add(a, b):\n    return a + b"
    assert program_in("I cannot solve this problem.", "boxed") is None
    assert program_in("Here it is:\nimport sys\nprint(1)", "boxed") == "import sys\nprint(1)"


def test_contest_answers_may_take_names_for_granted(judges):
    """`pow` with three arguments is the built-in one; scripts have the imports that methods have."""
    for script in (
        "print(pow(2, 5, 7), sqrt(4))",
        "import sys\nprint(4, int(sqrt(4)))",
        "print(*Counter('aaaabb').values())",
    ):
        test = [{"input": "", "output": "4 2\n", "testtype": "stdin"}]
        row = Row("1", CONTEST | {"public_test_cases": json.dumps(test), "private_test_cases": "[]"})
        suite = SUITES["livecodebench_v5"]
        item = suite.make(suite, row, "boxed", judges)
        assert item is not None
        found = graded(item, f"```python\n{script}\n```", judges)
        assert found.score == 1.0, (script, found)


def test_stored_outputs_that_are_no_literals(judges):
    suite = SUITES["cruxeval_o"]
    program = "def f(a):\n    return float(a)"
    item = suite.make(suite, Row("s", {"code": program, "input": "'nan'", "output": "nan"}), "boxed", judges)
    assert graded(item, "```output\nfloat('nan')\n```", judges).score == 1.0
    broken = suite.make(suite, Row("s", {"code": program, "input": "'1'", "output": "unknown"}), "boxed", judges)
    with pytest.raises(BrokenTest, match="unknown"):
        graded(broken, "```output\n1\n```", judges)


def test_unknown_suites_are_answered_with_all_there_are():
    with pytest.raises(UnknownSuite, match=r"humanevl: should be of paper.*humaneval_plus.*mmlu_pro"):
        named(["humanevl", "gsm8k"])
    assert [suite.name for suite in named(["general", "mmlu_pro", "gsm8k"])] == ["mmlu_pro", "gsm8k"]
    assert len(named(["paper"])) == 9
    assert set(sum(GROUPS.values(), ())) <= set(SUITES)


def test_contests_can_be_asked_by_their_dates(judges):
    """Both ends are part of the window, as reports of Aug 2024 to May 2025 mean it."""
    suite = SUITES["livecodebench_v6"]
    days = ("2024-07-31", "2024-08-01", "2025-05-01", "2025-05-02")
    items = [
        suite.make(suite, Row(day, CONTEST | {"contest_date": f"{day}T00:00:00"}), "boxed", judges) for day in days
    ]
    window = ("2024-08-01", "2025-05-01")
    assert [item.date for item in items if inside(item.date, *window)] == list(days[1:3])
    assert sum(inside(item.date, "", "") for item in items) == 4
    check_window(*window, {"livecodebench_v6": items})
    check_window("", "", {"gsm8k": [replace(items[0], date="")]})
    for since, until, said in (
        ("2024-8-1", "", "--since=2024-8-1: should be a date as 2024-08-01"),
        ("", "soon", "--until=soon: should be a date"),
        ("2025-05-01", "2024-08-01", "--since=2025-05-01: should not be after --until=2024-08-01"),
        ("2026-01-01", "", "livecodebench_v6 has rows from 2024-07-31 to 2025-05-02, none within"),
    ):
        with pytest.raises(CannotEvaluate, match=said):
            check_window(since, until, {"livecodebench_v6": items})
    with pytest.raises(CannotEvaluate, match="the rows of humaneval have no dates"):
        check_window(*window, {"humaneval": [replace(items[0], date="")]})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<think>hm</think><answer>4</answer>", "<think>hm</think><answer>4</answer>"),
        ("<think>hm<answer>4</answer>\nUser: and 5?\n<answer>5</answer>", "<think>hm<answer>4</answer>"),
        ("<think><answer>1</answer>?</think><answer>4</answer> <answer>5</answer>",
         "<think><answer>1</answer>?</think><answer>4</answer>"),
        ("<think>cut <answer>4", "<think>cut <answer>4"),
        ("</answer><answer>", "</answer><answer>"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_first_whole_answer_is_read(text, read):
    """Behind an open thought sampling does not stop at </answer>: the last answer was that to a question made up."""
    assert [first_answer(text, style) for style in ("think", "think_chat", "boxed")] == [read, read, text]


def test_every_judge_gets_the_first_whole_answer():
    asked = []
    prompt = mathematics("1 + 1", "think")
    assert (prompt.stop, prompt.stop_after) == (("</answer>",), "</think>")
    settings = harness.SampleSettings("think", 1, 0.0, 1.0, 9, 0, "float32", 1)
    item = SimpleNamespace(grade=lambda text: asked.append(text) or Graded(1.0, "correct"))
    job = harness.Harness(settings, None, None, {})._graded(
        item, "<think>hm<answer>2</answer>\nUser: 3?<answer>3</answer>"
    )
    assert EventLoop(None, None).run(job).score == 1.0
    assert asked == ["<think>hm<answer>2</answer>"]
