"""None of these is paid for what it did not work out, none differs later from what it was when it became a task."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import anew

from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode, encode
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

ENDS = {"crashed", "raised", "timeout", "not plain", "ok", "unplain", "broken"}


def test_no_answer_is_paid_for_what_an_earlier_call_left(jailed):
    """False, then True for ever: right about these two hidden cases only where they share a child."""
    values = tuple(map(encode, (True, False, False, True)))
    task = InductionTask("def f(x): return x", ("9", "8", "1", "2"), values, values, "", 2)
    waiting = {
        w: jailed.submit(Verify(Kind.INDUCTION, task, Answer(Kind.INDUCTION, p))) for w, p in anew.MEMORY.items()
    }
    assert [what for what, future in waiting.items() if future.result(60).score] == []


@pytest.mark.slow
def test_the_calls_do_know_of_each_other(jailed):
    """Each of the above gives False, True in one child, so that there would be something to be had."""
    waiting = {what: jailed.submit(Run(program, ("1", "2"))) for what, program in anew.MEMORY.items()}
    found = {what: [one.value for one in future.result(60)] for what, future in waiting.items()}
    assert [what for what, values in found.items() if values != ["false", "true"]] == [
        "the clock that stands"
    ]  # it goes


def test_what_becomes_a_task_stays_as_it_was(jailed):
    """Its own input is right, and an equal one, in other zygotes, later."""
    asked = {w: jailed.submit(Validate(Proposal(Kind.ABDUCTION, p, ("1",)))) for w, p in anew.CHANCE.items()}
    tasks = {what: future.result(60).task for what, future in asked.items()}
    waiting = {}
    with Executor(ExecutorSettings(timeout_s=2.0, workers=2, banned_modules=())) as other:
        for what, task in tasks.items():
            for number in range(3 if isinstance(task, Triplet) else 0):
                again = Triplet(f"{task.program}\n# {number}", task.input, task.output, task.value)
                waiting[what, number] = other.submit(Verify(Kind.ABDUCTION, again, Answer(Kind.ABDUCTION, "1")))
        assert [why for why, future in waiting.items() if not future.result(60).correct] == []


def test_every_shape_comes_to_a_verdict(executor):
    before = executor.stats().get("own_errors", 0)
    proposals = [
        Proposal(kind, program, ("1",)) for kind in (Kind.DEDUCTION, Kind.ABDUCTION) for program in anew.SHAPES.values()
    ]
    proposals += [Proposal(Kind.INDUCTION, program, ("1", "2", "3", "4"), "m") for program in anew.SHAPES.values()]
    proposals += [Proposal(Kind.DEDUCTION, "def f(*x, **y):\n    return x, y", (given,)) for given in anew.INPUTS]
    proposals += [
        Proposal(Kind.INDUCTION, "def f(*x, **y):\n    return len(x)", anew.INPUTS[n : n + 8], "m")
        for n in range(0, len(anew.INPUTS), 8)
    ]
    waiting = [executor.submit(Validate(proposal)) for proposal in proposals]
    found = [future.result(60) for future in waiting]
    assert [one for one in found if one.reason == "judging failed" or not (one.task or one.reason)] == []
    assert executor.stats().get("own_errors", 0) == before
    for proposal, one in zip(proposals, found):
        if isinstance(one.task, Triplet):  # what was accepted is right about itself
            right = executor.submit(Verify(Kind.DEDUCTION, one.task, Answer(Kind.DEDUCTION, one.task.output))).result(
                60
            )
            assert right.correct, (proposal.program[:80], right)


def test_every_answer_comes_to_a_verdict(executor):
    before = executor.stats().get("own_errors", 0)
    task = Triplet("def f(*x, **y):\n    return 'gold'", "41", "'gold'", encode("gold"))
    none = Triplet("def f(*x, **y):\n    return x and 'gold'", "41", "'other'", encode("other"))
    waiting = [
        executor.submit(Verify(kind, none if kind is Kind.ABDUCTION else task, Answer(kind, text)))
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION)
        for text in (*anew.INPUTS, *anew.SHAPES.values())
    ]
    assert [future.result(60) for future in waiting if future.result(60).score] == []
    assert executor.stats().get("own_errors", 0) == before


def test_every_exception_is_one(jailed):
    waiting = {}
    for what, line in anew.RAISES.items():
        program = f"def f(x):\n    {line}"
        waiting[what] = [
            jailed.submit(Run(program, ("1",))),
            *(jailed.submit(Validate(Proposal(kind, program, ("1",)))) for kind in (Kind.DEDUCTION, Kind.ERROR)),
        ]
    for what, futures in waiting.items():
        (outcome,), deduction, error = (future.result(60) for future in futures)
        assert outcome.reason in ENDS and outcome.detail.isprintable() and len(outcome.error or "") <= 100, (
            what,
            outcome,
        )
        assert deduction.task is None, (what, deduction)
        assert error.task is None or error.task.output.isidentifier(), (what, error)


def test_what_comes_afterwards_is_an_outcome_of_its_own(jailed):
    """At the most the value that it could as well have returned; the honest call after it is as it was."""
    waiting = {what: jailed.submit(Run(program, ("1",))) for what, program in anew.AFTERWARDS.items()}
    honest = [jailed.submit(Run(f"def f(x):\n    return x + {n}", ("1",))) for n in range(len(waiting))]
    for what, future in waiting.items():
        (outcome,) = future.result(60)
        assert outcome.reason in ENDS and outcome.value in ("1", "777", None), (what, outcome)
    assert [decode(future.result(60)[0].value or "") for future in honest] == [n + 1 for n in range(len(honest))]


def test_there_are_enough():
    assert sum(map(len, (anew.MEMORY, anew.CHANCE, anew.SHAPES, anew.INPUTS, anew.RAISES, anew.AFTERWARDS))) >= 250
