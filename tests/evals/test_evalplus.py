"""The `evalplus` style: what the EvalPlus package would send, and what it would run of an answer."""

import pytest

from azr_jax.evals import evalplus, questions
from azr_jax.evals.suites import UnknownSuite, named

ROW = {"prompt": 'from typing import List\n\ndef last(xs: List[int]) -> int:\n    """The last one."""\n\n'}
PREFIX = questions.humaneval(ROW, "evalplus").prefix


def kept(completion: str, name: str = "f") -> str | None:
    return questions.program_in(PREFIX + completion, "evalplus", before=ROW["prompt"], name=name)


def test_the_program_stands_in_a_bare_fence_and_the_answer_is_begun():
    prompt = questions.humaneval(ROW, "evalplus")
    (message,) = prompt.messages
    assert message["content"].endswith(f"in a markdown code block:\n```\n{ROW['prompt'].strip()}\n```\n")
    assert prompt.prefix.endswith(":\n```python\n")
    assert "\n```\n" in prompt.stop


def test_a_sentence_and_its_assert_are_a_docstring_as_in_the_data():
    """Byte for byte, trailing blank included: another prompt is another text."""
    prompt = questions.described("Add them. ", "add", ["assert add(1, 2) == 3"], "evalplus")
    assert '```\n"""\nAdd them. \nassert add(1, 2) == 3\n"""\n```\n' in prompt.messages[0]["content"]


def test_only_what_the_function_needs_is_run():
    """An example call below the function would raise and take the function with it."""
    program = kept(
        "import math\nSCALE = 2\nunused = f(1, 2, 3)\n\ndef helper(x):\n    return x * SCALE\n\n"
        "def other(x):\n    return x\n\ndef f(x):\n    return helper(x) + math.pi\n\nassert f(1) == 3\nf()\n"
    )
    assert program == (
        "import math\nSCALE = 2\ndef helper(x):\n    return x * SCALE\ndef f(x):\n    return helper(x) + math.pi"
    )


def test_of_two_definitions_the_first_counts_and_one_without_a_return_is_none():
    assert kept("def f(x):\n    return 1\n\ndef f(x):\n    return 2\n") == "def f(x):\n    return 1"
    assert kept("def f(x):\n    print(x)\n\ndef f(x):\n    return 2\n") == "def f(x):\n    return 2"


@pytest.mark.parametrize("end", ["\n```\nIt works.", "\n```", "\nprint(f(2))", "\nif __name__ == '__main__':\n    f("])
def test_an_answer_ends_at_the_first_stop_or_where_it_stops_to_be_python(end: str):
    assert kept(f"def f(x):\n    return x{end}") == "def f(x):\n    return x"


def test_of_a_cut_answer_the_longest_part_that_parses():
    assert (
        kept("import re\n\ndef f(x):\n\treturn x\n\ndef g(x):\n    return (x") == "import re\ndef f(x):\n    return x"
    )


def test_words_alone_are_no_program():
    assert kept("I cannot do this.\nSorry for that.") is None
    assert kept("def f(x): return x") == "def f(x): return x"
    assert kept("x + 1\nx") == "x + 1\nx"  # nothing to keep: all of it, as there


def test_the_prompts_imports_are_not_lent():
    """EvalPlus runs the answer alone; `boxed` runs it behind the prompt."""
    assert kept("def last(xs: List[int]) -> int:\n    return xs[-1]\n", "last") == (
        "def last(xs: List[int]) -> int:\n    return xs[-1]"
    )


def test_it_is_refused_for_other_suites():
    assert [suite.name for suite in named(["mbpp_plus"], "evalplus")] == ["mbpp_plus"]
    with pytest.raises(UnknownSuite, match=r"--style=evalplus: is for humaneval, .*; gsm8k needs another style"):
        named(["humaneval", "gsm8k"], "evalplus")


def test_nothing_it_is_given_makes_it_fail():
    for text in ("", PREFIX, "\x00\n\x00", "(" * 500 + "\n1", "def f(:\n" * 30):
        evalplus.program(text, "f")
