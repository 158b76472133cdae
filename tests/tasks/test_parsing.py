"""Completions as models really write them, hostile ones, and the promise that what we render we can read."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.tasks.parsing import MOST_INPUTS, answer_part, blocks, parse_answer, parse_proposal
from azr_jax.tasks.prompts import OPENED_PROGRAM, render_answer, render_proposal
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal

D, A, I, E = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR  # noqa: E741
F = "def f(x):\n    return x + 1"
G = "def f(a, b):\n    return a * b"

# name -> (completion, program, input)
PROPOSALS = {
    "plain": ("```python\n{F}\n```\n```input\n3\n```", F, "3"),
    "prose around": ("Sure! Here it is:\n\n```python\n{F}\n```\n\nAnd its input:\n```input\n3\n```\nEnjoy.", F, "3"),
    "answer tags": ("<think>hm</think> <answer>```python\n{F}\n```\n```input\n3\n```</answer>", F, "3"),
    "answer never closed": ("<think>hm</think><answer>\n```python\n{F}\n```\n```input\n3\n```", F, "3"),
    "think without answer tag": ("<think>x</think>\n```python\n{F}\n```\n```input\n3\n```", F, "3"),
    "draft while thinking": (
        "<think>```python\n{G}\n```\n```input\n1, 2\n```</think><answer>```python\n{F}\n```\n```input\n3\n```</answer>",
        F,
        "3",
    ),
    "last answer wins": (
        "<answer>```python\n{G}\n```\n```input\n1\n```</answer> <answer>```python\n{F}\n```\n```input\n3\n```</answer>",
        F,
        "3",
    ),
    "last pair wins": ("```python\n{G}\n```\n```input\n1, 2\n```\n```python\n{F}\n```\n```input\n3\n```", F, "3"),
    "cut off second pair": ("```python\n{F}\n```\n```input\n3\n```\n```python\n{G}\n```\n```input\n1,", F, "3"),
    "cut off second program": ("```python\n{F}\n```\n```input\n3\n```\n\n```python\ndef f(a, b, c):\n    ret", F, "3"),
    "input left open": ("```python\n{F}\n```\n```input\n3", F, "3"),
    "input left open, newline": ("```python\n{F}\n```\n```input\n3\n", F, "3"),
    "program never closed": ("```python\n{F}\n```input\n3\n```", F, "3"),
    "stray fence between": ("```python\n{F}\n```\n```\n```input\n3\n```", F, "3"),
    "stray fence at the end": ("```python\n{F}\n```\n```input\n3\n```\n```", F, "3"),
    "py": ("```py\n{F}\n```\n```input\n3\n```", F, "3"),
    "python3": ("```python3\n{F}\n```\n```input\n3\n```", F, "3"),
    "Python, Input": ("```Python\n{F}\n```\n```Input\n3\n```", F, "3"),
    "space before the name": ("``` python\n{F}\n```\n``` input\n3\n```", F, "3"),
    "colon after the name": ("```python:\n{F}\n```\n```input:\n3\n```", F, "3"),
    "inputs": ("```python\n{F}\n```\n```inputs\n3\n```", F, "3"),
    "tilde fences": ("~~~python\n{F}\n~~~\n~~~input\n3\n~~~", F, "3"),
    "four backticks": ("````python\n{F}\n````\n````input\n3\n````", F, "3"),
    "closed at the end of a line": ("```python\n{F}```\n```input\n3```", F, "3"),
    "input on the fence's line": ("```python\n{F}\n```\n```input 3```", F, "3"),
    "input on the fence's line, closed below": ("```python\n{F}\n```\n```input 3\n```", F, "3"),
    "one-line program": ("```python def f(x): return x```\n```input\n3\n```", "def f(x): return x", "3"),
    "no name, but a definition": ("```\n{F}\n```\n```input\n3\n```", F, "3"),
    "heading names the block": ("### Program\n```python\n{F}\n```\n### Input\n```\n3\n```", F, "3"),
    "bold heading": ("**Code:**\n```\n{F}\n```\n**Input:**\n```\n3\n```", F, "3"),
    "heading over a language": ("```python\n{F}\n```\nInput:\n```text\n3\n```", F, "3"),
    "input first": ("```input\n3\n```\n```python\n{F}\n```", F, "3"),
    "demo after the program": ("```python\n{F}\n```\n```python\nprint(f(3))\n```\n```input\n3\n```", F, "3"),
    "demo at the end": ("```python\n{F}\n```\n```input\n3\n```\n```python\nprint(f(3))\n```", F, "3"),
    "an output nobody asked for": ("```python\n{F}\n```\n```input\n3\n```\n```output\n4\n```", F, "3"),
    "whole call as input": ("```python\n{F}\n```\n```input\nf(3)\n```", F, "3"),
    "whole call at a prompt": ("```python\n{F}\n```\n```input\n>>> f(3)\n```", F, "3"),
    "sum of calls stays": ("```python\n{F}\n```\n```input\nf(1) + f(2)\n```", F, "f(1) + f(2)"),
    "several arguments": ("```python\n{G}\n```\n```input\n[1, 2], 'a, b'\n```", G, "[1, 2], 'a, b'"),
    "input over lines": ("```python\n{F}\n```\n```input\n[1,\n 2]\n```", F, "[1,\n 2]"),
    "parenthesis in a string": ("```python\n{F}\n```\n```input\nf(')')\n```", F, "')'"),
    "windows lines": ("```python\r\ndef f(x):\r\n    return x + 1\r\n```\r\n```input\r\n3\r\n```", F, "3"),
    "indented, as in a list": (
        "1. So:\n   ```python\n   def f(x):\n       return x + 1\n   ```\n   ```input\n   3\n   ```",
        F,
        "3",
    ),
    "blank lines inside": ("```python\n\n\n{F}\n\n\n```\n```input\n\n3\n\n```", F, "3"),
    "unicode": ("```python\n{F}  # é\n```\n```input\n'日本'\n```", F + "  # é", "'日本'"),
    "lambda": ("```python\nf = lambda x: x\n```\n```input\n3\n```", "f = lambda x: x", "3"),
    "prefix forced": (OPENED_PROGRAM + "x):\n    return x + 1\n```\n```input\n3\n```", F, "3"),
    "prefix forced, rambles on": (
        OPENED_PROGRAM + "x):\n    return x + 1\n```\n```input\n3\n```\n\n### Function and input 4\n```python\ndef f(",
        F,
        "3",
    ),
}  # fmt: skip

PROPOSAL_ERRORS = {
    "": "no python block",
    "I cannot do that.": "no python block",
    "def f(x):\n    return x\n\nInput: 3": "no python block",
    "```input\n3\n```": "no python block",
    "```python\n{F}\n```": "no input block",
    "```python\n{F}\n```\n```input\n\n```": "no input block",
    "```python\n{F}\n```\n```output\n3\n```": "no input block",
    "<think>first I": "reasoning not finished",
    "<think>```python\n{F}\n```\n```input\n3\n```": "reasoning not finished",
    "<answer></answer>": "no python block",
}

# name -> (kind, completion, answer)
ANSWERS = {
    "output block": (D, "```output\n[1, 2]\n```", "[1, 2]"),
    "tags": (D, "<think>```output\n1\n```</think><answer>```output\n2\n```</answer>", "2"),
    "last block wins": (D, "```output\n1\n```\nwait\n```output\n2\n```", "2"),
    "no name": (D, "It is\n```\n'ab'\n```", "'ab'"),
    "another language": (D, "```json\n{'a': 1}\n```", "{'a': 1}"),
    "tag without a fence": (D, "<think>...</think>\n<answer> 42 </answer>", "42"),
    "one line": (D, "```output 42```", "42"),
    "one line, no name": (D, "```42```", "42"),
    "left open": (D, "```output\n42", "42"),
    "prefix forced, stopped": (D, "```output\n" + "'a-b'", "'a-b'"),
    "over lines": (D, "```output\n{'a': 1,\n 'b': 2}\n```", "{'a': 1,\n 'b': 2}"),
    "result": (D, "```result\n3\n```", "3"),
    "python before the output": (D, "```python\n{F}\n```\n```output\n4\n```", "4"),
    "input": (A, "```input\n1, 2\n```", "1, 2"),
    "input as a call": (A, "```input\nf(1, b=2)\n```", "1, b=2"),
    "input after the output shown again": (A, "```output\n3\n```\n```input\n2\n```", "2"),
    "arguments": (A, "```arguments\n1\n```", "1"),
    "program": (I, "```python\n{F}\n```", F),
    "program, no name": (I, "```\n{F}\n```", F),
    "program, demo after": (I, "```python\n{F}\n```\n```python\nprint(f(1))\n```", F),
    "program, second thoughts": (I, "```python\n{G}\n```\nBetter:\n```python\n{F}\n```", F),
    "program, tested by an assert": (I, "```python\n{F}\n```\n```output\n4\n```", F),
    "exception": (E, "```output\nValueError\n```", "ValueError"),
    "exception by its name": (E, "```error\nNoError\n```", "NoError"),
}

ANSWER_ERRORS = [
    (D, "", "no output block"),
    (D, "The answer is 3.", "no output block"),
    (D, "```output\n\n```", "empty output block"),
    (D, "<think>still", "reasoning not finished"),
    (D, "<answer>  </answer>", "empty output block"),
    (A, "```output\n3\n```", "no input block"),
    (I, "```output\n3\n```", "no python block"),
    (E, "```python\n{F}\n```", "no output block"),
]


def written(text: str) -> str:
    return text.replace("{F}", F).replace("{G}", G)


def test_the_table_is_as_long_as_promised():
    assert len(PROPOSALS) + len(PROPOSAL_ERRORS) + len(ANSWERS) + len(ANSWER_ERRORS) + len(INDUCTIONS) >= 60


@pytest.mark.parametrize("name", PROPOSALS)
def test_proposals(name):
    text, program, argument = PROPOSALS[name]
    for kind in (D, A, E):
        assert parse_proposal(kind, written(text)) == Proposal(kind, program, (argument,))


@pytest.mark.parametrize("text", PROPOSAL_ERRORS)
def test_no_proposal(text):
    assert parse_proposal(D, written(text)) == FormatError(PROPOSAL_ERRORS[text])


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name):
    kind, text, answer = ANSWERS[name]
    assert parse_answer(kind, written(text)) == Answer(kind, answer)


@pytest.mark.parametrize(("kind", "text", "reason"), ANSWER_ERRORS)
def test_no_answer(kind, text, reason):
    assert parse_answer(kind, written(text)) == FormatError(reason)


# name -> (completion, inputs, message)
INDUCTIONS = {
    "blocks": ("```input\n1\n```\n```input\n2\n```\n```message\nadds\n```", ("1", "2"), "adds"),
    "message first": ("```message\nadds\n```\n```input\n1\n```\n```input\n2\n```", ("1", "2"), "adds"),
    "one a line": ("```input\n1\n2\n'x'\n```\n```message\nadds\n```", ("1", "2", "'x'"), "adds"),
    "calls, one a line": ("```inputs\nf(1)\nf(2)\n```\n```message\nadds\n```", ("1", "2"), "adds"),
    "one input over lines stays one": ("```input\n[1,\n2]\n```\n```message\nadds\n```", ("[1,\n2]",), "adds"),
    "numbered headings": (
        "Input 1:\n```\n1\n```\nInput 2:\n```\n2\n```\nMessage:\n```\nadds\n```",
        ("1", "2"),
        "adds",
    ),
    "message over lines, left open": ("```input\n1\n```\n```message\nadds\none", ("1",), "adds\none"),
    "empty input left out": ("```input\n\n```\n```input\n2\n```\n```message\nadds\n```", ("2",), "adds"),
    "prefix forced": ("```message\nadds\n```\n```input\n1\n```\n```input\n2", ("1", "2"), "adds"),
}


@pytest.mark.parametrize("name", INDUCTIONS)
def test_induction_proposals_hold_the_program_they_were_shown(name):
    text, inputs, message = INDUCTIONS[name]
    assert parse_proposal(I, text, program=F) == Proposal(I, F, inputs, message)


def test_induction_proposals_need_inputs_and_a_message():
    assert parse_proposal(I, "```message\nadds\n```") == FormatError("no input block")
    assert parse_proposal(I, "```input\n1\n```") == FormatError("no message block")


def test_more_inputs_than_anybody_asks_for_are_cut_off():
    text = "".join(f"```input\n{i}\n```\n" for i in range(1000)) + "```message\nm\n```"
    proposal = parse_proposal(I, text, program=F)
    assert isinstance(proposal, Proposal) and proposal.inputs == tuple(str(i) for i in range(MOST_INPUTS))


def test_a_fence_inside_a_string_is_not_an_end_when_the_block_has_a_longer_one():
    program = 'def f(x):\n    return """\n```\n""" + x'
    proposal = Proposal(D, program, ("1",))
    assert parse_proposal(D, render_proposal(proposal)) == proposal


def test_blank_lines_of_a_string_keep_their_spaces():
    # textwrap.dedent would empty them, and the program would return something else.
    program = 'def f(x):\n    return """a\n   \nb""" + x'
    answer = parse_answer(I, f"```python\n{program}\n```")
    assert answer == Answer(I, program)


def test_answer_part_takes_the_last_tag_even_without_an_end():
    assert answer_part("<answer>a</answer><answer>b") == "b"
    assert answer_part("<think>a</think>b") == "b"
    assert answer_part("b") == "b"
    assert answer_part("<think>b") is None


HOSTILE = {
    "fences": "```" * 33_000,
    "fence lines": "```\n" * 25_000,
    "opened inputs": "```input\n" * 11_000,
    "one-line inputs": "```input 1```\n" * 7_000,
    "calls": "```input\nf(1)\n```\n" * 5_500,
    "long backticks": "`" * 100_000,
    "answer tags": "<answer>" * 12_500,
    "think tags": "<think></think>" * 6_600,
    "open brackets": "```input\nf(" + "(" * 9_900 + ")\n```\n```message\nm\n```",
    "brackets and braces": "```input\nf(" + "[{" * 4_900 + ")\n```\n```message\nm\n```",
    "unary minus": "```input\nf(" + "-" * 9_900 + "1)\n```\n```message\nm\n```",
    "lambdas": "```input\nf(" + "lambda:" * 1_400 + "1)\n```\n```message\nm\n```",
    "attributes": "```input\nf(1" + ".a" * 4_900 + ")\n```\n```message\nm\n```",
    "f-strings": "```input\nf(" + "f'{" * 3_000 + ")\n```\n```message\nm\n```",
    "comparisons": "```input\nf(" + "1<" * 4_900 + "1)\n```\n```message\nm\n```",
    "lines of brackets": "```input\n" + ("(" * 150 + "\n") * 60 + "```\n```message\nm\n```",
    "spaces": " " * 100_000,
    "tabs and newlines": "```python\n" + "\t\n" * 50_000,
    "null bytes": "```python\ndef f(x)\0```\n```input\nf(\0)\n```",
    "surrogates": "```python\ndef f(x): return '\ud800'\n```\n```input\nf('\udfff')\n```",
    "carriage returns": "\r" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_bounded_time(name):
    started = time.process_time()
    for kind in Kind:
        assert isinstance(parse_proposal(kind, HOSTILE[name]), (Proposal, FormatError))
        assert isinstance(parse_answer(kind, HOSTILE[name]), (Answer, FormatError))
    # Eight readings; each takes milliseconds, the limit only has to tell linear from quadratic (minutes).
    assert time.process_time() - started < 5.0


@pytest.mark.parametrize("piece", ["```input\nf(1)\n```\n", "```\n", "x```\n", "<answer>", "Input:\n```\n1\n"])
def test_twice_the_text_takes_about_twice_the_time(piece):
    def seconds(text: str) -> float:
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            parse_proposal(I, text)
            best = min(best, time.process_time() - started)
        return best

    small, large = piece * (20_000 // len(piece)), piece * (160_000 // len(piece))
    # Eight times the text: quadratic would be 64 times, linear is 8; the margin is for a busy machine.
    assert seconds(large) < 30 * max(seconds(small), 1e-4)


# Bits of what models write, in any order: far likelier to reach the corners than random letters.
SCRAPS = st.sampled_from(
    ["```", "````", "~~~", "python", "input", "output", "message", "\n", "\n\n", " ", "    ", "\t", "<think>",
     "</think>", "<answer>", "</answer>", "def f(x):", "return x", "f(", ")", "(", "1", "'a'", ",", ":", "#",
     "**Input:**", "\r\n", "lambda", "\0", "\x0b", "\u2028", "é", "\ud800"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(SCRAPS, max_size=60).map("".join) | st.text() | st.binary().map(lambda b: b.decode("utf-8", "replace")))
def test_no_text_raises(text):
    for kind in Kind:
        assert isinstance(parse_proposal(kind, text, program=F), (Proposal, FormatError))
        answer = parse_answer(kind, text)
        assert isinstance(answer, (Answer, FormatError))
        if isinstance(answer, Answer):
            assert answer.text == answer.text.strip() != ""
    assert all(block.name in ("", "python", "input", "output", "message") for block in blocks(text))


def lines_of_text(alphabet: str) -> st.SearchStrategy[str]:
    """Texts that stand by themselves: not blank at either end, not indented as a whole, lines end in \\n."""
    return st.text(st.sampled_from(alphabet), min_size=1).map(str.strip).filter(bool)


TEXT = lines_of_text("ab01 \n`~#:'\"\\()[]{},.é\u2028\x0b")
ARGUMENT = TEXT.filter(lambda text: not text.removeprefix(">>>").strip().startswith("f("))
PROGRAM = TEXT.map(lambda body: "def f(x):\n    " + body)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from((D, A, E)), PROGRAM, ARGUMENT)
def test_a_rendered_proposal_reads_back(kind, program, argument):
    proposal = Proposal(kind, program, (argument,))
    assert parse_proposal(kind, render_proposal(proposal)) == proposal
    wrapped = f"<think>{render_proposal(proposal)[:20]}</think>\n<answer>\n{render_proposal(proposal)}\n</answer>"
    assert parse_proposal(kind, wrapped) == proposal


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers().map(str) | st.text("ab\n'`\\").map(repr), min_size=1, max_size=12), TEXT)
def test_a_rendered_induction_proposal_reads_back(inputs, message):
    proposal = Proposal(I, F, tuple(inputs), message)
    assert parse_proposal(I, render_proposal(proposal), program=F) == proposal


@settings(max_examples=300, deadline=None)
@given(st.sampled_from((D, A, E)), ARGUMENT)
def test_a_rendered_answer_reads_back(kind, text):
    assert parse_answer(kind, render_answer(Answer(kind, text))) == Answer(kind, text)


@settings(max_examples=100, deadline=None)
@given(PROGRAM)
def test_a_rendered_program_reads_back(program):
    assert parse_answer(I, render_answer(Answer(I, program))) == Answer(I, program)
