"""What counts as code in a message: the program copied, renamed, laid out anew; and not what is said in words."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.tasks.leaks import leak

PROGRAM = '''def f(numbers, most):
    """Adds what is small."""
    total = 0
    for n in numbers:
        if n < most and n % 2 == 0:  # even
            total += n * n
    return total'''
ONE_LINE = "def f(xs):\n    return [2 * x for x in xs if x > 3 and x != 'a']"
SHORT = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (PROGRAM, PROGRAM),
        (PROGRAM, f"Find the rule.\nIt is this:\n````\n{PROGRAM}\n````"),
        (PROGRAM, PROGRAM.replace("numbers", "xs").replace("total", "s").replace("most", "limit")),
        (PROGRAM, " ; ".join(line.strip() for line in PROGRAM.splitlines()[2:])),
        (ONE_LINE, 'Give [2 * y for y in ys if y > 3 and y != "a"].'),
        (SHORT, SHORT),
        (SHORT, "def g(y): return y+1"),
    ],
)
def test_code_in_a_message_is_found_whatever_its_names_and_layout(program, message):
    assert leak(program, message) > 0.8


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (PROGRAM, ""),
        (PROGRAM, "Add up the squares of all even numbers in the list that are smaller than the second argument."),
        (
            PROGRAM,
            "For each n in numbers, if n is less than most and n % 2 == 0, add n * n to the total. Return total.",
        ),
        (ONE_LINE, "Twice every x of the list with x > 3, leaving out the letter 'a'."),
        (SHORT, "Compute x + 1."),
        (SHORT, "Write def f(x) so that it returns the number after x."),
    ],
)
def test_a_task_in_words_is_none(program, message):
    assert leak(program, message) < 0.3


def test_a_half_of_the_program_is_a_half():
    lines = [f"    a = a * {n} - b[{n}] + {n}" for n in range(10)]
    program = "\n".join(["def f(a, b):", *lines, "    return a"])
    assert leak(program, "\n".join(lines[:5])) == pytest.approx(0.5, abs=0.05)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_has_a_share(program, message):
    assert 0.0 <= leak(program, message) <= 1.0


def test_a_text_of_heads_in_a_program_takes_no_longer_than_its_length():
    """A program that was accepted and holds it: one pattern for the head took hours over this, all threads waiting."""
    program = "def  f(x):\n    return x\nS = '" + "def f(" * 1_000 + ")" * 20_000 + "'"
    begun = time.process_time()
    assert leak(program, "Give it back.") == 0.0
    assert time.process_time() - begun < 1.0
