"""What was ever kept: nearness of programs, rarity of answers, and a look that costs the same however much there is."""

import random
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.tasks.history import NEAR, History
from azr_jax.tasks.novelty import ast_distance
from azr_jax.tasks.types import InductionTask, Kind, Triplet

LOOP = "def f(xs):\n    total = 0\n    for x in xs:\n        if x > 2:\n            total += x\n    return total"
OTHER = "def f(s, n):\n    while n and s:\n        s, n = s[1:] + s[0], n - 1\n    return s.upper()"


def task(program: str, given: str = "1", result: str = "2") -> Triplet:
    return Triplet(program, given, result, "")


def near(known: History, program: str) -> float:
    return known.nearest(task(program))


def history(*programs: str) -> History:
    one = History(Kind.DEDUCTION)
    for program in programs:
        one.add(task(program))
    return one


def test_it_knows_a_program_again_and_a_near_one():
    known = history(LOOP, OTHER)
    assert near(history(), LOOP) == 1.0 and len(known) == 2
    assert near(known, LOOP) == near(known, OTHER + "  # again") == 0.0
    assert 0.0 < near(known, LOOP.replace("> 2", "> 3")) < 0.5
    assert near(known, "import math\n\nclass A:\n    b: int = 3") == 1.0
    assert near(known, "no program") == 1.0


def test_the_estimate_is_on_the_scale_of_the_ast_distance():
    # Programs that share from all to a third of their forty statements. 32 bins leave a deviation below 0.1 each.
    lines = [f"    a{i} = b{i} ** c{i}" for i in range(60)]
    whole = "\n".join(["def f(x):", *lines[:40]])
    known, errors = history(whole), []
    for first in range(0, 21, 4):
        moved = "\n".join(["def f(x):", *lines[first : first + 40]])
        errors.append(near(known, moved) - ast_distance(whole, moved))
    assert errors[0] == 0.0
    assert abs(statistics.mean(errors)) < 0.1 and max(map(abs, errors)) < 0.3


def test_small_programs_are_told_apart_too():
    # Fewer pq-grams than bins: empty bins borrow from the same others in every sketch.
    assert near(history("def f(x):\n    return x"), "def f(x):\n    return x") == 0.0
    # Distance 0.37; with so few grams the estimate has a deviation of 0.1.
    assert 0.1 < near(history("def f(x):\n    return x"), "def f(y):\n    return -y") < 0.7


def test_the_nearest_of_many_alike_is_among_the_newest():
    # More than NEAR programs share every band with it; the last one is the same.
    many = [LOOP.replace("> 2", f"> {number}") for number in range(3, 3 + 3 * NEAR)]
    assert near(history(*many), many[-1]) == 0.0


def test_the_mean_is_over_all_there_is_and_costs_a_look():
    # The same program and one with nothing in common: half an overlap, and a distance counts what is shared twice.
    far = "import math\n\nclass A:\n    b: int = 3"
    assert history().mean_distance(task(LOOP)) == 1.0
    assert history(LOOP, LOOP).mean_distance(task(LOOP)) == 0.0
    assert history(LOOP, far).mean_distance(task(LOOP)) == pytest.approx((1 - 0.5) / (1 + 0.5), abs=0.03)
    nine = history(LOOP, *[far] * 9)
    assert nine.mean_distance(task(LOOP)) == pytest.approx(0.9 / 1.1, abs=0.03) and near(nine, LOOP) == 0.0


def test_an_induction_task_is_what_its_inputs_are():
    def cases(program: str, *inputs: int) -> InductionTask:
        texts = tuple(map(str, inputs))
        return InductionTask(program, texts, texts, texts, "m", 1)

    known = History(Kind.INDUCTION)
    known.add(cases(LOOP, *range(10)))
    assert known.nearest(cases(LOOP.replace("total", "s"), *range(10)[::-1])) == 0.0
    assert 0.0 < known.nearest(cases(LOOP, *range(1, 11))) < 0.5, "nine of ten: 0.1, by an estimate from few parts"
    assert known.nearest(cases(LOOP, *range(10, 20))) > 0.8 and known.nearest(cases(OTHER, *range(10))) > 0.8


def test_it_means_the_same_in_every_run():
    assert near(history(LOOP), LOOP.replace("total", "sum_")) == near(history(LOOP), LOOP.replace("total", "sum_"))


def test_surprise_is_one_minus_how_often_that_was_the_answer():
    deduction = History(Kind.DEDUCTION)
    assert deduction.surprise(task(LOOP)) == 1.0
    for result in ("2", "2", "3", "4"):
        deduction.add(task(LOOP, "1", result))
    assert [deduction.surprise(task(OTHER, "1", result)) for result in ("2", "3", "5")] == [0.5, 0.75, 1.0]


def test_what_the_answer_is_depends_on_the_kind():
    triplet = task(LOOP, "[1]", "0")
    cases = InductionTask(LOOP, ("[1]", "[3]"), ("0", "3"), ("", ""), "m", 1)
    assert Kind.DEDUCTION.answers(triplet) == Kind.ERROR.answers(triplet) == ("0",)
    assert Kind.ABDUCTION.answers(triplet) == ("[1]",)
    assert Kind.INDUCTION.answers(cases) == ("0", "3")
    induction = History(Kind.INDUCTION)
    induction.add(cases)
    # One of the two outputs was half of all so far, the other never came.
    assert induction.surprise(InductionTask(LOOP, ("1", "2"), ("3", "4"), ("", ""), "m", 1)) == 1 - (0.5 + 0) / 2


def test_a_look_at_a_long_history_costs_no_more_than_at_a_short_one():
    rng = random.Random(0)

    def like_loop() -> str:
        return LOOP.replace("2", str(rng.randrange(10**6))).replace("total", f"t{rng.randrange(999)}")

    known, seconds = history(*(like_loop() for _ in range(200))), []
    asked = [like_loop() for _ in range(50)]
    for _ in range(2):
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            for program in asked:
                near(known, program)
            best = min(best, time.process_time() - started)
        seconds.append(best)
        for _ in range(1600):
            known.add(task(like_loop()))
    # Nine times the history: a scan would be nine times as slow.
    assert seconds[1] < 2 * seconds[0]


@pytest.mark.parametrize("program", ["def f(x):\n    return " + "-" * 3000 + "x", "(" * 10_000, "", "\0", "\ud800"])
def test_strange_programs_are_remembered_too(program):
    assert near(history(program), program) in (0.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40) | st.sampled_from([LOOP, OTHER]), max_size=4), st.text(max_size=40))
def test_any_text_has_a_nearest(programs, program):
    assert 0.0 <= near(history(*programs), program) <= 1.0
