"""What was gained on held-out tasks since the first measurement, task by task, also by a run that went on later."""

import math

import pytest

from azr_jax.monitor.heldout import HeldOutWriter
from azr_jax.monitor.jsonl import read

OUTPUT, INPUT = ("cruxeval", "deduction"), ("cruxeval", "abduction")


def test_a_gain_is_told_with_the_error_of_its_differences(tmp_path):
    writer = HeldOutWriter(tmp_path)
    assert writer.write(0, {OUTPUT: [0.0, 0.5, 1.0, 0.0], INPUT: [0.5]}) == {}  # nothing to compare with
    numbers = writer.write(10, {OUTPUT: [0.5, 0.5, 1.0, 0.0], INPUT: [0.5]})
    # Differences 0.5, 0, 0, 0: their error is 0.125, where two independent measurements have 0.31.
    assert numbers["eval/cruxeval/deduction/gain"] == numbers["eval/cruxeval/deduction/gain_se"] == 0.125
    assert numbers["eval/cruxeval/abduction/gain"] == 0.0
    assert list(read(tmp_path / "heldout.jsonl"))[2] == {
        "iteration": 10, "suite": "cruxeval", "kind": "deduction", "scores": [0.5, 0.5, 1.0, 0.0],
    }  # fmt: skip


def test_a_run_that_goes_on_is_compared_with_its_own_beginning(tmp_path):
    writer = HeldOutWriter(tmp_path)
    writer.write(0, {OUTPUT: [0.0, 0.0]})
    saved = writer.cursor()
    lost = writer.write(5, {OUTPUT: [1.0, 0.0]})
    resumed = HeldOutWriter(tmp_path, saved)
    assert [line["iteration"] for line in read(tmp_path / "heldout.jsonl")] == [0]
    assert resumed.write(5, {OUTPUT: [1.0, 0.0]}) == lost
    assert math.isclose(lost["eval/cruxeval/deduction/gain"], 0.5)


def test_other_tasks_are_not_compared(tmp_path):
    """`eval.rows` may change when a run goes on."""
    HeldOutWriter(tmp_path).write(0, {OUTPUT: [0.0, 0.0]})
    resumed = HeldOutWriter(tmp_path, (tmp_path / "heldout.jsonl").stat().st_size)
    assert resumed.write(5, {OUTPUT: [1.0, 1.0, 1.0], INPUT: [1.0]}) == {}
    # From then on with the first measurement of those, also by who goes on once more.
    again = HeldOutWriter(tmp_path, resumed.cursor())
    for writer in (resumed, again):
        assert writer.write(10, {OUTPUT: [0.5, 1.0, 1.0]})["eval/cruxeval/deduction/gain"] == pytest.approx(-1 / 6)


def test_a_run_that_was_begun_before_there_was_such_a_file_goes_on(tmp_path):
    assert HeldOutWriter(tmp_path, 0).write(30, {OUTPUT: [1.0]}) == {}


@pytest.mark.parametrize("count", [1, 7])
def test_first_measurements_gain_nothing(tmp_path, count):
    assert HeldOutWriter(tmp_path).write(0, {OUTPUT: [0.5] * count}) == {}
