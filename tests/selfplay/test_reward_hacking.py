"""What a proposer would learn if the executor did not look: a coin in place of a program pays better than any task.

The coin falls with the hash seed, which is another one in every process. Whoever answers is right half of the time, so
the task looks as if it could be learned for ever, and nothing ever is.
"""

import pytest

from azr_jax.executor import validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import Cast, Stage

COIN = "def f(x):\n    return hash(x) % 2"
PROPOSED = [
    "x):\n    return hash(x) % 2\n```\n```input\n'any text'\n```",
    "x):\n    return x[0]\n```\n```input\n'any text'\n```",
]
ANSWERS = {
    "hash(x)": ["0\n```", "1\n```", "1\n```", "0\n```"],
    "x[0]": ["'a'\n```"],  # honest, and easy: every attempt is right
    "return x": ["'seed'\n```"],
}


@pytest.fixture
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def played(executor) -> dict:
    flags = {"tasks__kinds": "deduction", "batch_size": "2"}
    stage = Stage(executor, Cast({Kind.DEDUCTION: PROPOSED}, ANSWERS), **flags)
    stage.put(Kind.DEDUCTION, "def f(x):\n    return x", "'seed'")
    coin, honest = stage.play().proposed[Kind.DEDUCTION]
    return {"coin": coin, "honest": honest}


def test_the_coin_is_refused_and_costs_its_proposer(executor):
    found = played(executor)
    assert found["coin"].refusal == "not deterministic"
    assert (found["coin"].reward, found["honest"].reward) == (-0.5, 0.0)
    assert found["coin"].advantage < found["honest"].advantage


def test_without_the_second_run_the_coin_is_the_best_proposal(executor, monkeypatch):
    """The check is switched off here and nowhere else."""
    monkeypatch.setattr(validate, "_agree_on", lambda *_: True)
    found = played(executor)
    assert found["coin"].refusal == "" and found["coin"].task.program == COIN
    assert (found["coin"].reward, found["honest"].reward) == (0.5, 0.0)
    assert found["coin"].advantage > found["honest"].advantage
