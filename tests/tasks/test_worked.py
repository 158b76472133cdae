"""Worked examples: they are true, and which of them a prompt shows."""

import pytest

from azr_jax.tasks import worked
from azr_jax.tasks.prompts import PromptRules, propose, solve
from azr_jax.tasks.types import InductionTask, Kind, Triplet
from azr_jax.tasks.worked import EVENS, LENGTHS, REPEATED

ONE = Triplet("def f(x):\n    return x", "[1]", "[1]", "")
TWO = Triplet("def f(a, b=2):\n    return a", "(1, 2), 'a, b'", "(1, 2)", "")
FOUR = Triplet("def f(a, b, c, d):\n    return a", "1, 2, c=3, d=4", "1", "")
HIDDEN = InductionTask("def f(x, y):\n    return x", ("1, 2", "3, 4"), ("1", "3"), (), "The first.", shown=1)


@pytest.mark.parametrize("example", [EVENS, REPEATED, LENGTHS], ids=["evens", "repeated", "lengths"])
def test_every_worked_example_is_true(example):
    space: dict = {}
    exec(example.program, space)  # our own
    for given, result in zip(example.inputs, example.outputs, strict=True):
        assert repr(eval(f"f({given})", space)) == repr(eval(result)), given
    given, name = example.error
    if name == "NoError":
        eval(f"f({given})", space)
    else:
        with pytest.raises(getattr(__import__("builtins"), name)):
            eval(f"f({given})", space)
    assert len(set(example.inputs)) == 10


def test_they_have_one_two_and_three_arguments():
    assert [worked.parameters_of(each.program) for each in worked.BY_ARGUMENTS] == [1, 2, 3]
    assert [worked.arguments_in(each.inputs[0]) for each in worked.BY_ARGUMENTS] == [1, 2, 3]


@pytest.mark.parametrize("given", ["", "(", "1) + f(2", "\x00", "*[1, 2]", "x = 1"])
def test_what_cannot_be_counted_is_no_mistake(given):
    assert worked.arguments_in(given) in (0, 1, 2)
    assert worked.parameters_of(given) == 1


@pytest.mark.parametrize("style", ["chat", "completion"])
@pytest.mark.parametrize("kind", [Kind.DEDUCTION, Kind.ABDUCTION, Kind.ERROR])
@pytest.mark.parametrize(
    ("examples", "task", "seen"),
    [
        ("one", ONE, (REPEATED,)),
        ("several", ONE, (EVENS, REPEATED, LENGTHS)),
        ("matching", ONE, (EVENS,)),
        ("matching", TWO, (REPEATED,)),
        ("matching", FOUR, (LENGTHS,)),
        ("none", ONE, ()),
    ],
)
def test_which_examples_a_solver_sees(style, kind, examples, task, seen):
    """Asked for an input of a function of one argument, a small model repeated the example's two: 127 of 213 raised."""
    assert shown(solve(kind, task, style=style, examples=examples)) == seen


def test_a_hidden_program_is_matched_by_its_calls():
    assert shown(solve(Kind.INDUCTION, HIDDEN, style="chat", examples="matching")) == (REPEATED,)


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_which_examples_a_proposer_of_inputs_sees(style):
    for examples, seen in {"one": (REPEATED,), "matching": (EVENS,), "none": ()}.items():
        prompt = propose(Kind.INDUCTION, [ONE], style=style, rules=PromptRules(examples=examples))
        assert shown(prompt) == seen


def test_without_examples_and_references_the_request_alone_is_left():
    prompt = propose(Kind.DEDUCTION, [], style="chat", rules=PromptRules(examples="none"))
    (message,) = prompt.messages
    assert message["content"].startswith("Write a Python function f and an input")
    assert len(propose(Kind.DEDUCTION, [ONE], style="chat", rules=PromptRules(examples="none")).messages) == 3
    assert shown(propose(Kind.DEDUCTION, [], style="chat", rules=PromptRules(examples="several"))) == (
        EVENS,
        REPEATED,
        LENGTHS,
    )


def shown(prompt) -> tuple[worked.Worked, ...]:
    text = prompt.text + "".join(message["content"] for message in prompt.messages)
    return tuple(each for each in worked.BY_ARGUMENTS if each.program in text)
