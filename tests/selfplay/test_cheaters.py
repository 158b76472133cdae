"""No strategy of pay without work earns more than an honest proposal of median learnability (cheats.py has them).

benchmarks/cheaters.py plays each for twenty iterations; its table stands in docs/RESULTS.md.
"""

import statistics

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings
from tests.selfplay.cheats import CHEATS, COPIES, FORMAT, HONEST, INDUCTION, NEW_RULES, OLD_RULES, SOLVERS, A, D, play

BAR = 0.375  # the median of 0, 0, 1/8, ..., 7/8: learnability at the nine solve rates of eight attempts
PAID_BEFORE = [
    one for one in (*COPIES, *FORMAT, *INDUCTION) if not one.name.startswith(("inputs without", "a program"))
]


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def named(strategy) -> str:
    return f"{strategy.name} ({strategy.kind})"


@pytest.mark.parametrize("honest", [one for one in HONEST if one.kind in (D, A)], ids=named)
def test_honest_work_of_every_difficulty_earns_what_the_bar_says(executor, honest):
    earned = play(executor, honest, 1, 9, NEW_RULES)
    assert sorted(earned.rewards) == [0, 0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]
    assert statistics.median(earned.rewards) == BAR and earned.valid == earned.new == 1.0


@pytest.mark.parametrize("cheat", CHEATS, ids=named)
def test_no_cheat_earns_more_than_honest_work(executor, cheat):
    earned = play(executor, cheat, 2, 4, NEW_RULES)
    assert earned.mean <= 0.0 < BAR, "in truth not more than a task that teaches nothing"


@pytest.mark.parametrize("cheat", PAID_BEFORE, ids=named)
def test_before_it_earned_more(executor, cheat):
    """By the rules as they were: lenient format, two inputs, copies paid, programs in messages."""
    assert play(executor, cheat, 1, 4, OLD_RULES).mean > BAR


@pytest.mark.parametrize("cheat", SOLVERS, ids=named)
def test_no_answer_is_right_without_the_answer(executor, cheat):
    assert max(play(executor, cheat, 1, 4, NEW_RULES).rewards) <= -0.5
