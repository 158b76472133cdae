"""Held-out curves: who is asked what, how attempts become a mean and its error; and rewards spoiled on purpose."""

import math
import random

import pytest

from azr_jax.config.schema import EvalConfig
from azr_jax.evals.datasets import DataProblem
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import encode
from azr_jax.learner.advantages import rewards_told
from azr_jax.run import heldout_eval, presenting
from azr_jax.run.heldout_eval import Evaluation
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.tasks.types import Kind, Triplet
from tests.selfplay.scripted import ScriptedEngine, prompter

NANO = EvalConfig(every=5, suites=("nano",), rows=0, attempts=2)
DOUBLE = Triplet("def f(x):\n    return x + x", "2", "4", encode(4))
LONG = Triplet(f"def f(x):\n    return x + {'1' * 9000}", "2", "4", encode(4))


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def test_attempts_are_averaged_inside_a_task_and_errors_are_over_tasks(executor, monkeypatch):
    held = [(Kind.DEDUCTION, DOUBLE), (Kind.ABDUCTION, DOUBLE), (Kind.DEDUCTION, DOUBLE), (Kind.DEDUCTION, LONG)]
    monkeypatch.setitem(heldout_eval.SUITES, "nano", lambda _: (held, []))
    asked = []

    def script(prompt: str, sample: int) -> str:
        asked.append(prompt)
        if "```input\n2\n```" in prompt.split("def f(x):\n    return x + x")[-1]:
            return "4\n```" if sample else "no block"  # deduction: every second attempt is right
        return "2\n```"  # abduction: always right

    engine = ScriptedEngine(script)
    evaluation = Evaluation(NANO, prompter(), EventLoop(engine, executor))
    scores = evaluation.measure()
    numbers = heldout_eval.accuracies(scores)
    assert scores == {("nano", "deduction"): [0.5, 0.5], ("nano", "abduction"): [1.0]}
    assert len(asked) == 6  # two attempts at each task but the one that is too long for a prompt
    assert numbers["eval/nano/abduction/accuracy"] == 1.0
    assert numbers["eval/nano/deduction/accuracy"] == 0.5
    assert numbers["eval/nano/deduction/accuracy_se"] == 0.0  # both tasks have the same mean
    text = presenting.evaluation(0, numbers)
    assert text.startswith("held out before training: ") and "nano/deduction 50.0 % +- 0.0" in text
    later = presenting.evaluation(5, numbers | {"eval/nano/deduction/gain": 0.25, "eval/nano/deduction/gain_se": 0.1})
    assert "after iteration 5: nano/deduction 50.0 % +- 0.0 (gained 25.0 +- 10.0), nano/abduction 100.0 % +-" in later
    assert [n for n in range(13) if evaluation.due(n, 12)] == [0, 5, 10, 12]


def test_the_first_rows_of_each_kind_are_taken():
    held = [(Kind.DEDUCTION, n) for n in range(4)] + [(Kind.ABDUCTION, n) for n in range(3)]
    assert heldout_eval.first_of_each_kind(held, 2) == [*held[:2], *held[4:6]]
    assert heldout_eval.first_of_each_kind(held, 0) == held


def test_a_suite_of_which_nothing_fits_a_prompt_is_refused(executor, monkeypatch):
    monkeypatch.setitem(heldout_eval.SUITES, "nano", lambda _: ([(Kind.DEDUCTION, LONG)], []))
    with pytest.raises(DataProblem, match="nano: none of its 1 tasks fits"):
        Evaluation(NANO, prompter(), EventLoop(ScriptedEngine(str), executor))


def test_nothing_is_read_when_nothing_is_due(executor):
    evaluation = Evaluation(EvalConfig(every=0, suites=()), prompter(), EventLoop(ScriptedEngine(str), executor))
    assert not evaluation.due(10, 10) and evaluation.measure() == {}


def test_a_mean_and_its_error():
    mean = heldout_eval.Mean.of([1.0, 0.0, 0.0, 0.0])
    assert mean.value == 0.25 and mean.error == pytest.approx(math.sqrt(0.25 / 4))


def test_spoiled_rewards_stay_in_their_group():
    true, groups = [1.0, 2.0, 3.0, 4.0, 5.0], ["propose/d", "propose/d", "solve/d", "solve/a", "solve/a"]
    assert rewards_told(true, groups, "none", random.Random(0)) == true
    assert rewards_told(true, groups, "flipped", random.Random(0)) == [-1.0, -2.0, -3.0, -4.0, -5.0]
    dealt = {tuple(rewards_told(true, groups, "shuffled", random.Random(seed))) for seed in range(40)}
    assert dealt == {(a, b, 3.0, c, d) for a, b in ((1.0, 2.0), (2.0, 1.0)) for c, d in ((4.0, 5.0), (5.0, 4.0))}
    assert true == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_end_of_a_run_compares_its_last_ten_iterations_with_its_first_ten():
    rows = [{"iteration": 0}] + [{"propose/valid_rate": v} for v in [0.0, 1.0] * 5 + [0.3] * 4 + [1.0] * 10]
    # ten values of 0 and 1: deviation sqrt(10 * 0.25 / 9), over sqrt(10)
    assert presenting.progress(rows) == ("valid proposals: first 10 iterations 0.500 +- 0.167, last 10 1.000 +- 0.000")
    assert presenting.progress(rows[:15]) == ""
