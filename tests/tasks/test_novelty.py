"""Measures of programs, by hand where a hand can count, and bounded whatever is measured."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.tasks.novelty import (
    ast_distance,
    complexity,
    disagreement,
    distance_to,
    halstead,
    squash,
)

LOOP = "def f(xs):\n    total = 0\n    for x in xs:\n        if x > 2:\n            total += x\n    return total"
OTHER = "def f(s, n):\n    while n and s:\n        s, n = s[1:] + s[0], n - 1\n    return s.upper()"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("def f(x):\n    return x", 0),
        ("def f(x):\n    if x:\n        return 1\n    return 2", 1),
        (LOOP, 1 + 2),  # a loop, and a branch inside it
        ("def f(x):\n    if x and x > 1 and x < 9:\n        return 1", 2),  # the branch, one chain of `and`
        ("def f(x):\n    return [y for y in x if y]", 1),
        ("def f(x):\n    for a in x:\n        for b in x:\n            while b:\n                b -= 1", 1 + 2 + 3),
        ("no program at all", 0),
    ],
)
def test_complexity_counts_branches_and_their_depth(program, expected):
    assert complexity(program) == expected


def test_halstead_of_a_sum():
    # def, return, + are the operators; x (parameter), x, 1 the operands: 3 + 3 words, 3 + 2 different ones.
    measured = halstead("def f(x):\n    return x + 1")
    assert (measured.operators, measured.operands) == (3, 3)
    assert (measured.distinct_operators, measured.distinct_operands) == (3, 2)
    assert measured.volume == pytest.approx(6 * math.log2(5))


def test_halstead_tells_one_from_true_and_survives_nothing():
    assert halstead("def f(x):\n    return x == 1 == True").distinct_operands == 3
    assert halstead("").volume == 0.0


def test_distance_is_zero_for_the_same_tree_and_one_for_nothing_in_common():
    assert ast_distance(LOOP, LOOP + "  # a comment") == 0.0
    assert ast_distance("1", "def g(): pass") == pytest.approx(1.0)
    assert ast_distance("", "") == 0.0


def test_a_small_change_is_nearer_than_another_program():
    changed = LOOP.replace("> 2", "> 3")
    assert 0.0 < ast_distance(LOOP, changed) < 0.3 < 0.7 < ast_distance(LOOP, OTHER)


def test_distance_to_references_is_the_mean():
    assert distance_to(LOOP, [LOOP, OTHER]) == pytest.approx(ast_distance(LOOP, OTHER) / 2)
    assert distance_to(LOOP, []) == 1.0


def test_disagreement_is_the_chance_that_two_attempts_differ():
    assert disagreement([]) == disagreement(["1"]) == disagreement(["1", "1", "1"]) == 0.0
    assert disagreement(["1", "2", "3"]) == 1.0
    assert disagreement(["1", "1", "2", "2"]) == pytest.approx(1 - 4 / 12)


def test_squash():
    assert [squash(v, 10.0) for v in (0.0, 10.0, 30.0)] == [0.0, 0.5, 0.75]


HUGE = {
    "long": "def f(x):\n" + "    x = x + 1\n" * 5_000,
    "deep": "def f(x):\n    return " + "-" * 3000 + "x",
    "wide": "def f(x):\n    return [" + "1," * 20_000 + "]",
    "nested": "def f(x):\n    return " + "[" * 150 + "]" * 150,
    "hostile": "(" * 10_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_programs_cost_no_more_than_large_ones(name):
    started = time.process_time()
    assert complexity(HUGE[name]) >= 0 and halstead(HUGE[name]).volume >= 0
    assert ast_distance(HUGE[name], LOOP) <= 1.0
    assert time.process_time() - started < 8.0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.sampled_from([LOOP, OTHER]), st.text(max_size=60) | st.sampled_from([LOOP, OTHER]))
def test_any_two_texts_have_a_distance(a, b):
    assert 0.0 <= ast_distance(a, b) == ast_distance(b, a) <= 1.0
    assert ast_distance(a, a) == 0.0
