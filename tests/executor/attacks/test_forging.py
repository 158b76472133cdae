"""Attempts on the judge: none is paid, none becomes a task by chance, none costs the trainer more than a moment."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import forging

from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.values import decode, encode, same
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

TASK = Triplet("def f(x):\n    return x * 1_001 + 7", "41", "41048", encode(41048))
# Not what any program gives alone, since that is one and the same each time; the first is what MEMORY gives together.
GOLDS = ((False, True, True, True), (True, False, True, False), (False, False, True, True))


def induction(golds: tuple[bool, ...]) -> InductionTask:
    inputs = ("90", "91", *map(str, range(len(golds))))
    values = tuple(encode(v) for v in (True, False, *golds))
    return InductionTask("def f(x): return x", inputs, values, values, "", 2)


def test_what_remembers_is_judged_as_if_it_did_not(jailed):
    waiting = [
        (what, golds, jailed.submit(Verify(Kind.INDUCTION, induction(golds), Answer(Kind.INDUCTION, program))))
        for what, program in forging.MEMORY.items()
        for golds in GOLDS
    ]
    assert [(what, golds) for what, golds, future in waiting if future.result(60).score != 0.0] == []


@pytest.mark.slow
def test_what_is_said_to_remember_does(jailed):
    """Where all calls share a child, and alone: the two give different answers, so there is something to be had."""
    inputs = tuple(map(str, range(3)))
    together = {what: jailed.submit(Run(program, inputs)) for what, program in forging.MEMORY.items()}
    alone = {what: jailed.submit(Run(program, inputs[2:])) for what, program in forging.MEMORY.items()}
    same_twice = [what for what in together if together[what].result()[2].value == alone[what].result()[0].value]
    assert same_twice == []


def test_the_input_that_was_asked_for_is_found_nowhere(jailed):
    waiting = {}
    for what, program in forging.SEARCHES.items():
        task = Triplet(program, "31415926 * 1", "777", encode(777))
        for answer in ("5", "int('5')", "__import__('math').floor(5.5)"):
            waiting[what, answer] = jailed.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, answer)))
    assert {why: f.result(60) for why, f in waiting.items() if f.result(60).reason != "wrong value"} == {}


def test_a_value_is_itself_or_is_refused(jailed):
    """What becomes a task is answered by the text that shows it, by nothing else; and never by an exception of ours."""
    imports = "import collections, datetime, decimal, fractions\n"
    waiting = {
        what: jailed.submit(Validate(Proposal(Kind.DEDUCTION, f"{imports}def f():\n    return {value}", ("",))))
        for what, value in forging.VALUES.items()
    }
    tasks = {what: future.result(60).task for what, future in waiting.items()}
    assert "judging failed" not in {future.result().reason for future in waiting.values()}
    kept = {what: task for what, task in tasks.items() if isinstance(task, Triplet)}
    assert len(kept) >= 25
    for what, task in kept.items():
        value = decode(task.value)
        assert same(value, decode(encode(value))) and same(value, value), what
        if "datetime" not in task.output:  # an answer says it with names that are not at hand
            right = jailed.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, task.output))).result(60)
            assert right.correct, (what, task.output[:80], right)
        for wrong in ("7", "'7'", "None", "[]", "{'i': 7}"):
            if not same(value, eval(wrong)):
                judged = jailed.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, wrong))).result(60)
                assert not judged.correct, (what, wrong)


def test_no_clock_becomes_a_task(executor):
    waiting = {
        what: executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("",))))
        for what, program in forging.CLOCKS.items()
    }
    assert {what: f.result(60).task for what, f in waiting.items() if f.result(60).task is not None} == {}


def test_hardly_a_bit_of_an_address_becomes_a_task(executor):
    """One in 32 may by chance; of two runs every other one did."""
    setup = "import functools, itertools, json, re, textwrap\nclass A:\n    def g(self): pass\n"
    waiting = []
    for show in forging.ADDRESSES.values():
        for bit in (6, 13, 17, 25):
            number = (
                f"(int('0' + ''.join(c for c in ({show}).split('0x')[1] if c in '0123456789abcdef')[:12], 16) >> {bit})"
            )
            program = f"{setup}def f(x):\n    return x + {number} % 2"
            waiting.append(executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))))
    reasons = [future.result(60).reason for future in waiting]
    assert reasons.count("not deterministic") > 0.85 * len(reasons), reasons


def test_a_text_that_is_dear_to_read_costs_the_trainer_little(jailed):
    """Measured is this process, not the children. A right answer is judged between any two."""
    began = time.process_time()
    waiting = [
        (what, kind, jailed.submit(Verify(kind, TASK, Answer(kind, text))), jailed.submit(honest(number)))
        for number, (what, text) in enumerate(forging.TEXTS.items())
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION)
    ]
    assert [(what, kind) for what, kind, future, _ in waiting if future.result(60).score != 0.0] == []
    assert all(right.result(60).correct for *_, right in waiting)
    assert time.process_time() - began < 3.0


def honest(number: int) -> Verify:
    return Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, f"41048 + {number} - {number}"))


def test_there_are_enough():
    families = (forging.MEMORY, forging.SEARCHES, forging.VALUES, forging.CLOCKS, forging.ADDRESSES, forging.TEXTS)
    assert sum(map(len, families)) >= 180
