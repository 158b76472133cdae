"""Somebody who had not written the sandbox is paid for nothing, freezes nobody and learns nothing of chance."""

from __future__ import annotations

import ast
import sys
from collections import Counter, OrderedDict, deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import outsider
from costs import cpu_s, is_linear

from azr_jax.executor import reach
from azr_jax.executor.equality import key
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.values import Value, decode, encode, same, show
from azr_jax.executor.written import without_comments
from azr_jax.tasks.sameness import task_mark
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

AT_ONCE_S = 0.05


# ------------------------------------------------------------------------------ what is paid
def test_no_call_is_paid_for_what_an_earlier_one_wrote_elsewhere(executor):
    """`enum.global_enum` and `abc.abstractmethod` were on no list: False, then True for ever, and the whole reward."""
    values = tuple(map(encode, (True, False, False, True, True)))
    task = InductionTask("def f(x): return x", ("9", "8", "1", "2", "3"), values, values, "", 2)
    judged, ran = {}, {}
    for what, program in outsider.MEMORY.items():
        judged[what] = executor.submit(Verify(Kind.INDUCTION, task, Answer(Kind.INDUCTION, program)))
        ran[what] = executor.submit(Run(program, ("1", "2", "3")))
    assert [what for what, future in judged.items() if future.result(60).score] == []
    for what, future in ran.items():  # there is something to be had: together they do remember
        assert [one.value for one in future.result(60)] == ["false", "true", "true"], what


@pytest.mark.parametrize("what", outsider.WRONG)
def test_a_wrong_answer_is_wrong(executor, what):
    given, answers = outsider.WRONG[what]
    program = f"def f(x):\n    return eval({given!r})"
    right = executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))).result(60).task
    assert isinstance(right, Triplet)
    for form in ("literal", "any"):
        waiting = {
            text: executor.submit(Verify(Kind.DEDUCTION, right, Answer(Kind.DEDUCTION, text), deduction_answer=form))
            for text in answers
        }
        assert [text for text, future in waiting.items() if future.result(60).score] == []


def test_no_program_equals_everything(jailed):
    """Of two-valued outputs, of numbers, of texts; programs that say yes to all they are compared with."""
    waiting = {}
    for name, values in {"truths": (True, False, True, False), "numbers": (3, 7, 12, 8), "texts": ("a", "b")}.items():
        encoded = tuple(map(encode, values))
        inputs = tuple(map(str, range(len(values))))
        task = InductionTask("def f(x): return x", inputs, encoded, encoded, "", 1)
        for what, program in outsider.PROGRAMS.items():
            answer = Answer(Kind.INDUCTION, program)
            waiting[name, what] = jailed.submit(Verify(Kind.INDUCTION, task, answer, "fraction"))
    paid = [why for why, future in waiting.items() if future.result(60).score]
    # It writes True for each call before any is made: as right as `return True`, about one hidden truth of three.
    assert paid == [("truths", "lines of its own before all")]


# ------------------------------------------------------------------------------ what freezes the trainer
@pytest.mark.parametrize("what", outsider.NESTED)
def test_nested_values_are_looked_at_once(what):
    """Forty Counters in each other were compared 2**40 times, and the executor's thread never came back."""
    one, again, other = (decode(encode(outsider.NESTED[what](leaf))) for leaf in (1, 1, 2))
    assert same(one, again) and not same(one, other)
    assert cpu_s(lambda: (same(one, again), same(one, other), key(one) == key(again), show(one)), 1) < AT_ONCE_S


def test_a_proposal_of_such_a_value_comes_to_a_verdict(executor):
    program = (
        "from collections import {0}\ndef f(x):\n    v = x\n    for _ in range({1}):\n        v = {2}\n    return v"
    )
    for name, levels, wrap in (("Counter", 45, "Counter({'a': v})"), ("deque", 25, "deque([v])")):
        text = program.format(name, levels, wrap)
        task = executor.submit(Validate(Proposal(Kind.ABDUCTION, text, ("1",)))).result(10).task
        for answer, score in (("1", 1.0), ("2", 0.0)):
            verdict = executor.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, answer))).result(10)
            assert verdict.score == score
    sets = "def f(x):\n    v = frozenset()\n    for _ in range(28):\n        v = frozenset([v])\n    return v"
    assert executor.submit(Validate(Proposal(Kind.DEDUCTION, sets, ("1",)))).result(10).task is not None


_ATOMS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "b", 0.0, 1.0, float("nan"), 1j])
_PLAIN = st.recursive(
    _ATOMS,
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.lists(parts, max_size=3).map(deque)
        | st.dictionaries(st.sampled_from("abc"), parts, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), parts, max_size=3).map(Counter)
        | st.dictionaries(st.sampled_from("abc"), parts, max_size=3).map(OrderedDict)
        | st.frozensets(_ATOMS, max_size=3)
    ),
    max_leaves=8,
)


def _without_nan(value: Value) -> bool:
    return "nan" not in repr(value)


@settings(max_examples=400, deadline=None)
@given(_PLAIN, _PLAIN)
def test_what_is_the_same_is_so_for_python(a, b):
    for one, other in ((a, b), (a, decode(encode(a)))):
        if _without_nan(one) and _without_nan(other):
            assert same(one, other) == (one == other)
    assert same(a, decode(encode(a)))


@pytest.mark.parametrize("what", outsider.LONG)
def test_accepted_programs_are_read_in_linear_time(what):
    """Four thousand returns before a yield took 29 s of the trainer, for one proposal that was accepted."""

    def mark(program: str) -> bytes:
        return task_mark(Triplet(program, "1", "1", encode(1)))

    assert is_linear(mark, outsider.LONG[what], 90)


# ------------------------------------------------------------------------------ what differs by chance
def test_sets_without_the_word_are_seen():
    """Their order goes by addresses: with two zygotes asked and not twelve, every other one became a task."""
    for what, program in outsider.ORDER.items():
        sight = reach.sight([ast.parse(program)])
        assert sight.chance and sight.address, what


def test_who_goes_on_after_any_exception_is_seen():
    for what, program in outsider.DEPTH.items():
        assert reach.sight([ast.parse(program)]).chance, what


HONEST = (
    "def f(d):\n    return {k: v - 1 for k, v in d.items()}",
    "def f(d):\n    return [k for k in sorted(d.keys())][0] - 1",
    "def f(x):\n    try:\n        return 1 / x\n    except ZeroDivisionError:\n        raise Exception('no')",
    "class E(Exception):\n    pass\ndef f(x):\n    try:\n        raise E\n    except E:\n        return x",
    "def f(x):\n    try:\n        return int(x)\n    finally:\n        x = 1",
    "def f(x):\n    if isinstance(x, int):\n        raise RuntimeError\n    return type(x)(x)",
)


def test_an_honest_program_is_asked_no_more_than_before():
    for program in HONEST:
        assert not reach.sight([ast.parse(program)]).chance, program


def test_a_child_knows_nothing_that_differs_from_run_to_run(jailed):
    """The frames held when the run began, how many there had been, what the last one cost and other children's
    numbers: a clock for each, slow enough for twelve zygotes to agree on it and for an answer to find another time.
    """
    asked = [
        {what: jailed.submit(Run(f"{program}\n# {turn}", ("1",))) for what, program in outsider.INSIDE.items()}
        for turn in range(6)
    ]
    for what in outsider.INSIDE:
        found = {(one.reason, one.value, one.error) for turn in asked for one in turn[what].result(60)}
        assert len(found) == 1, (what, found)


@pytest.mark.parametrize("what", outsider.HIDDEN)
def test_what_nobody_may_import_is_no_attribute_of_what_they_may(executor, what):
    found = executor.submit(Validate(Proposal(Kind.DEDUCTION, outsider.HIDDEN[what], ("1",)))).result(60)
    assert found.reason == "banned name", found


def test_a_comment_ends_with_its_line():
    """Python ends it at a carriage return too: the second argument was taken for a part of it."""
    assert without_comments("1 # one\r, 2") == "1 \r, 2"


def test_there_are_enough():
    tables = (
        outsider.MEMORY, outsider.ORDER, outsider.DEPTH, outsider.INSIDE, outsider.HIDDEN, outsider.NESTED,
        outsider.LONG, outsider.PROGRAMS,
    )  # fmt: skip
    assert sum(map(len, tables)) + sum(len(answers) for _, answers in outsider.WRONG.values()) >= 200
