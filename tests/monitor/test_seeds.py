"""Runs that differ in their seed alone: one mean with a band, and differences of recipes with the error over seeds."""

import math

import pytest

from azr_jax.monitor import seeds


def run(name, seed, values, references=6, iterations=(1, 2, 3, 4), overall=None):
    config = {"seed": seed, "tasks.references": references}
    return {"name": name, "config": config, "iterations": list(iterations), "series": {"a": values}, "overall": overall}


RUNS = [
    run("full-0", 0, [1, 2, 3, None]),
    run("alone-0", 0, [0, 0, 1, 1], references=0),
    run("full-1", 1, [3, 2, 5, 4]),
    run("full-2", 2, [2, 2, 4], iterations=(1, 2, 3)),
]


def test_only_the_seed_may_differ():
    assert seeds.grouped(RUNS) == [[0, 2, 3], [1]]
    unknown = [RUNS[0] | {"config": {}}, RUNS[0] | {"config": {}}]
    assert seeds.grouped(unknown) == [[0], [1]]


def test_mean_smallest_and_largest_where_all_seeds_have_a_value():
    found = seeds.together(RUNS, [0, 2, 3], ["a", "b"])
    assert (found["name"], found["seeds"], found["iterations"]) == ("full", [0, 1, 2], [1, 2, 3])
    assert found["series"] == {"a": {"mean": [2, 2, 4], "low": [1, 2, 3], "high": [3, 2, 5]}}
    gap = seeds.together(RUNS[::2], [0, 1], ["a"])
    assert gap["series"]["a"]["mean"] == [2, 2, 4, None]


def test_recipes_differ_by_more_than_their_seeds_do():
    """Later halves of `full`: (2, 3) of 1, 2, 3; (5, 4); (2, 4): means 2.5, 4.5, 3, their error by hand."""
    (row,) = seeds.differences(RUNS, [[0, 2, 3], [1]], ["a", "b"])
    mean, error = row["means"][0]
    assert mean == pytest.approx(10 / 3)
    assert error == pytest.approx(math.sqrt(((2.5 - mean) ** 2 + (4.5 - mean) ** 2 + (3 - mean) ** 2) / 2 / 3))
    assert row["means"][1] == (1.0, None)
    assert row["minus"] == [(pytest.approx(1 - mean), None)]
    (row,) = seeds.differences(RUNS, [[0, 2], [2, 3]], ["a"])
    assert row["minus"] == [(pytest.approx(3.75 - 3.5), pytest.approx(math.hypot(1.0, 0.75)))]


def test_seeds_that_agree_by_chance_do_not_make_a_recipe_certain():
    """Each +3 points with an error of 3: three of them have 3 / sqrt(3), however close they lie."""
    one = {"before": 0.2, "now": 0.23, "difference": 0.03, "error": 0.03, "iterations": [0, 9]}
    found = seeds.over_seeds([one, one, one])
    assert found is not None
    assert found["error"] == pytest.approx(0.03 / math.sqrt(3))
    assert found["verdict"] == "no change beyond its error"
    far = seeds.over_seeds([one, one | {"difference": 0.23, "now": 0.43}])
    assert far is not None and far["error"] == pytest.approx(0.1)
    assert seeds.over_seeds([None, None]) is None
    assert seeds.over_seeds([one, None])["error"] == 0.03
