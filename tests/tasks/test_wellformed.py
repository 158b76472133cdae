"""The strict format: nothing that is endless, cut, repeated or wrapped is worth what a short whole text is.

Guards against what was paid before: one puzzle 200 times over and cut at the limit was a valid proposal, and so was a
text that never opened its answer.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.tasks.parsing import whole_answer, whole_proposal
from azr_jax.tasks.prompts import render_answer, render_proposal
from azr_jax.tasks.rewards import RewardSettings, proposer_reward, solver_reward
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Role

D, A, I, E = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR  # noqa: E741
F = "def f(x):\n    return x + 1"
PUZZLE = render_proposal(Proposal(D, F, ("3",)))
CASES = render_proposal(Proposal(I, F, ("1", "2"), "adds one"))


def tagged(inside: str, thought: str = "hm") -> str:
    return f"<think>{thought}</think>\n<answer>\n{inside}\n</answer>"


def read(role: Role, kind: Kind, text: str, style: str, ended: bool) -> Proposal | Answer | FormatError:
    if role == Role.PROPOSE:
        return whole_proposal(kind, text, style=style, ended=ended, program=F)
    return whole_answer(kind, text, style=style, ended=ended)


def refused(role: Role, kind: Kind, text: str, style: str, ended: bool = True) -> str:
    found = read(role, kind, text, style, ended)
    return found.reason if isinstance(found, FormatError) else ""


PROPOSING, SOLVING = Role.PROPOSE, Role.SOLVE
# name -> (role, kind, style, text, why it is refused)
TEXTS = {
    "the form": (PROPOSING, D, "think", tagged(PUZZLE), ""),
    "inputs and a message": (PROPOSING, I, "think", tagged(CASES), ""),
    "an answer": (SOLVING, D, "think", tagged("```output\n4\n```"), ""),
    "a bare answer": (SOLVING, D, "think", "<think></think><answer>4</answer>", ""),
    "a thought that names the tags": (
        PROPOSING, D, "think", tagged(PUZZLE, "I put it into <answer> and </answer> after <think>."), ""
    ),
    "a draft in the thought": (PROPOSING, D, "think", tagged(PUZZLE, PUZZLE * 3), ""),
    "white space around": (PROPOSING, D, "think", tagged(PUZZLE) + " \n\n", ""),
    "never ends thinking": (PROPOSING, D, "think", "<think>" + PUZZLE, "reasoning not finished"),
    "no tag for the answer": (PROPOSING, D, "think", "<think>a</think>\n" + PUZZLE, "no answer after the reasoning"),
    "answer left open": (PROPOSING, D, "think", "<think>a</think><answer>" + PUZZLE, "answer not closed"),
    "goes on after it": (PROPOSING, D, "think", tagged(PUZZLE) + "\nUser: more", "text after the answer"),
    "the whole twice": (PROPOSING, D, "think", tagged(PUZZLE) * 2, "more than one answer"),
    "two answers": (
        PROPOSING, D, "think", tagged(PUZZLE) + f"<answer>{PUZZLE}</answer>", "more than one answer"
    ),
    "200 puzzles in one answer": (PROPOSING, D, "think", tagged("\n".join([PUZZLE] * 200)), "more than was asked for"),
    "a block not closed": (PROPOSING, D, "think", tagged(PUZZLE[:-4]), "block not closed"),
    "a program that runs into the input": (
        PROPOSING, D, "think", tagged(PUZZLE.replace("\n```\n```input", "\n```input")), "block not closed"
    ),
    "an output nobody asked for": (
        PROPOSING, D, "think", tagged(PUZZLE + "\n```output\n4\n```"), "more than was asked for"
    ),
    "two messages": (PROPOSING, I, "think", tagged(CASES + "\n```message\nno\n```"), "more than was asked for"),
    "a program among the inputs": (
        PROPOSING, I, "think", tagged(CASES + "\n```python\n1\n```"), "more than was asked for"
    ),
    "an endless list of inputs": (
        PROPOSING, I, "think", tagged(CASES + "\n```input\n1\n```" * 63), "more than was asked for"
    ),
    "two answers in one tag": (SOLVING, D, "think", tagged("```output\n4\n```\n" * 2), "more than was asked for"),
    "completion": (PROPOSING, D, "completion", PUZZLE, ""),
    "words around": (PROPOSING, D, "chat", PUZZLE + "\nThis adds one.", ""),
    "stopped at the next heading": (PROPOSING, D, "completion", PUZZLE + "\n\n###", ""),
    "stopped at a fence nobody asked for": (PROPOSING, D, "completion", PUZZLE + "\n```output", ""),
    "stopped where the next program begins": (PROPOSING, I, "completion", CASES + "\n```python", ""),
    "begins another": (PROPOSING, D, "completion", PUZZLE + "\n```python\ndef f(y", "block not closed"),
    "one puzzle after the other": (PROPOSING, D, "completion", PUZZLE + "\n" + PUZZLE, "more than was asked for"),
    "input left open": (PROPOSING, D, "chat", PUZZLE[:-4], "block not closed"),
    "an answer and another": (SOLVING, A, "chat", "```input\n1\n```\n```input\n2\n```", "more than was asked for"),
    "tags nobody asked for": (SOLVING, D, "completion", "<think></think><answer>4</answer>", "no output block"),
    "opened and left": (SOLVING, I, "completion", "```python\ndef f(", "block not closed"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_well_formed_and_what_is_not(name):
    role, kind, style, text, reason = TEXTS[name]
    assert refused(role, kind, text, style) == reason
    assert refused(role, kind, text, style, ended=False) == "cut off"


def test_think_chat_reads_as_think_does():
    for role, kind, style, text, reason in TEXTS.values():
        if style == "think":
            assert refused(role, kind, text, "think_chat") == reason


# --- what a text earns

PRICES = RewardSettings(zero_learnability=0.1)  # a valid proposal always earns something
STYLES = ("think", "completion")


def short(role: Role, kind: Kind, meaning: Proposal | Answer, style: str) -> str:
    """The shortest well-formed text that says this."""
    text = render_proposal(meaning) if isinstance(meaning, Proposal) else render_answer(meaning)
    return f"<think></think><answer>{text}</answer>" if style == "think" else text


def earned(role: Role, kind: Kind, text: str, style: str, ended: bool) -> float:
    """What a judge that knows nothing wrong of anything pays for it."""
    formatted = not isinstance(read(role, kind, text, style, ended), FormatError)
    if role == PROPOSING:
        return sum(proposer_reward(formatted, True, 0.25, PRICES).values())
    return sum(solver_reward(formatted, 1.0, PRICES).values())


MEANINGS = st.one_of(
    st.tuples(st.just(PROPOSING), st.sampled_from((D, A, E))).map(lambda rk: (*rk, Proposal(rk[1], F, ("3",)))),
    st.tuples(st.just(PROPOSING), st.just(I)).map(lambda rk: (*rk, Proposal(I, F, ("1", "2"), "adds"))),
    st.sampled_from((D, A, E)).map(lambda kind: (SOLVING, kind, Answer(kind, "4"))),
    st.just((SOLVING, I, Answer(I, F))),
)
SCRAPS = st.sampled_from(
    ["```", "python", "input", "output", "message", "\n", " ", "<think>", "</think>", "<answer>", "</answer>",
     PUZZLE, CASES, "```output\n4\n```", "```input\n3\n```", f"```python\n{F}\n```", "def f(x):", "1", "words", "\n###",
     tagged(PUZZLE), tagged(CASES)]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from((PROPOSING, SOLVING)), st.sampled_from(list(Kind)), st.sampled_from(STYLES),
    st.lists(SCRAPS, max_size=12).map("".join) | st.lists(SCRAPS, max_size=6).map("".join).map(tagged), st.booleans(),
)  # fmt: skip
def test_no_text_earns_more_than_a_well_formed_short_one_of_the_same_meaning(role, kind, style, text, ended):
    paid = earned(role, kind, text, style, ended)
    meaning = read(role, kind, text, style, ended)
    if isinstance(meaning, FormatError):
        assert paid == PRICES.format_error
        return
    brief = short(role, kind, meaning, style)
    assert ended and paid == earned(role, kind, brief, style, True)
    assert read(role, kind, brief, style, True) == meaning


@settings(max_examples=200, deadline=None)
@given(MEANINGS, st.sampled_from(STYLES), st.integers(2, 50), st.sampled_from(("\n", "\n\n### 2\n")))
def test_repeated_it_earns_less(meaning, style, times, between):
    role, kind, said = meaning
    once = short(role, kind, said, style)
    assert earned(role, kind, once, style, True) > 0
    assert earned(role, kind, between.join([once] * times), style, True) == PRICES.format_error


@settings(max_examples=200, deadline=None)
@given(MEANINGS, st.sampled_from(STYLES), st.data())
def test_cut_it_earns_less(meaning, style, data):
    role, kind, said = meaning
    once = short(role, kind, said, style)
    at = data.draw(st.integers(0, len(once)))
    assert earned(role, kind, once[:at], style, False) == PRICES.format_error
