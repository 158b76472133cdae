"""The small world: programs that are what they claim, outputs that are true, and a wall between training and test."""

from __future__ import annotations

import ast
import random
from collections import Counter

import pytest

from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.nano import heldout
from azr_jax.nano.pretrain import Recipe, batch_texts, corpus
from azr_jax.nano.steps import STEPS
from azr_jax.nano.world import LEVELS, Known, Little, execute, held_out, normal_form, write
from azr_jax.tasks.types import Kind, Proposal, Triplet


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(timeout_s=10.0, workers=1)) as executor:
        yield executor


def statements(program: str) -> int:
    """Of the body as a reader counts them: a loop or a condition with what is in it is one, `r = 0` before it none."""
    return len(ast.parse(program).body[0].body)  # type: ignore[attr-defined]


def test_the_same_seed_writes_the_same_program_and_another_seed_another():
    first, again, other = (write(random.Random(seed), 3, 4) for seed in (5, 5, 6))
    assert first == again
    assert first.program != other.program


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_means_so_many_statements(level: int):
    rng = random.Random(level)
    low, high = LEVELS[level]
    sizes = [statements(write(rng, level, 1).program) for _ in range(300)]
    # The last step may stand in the return (one less), and a loop may need a line that starts its sum (one more each).
    assert min(sizes) >= low - 1
    assert max(sizes) <= 2 * high
    assert low - 1 <= sum(sizes) / len(sizes) <= high + 1


def test_nearly_all_programs_run_on_nearly_all_their_inputs(executor):
    rng = random.Random(0)
    written = [write(rng, 1 + number % 3, 6) for number in range(300)]
    known = list(execute(executor, written, fewest=1))
    assert len(known) >= 0.75 * len(written)
    assert sum(len(k.inputs) for k in known) >= 0.85 * sum(
        len(little.inputs) for little in written if little.program in {k.program for k in known}
    )


def test_outputs_are_what_the_program_gives_and_failing_inputs_are_left_out(executor):
    little = Little(1, "def f(n):\n    return 6 // n", "It divides.", ("2", "0", "3"))
    (known,) = execute(executor, [little], fewest=2)
    assert known == Known(1, little.program, "It divides.", ("2", "3"), ("3", "2"), ("3", "2"))


def test_programs_that_always_give_the_same_teach_nothing_and_are_left_out(executor):
    constant = Little(1, "def f(n):\n    return 7", "", ("1", "2"))
    too_long = Little(1, "def f(n):\n    return 'a' * n", "", ("40", "50"))
    assert list(execute(executor, [constant, too_long], fewest=1)) == []


def test_batched_execution_agrees_with_the_executors_own_validation(executor):
    """Many programs are run as one for speed; each alone, run the way proposals are, must say the same."""
    rng = random.Random(1)
    known = list(execute(executor, [write(rng, 1 + n % 3, 3) for n in range(30)], fewest=1))
    futures = [executor.submit(Validate(Proposal(Kind.DEDUCTION, k.program, k.inputs[:1]))) for k in known]
    for one, future in zip(known, futures, strict=True):
        task = future.result().task
        assert isinstance(task, Triplet)
        assert (task.output, task.value) == (one.outputs[0], one.values[0]), one.program


def test_every_step_of_the_table_is_reached():
    rng = random.Random(2)
    programs = "\n".join(write(rng, 3, 1).program for _ in range(4000))
    for step in STEPS:
        fixed = max((part for part in _fixed_parts(step.expression or step.code)), key=len)
        assert fixed in programs, step


def _fixed_parts(code: str) -> list[str]:
    import re

    return [part.strip() for part in re.split(r"\{\w\}|\n", code.replace("{{", "{").replace("}}", "}"))]


def test_names_and_layout_do_not_make_a_program_another_one_but_numbers_do():
    program = "def f(n, k):\n    y = n + k\n    return y * 2"
    renamed = "def f(k, m):  # the same\n    res = (k + m)\n\n    return res * 2"
    assert normal_form(program) == normal_form(renamed)
    assert normal_form(program) != normal_form(program.replace("2", "3"))
    assert normal_form(program) != normal_form(program.replace("n + k", "k + n"))


def test_pre_training_and_the_held_out_set_never_share_a_normal_form(executor):
    held = {normal_form(one.task.program) for one in heldout.load()}
    recipe = Recipe(programs=1500)
    known = corpus(recipe.seed, recipe.programs, executor)
    assert not held & {normal_form(one.program) for one in known}
    assert all(held_out(one.task.program) for one in heldout.load())
    # And what the model reads is made of the corpus alone.
    programs = {one.program for one in known}
    for text in batch_texts(recipe, known, 0):
        if text.role == "solve" and text.kind == Kind.INDUCTION:
            assert "def f(" + text.completion.removesuffix("\n```") in programs


def test_the_frozen_set_has_all_kinds_repeats_little_and_is_what_its_seed_gives(executor):
    frozen = list(heldout.load())
    counts = {kind: sum(one.kind == kind for one in frozen) for kind in {one.kind for one in frozen}}
    assert counts == dict.fromkeys((Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION), heldout.PER_KIND)
    assert max(Counter(normal_form(one.task.program) for one in frozen).values()) <= heldout.TIMES
    assert len({(one.kind, one.task) for one in frozen}) == len(frozen)
    assert heldout.make(executor, per_kind=5)[0].task == heldout.make(executor, per_kind=5)[0].task


def test_held_out_tasks_survive_the_file(tmp_path, executor):
    made = heldout.make(executor, seed=3, per_kind=4)
    heldout.save(made, tmp_path / "tasks.jsonl")
    assert list(heldout.load(tmp_path / "tasks.jsonl")) == made
