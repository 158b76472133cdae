"""Calls, descriptors, files, lines and bombs: none gets what it tries, none disturbs anybody, in either kind of jail.

All are asked of one executor at a time, honest work between them; the calls all in one child.
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import calls
import further

from azr_jax.executor.jobs import Run, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode, encode
from azr_jax.tasks.types import Answer, Kind, Triplet

LIMIT_S = 0.5
TASK = Triplet("def f(x):\n    return x * 1_001 + 7", "41", "41048", encode(41048))


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "none"])
def jailed(request):
    with Executor(ExecutorSettings(timeout_s=LIMIT_S, workers=2, namespaces=request.param)) as running:
        yield running
        stats = running.stats()
        assert (stats.get("zygotes_replaced", 0), stats.get("own_errors", 0), stats["jobs_pending"]) == (0, 0, 0)


def honest(executor: Executor, number: int):
    """A right answer and a wrong one in turn, each of its own text."""
    right = number % 2
    text = f"{40 + right} + {number} - {number} + {0 if right else 2}"
    return executor.submit(Verify(Kind.ABDUCTION, TASK, Answer(Kind.ABDUCTION, text))), float(right)


def side_by_side(executor: Executor, programs: list[str], given: str = "") -> list:
    """The outcome of each program, with honest work between that is judged rightly."""
    waiting, between = [], []
    for number, program in enumerate(programs):
        waiting.append(executor.submit(Run(program, (given,))))
        between.append(honest(executor, number))
    outcomes = [future.result(60)[0] for future in waiting]
    assert [n for n, (future, score) in enumerate(between) if future.result(60).score != score] == []
    return outcomes


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_no_call_is_let_through(jailed):
    asked = tuple(f"{number}, {arguments!r}" for number, arguments in calls.CALLS.values())
    outcomes = jailed.submit(Run(calls.PROGRAM, asked, timeout_s=5)).result()
    refused = dict(zip(calls.CALLS, (outcome.value for outcome in outcomes), strict=True))
    assert {what: value for what, value in refused.items() if value != "1"} == {}  # EPERM


def test_nothing_is_reached(jailed, tmp_path):
    (tmp_path / "planted").write_text("HIT")
    programs = [
        program.replace("@PLANTED@", str(tmp_path / "planted")).replace("@FOLDER@", str(tmp_path))
        for program in further.HITS.values()
    ]
    outcomes = dict(zip(further.HITS, side_by_side(jailed, programs), strict=True))
    assert {what: outcome for what, outcome in outcomes.items() if "HIT" in (outcome.value or "")} == {}
    assert [path.name for path in tmp_path.iterdir()] == ["planted"] and (tmp_path / "planted").read_text() == "HIT"


def test_whatever_is_written_into_the_pipe_is_an_outcome(jailed):
    """A verdict, never an exception; at the most the value that the program could as well have returned."""
    for what, outcome in zip(further.LINES, side_by_side(jailed, list(further.LINES.values()), "1"), strict=True):
        assert outcome.reason in ("ok", "crashed", "raised", "timeout", "not plain"), (what, outcome)
        assert outcome.detail.isprintable() and len(outcome.detail) <= 3_100, (what, outcome)  # escaped, ten for one
        if outcome.reason == "ok" and outcome.value in ("7", "8", "9"):
            assert decode(outcome.value) in (7, 8, 9)


def test_a_forged_line_pays_nothing(jailed):
    """The same programs as answers to a task whose gold is none of theirs."""
    task = Triplet("def f(x):\n    return 70", "1", "70", encode(70))
    for what, program in further.LINES.items():
        forged = f"(lambda: exec({program!r}))()"
        verdict = jailed.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, forged))).result(60)
        assert verdict.score == 0, (what, verdict)


def test_what_is_changed_is_changed_for_nobody_else(jailed):
    side_by_side(jailed, [change for change, _, _ in further.STATE.values()])
    outcomes = side_by_side(jailed, [later for _, later, _ in further.STATE.values()])
    found = {what: outcome.value and decode(outcome.value) for what, outcome in zip(further.STATE, outcomes)}
    assert found == {what: well for what, (_, _, well) in further.STATE.items()}


@pytest.mark.slow
def test_what_never_ends_is_ended_and_delays_nobody(jailed):
    began = time.monotonic()
    outcomes = dict(zip(further.ENDLESS, side_by_side(jailed, list(further.ENDLESS.values())), strict=True))
    assert {what: outcome for what, outcome in outcomes.items() if outcome.value not in (None, "null")} == {}
    assert time.monotonic() - began < len(further.ENDLESS) * (LIMIT_S + 0.5)


@pytest.mark.parametrize("what", ["close its pipe and run on", "fill its pipe and wait", "a number of numbers"])
def test_an_end_at_the_limit(jailed, what):
    began = time.monotonic()
    (outcome,) = jailed.submit(Run(further.ENDLESS[what] + f"# alone: {what}\n", ("",))).result()
    assert outcome.reason == "timeout" and time.monotonic() - began < 2 * LIMIT_S + 1.0


def test_there_are_enough():
    new = [calls.CALLS, further.HITS, further.LINES, further.ENDLESS, further.STATE]
    assert sum(map(len, new)) >= 250
