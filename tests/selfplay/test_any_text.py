"""Whatever the model writes, an iteration ends, with finite numbers, and what it leaves on disk can be read back."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.run import presenting
from azr_jax.tasks.buffers import Buffers
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import ScriptedEngine, Stage

KINDS = list(Kind)
# Bits of completions after an opened block: programs, inputs, messages, answers, and what breaks them.
SCRAPS = st.sampled_from(
    ["x):\n    return x", "a, b):\n    return a / b", "x):\n    raise KeyError(x)",
     "x):\n    '''doc'''\n    return [x]",
     "x):\n    return g1(x)",
     "x):\n    # c\n    return x % 0x" + "f" * 3_600, "x):\n    # c\n    return x" + "+1" * 950,
     "\n```\n", "```input\n", "```python\ndef f(", "```message\n", "```output\n", "1", "'a'",
     "[1, 2]", "1, 2", "f(3)", "TypeError", "NoError", "words", "\n", "#", "(", ")", "'", "\0", "\ud800", "\u2028",
     "\r", "é", "x" * 300]
)  # fmt: skip
COMPLETION = st.lists(SCRAPS, max_size=12).map("".join) | st.binary(max_size=60).map(
    lambda b: b.decode("utf-8", "replace")
)


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=2, timeout_s=3.0)) as running:
        yield running


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(COMPLETION, min_size=1, max_size=16), st.booleans())
def test_any_text_plays(executor, completions, every_ablation):
    """Completions take turns, so each comes up as a proposal, as an estimate attempt and as a solution."""
    turns = iter(range(10**9))
    flags = {
        "tasks__kinds": ",".join(KINDS),
        "batch_size": "3",
        "tasks__estimate_attempts": "2",
        "buffer__capacity": "7",
    }
    if every_ablation:
        flags |= {
            "tasks__strip_comments": "true", "tasks__strip_globals": "true", "tasks__composite_probability": "0.5",
            "tasks__novelty_gate": "0.3", "tasks__train_on_estimates": "true", "learner__advantage": "rloo",
            "rewards__intrinsic__complexity": "0.5", "rewards__intrinsic__answer_diversity": "1",
            "rewards__combine": "multiply", "preset": "reference",
        }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        engine = ScriptedEngine(lambda prompt, sample: completions[next(turns) % len(completions)])
        made = Stage(executor, engine, Path(folder), **flags)
        for kind in KINDS:
            inputs = ("1", "2", "3", "4") if kind == Kind.INDUCTION else ("1",)
            made.put(kind, "def f(x):\n    return x", *inputs, message="m" * (kind == Kind.INDUCTION))
        for number in (1, 2):
            played = made.play(number)
            assert all(math.isfinite(value) for value in made.numbers.values())
            assert all(math.isfinite(item.advantage) for _, item in made.chosen)
            json.dumps(presenting.records(played))
        again = Buffers(KINDS, made.buffers.settings, Path(folder))
        again.load(made.buffers.cursor())
        assert {kind: list(again[kind]) for kind in KINDS} == {kind: list(made.buffers[kind]) for kind in KINDS}
