"""What is noted of a new task, and what of it may be rewarded."""

import pytest

from azr_jax.tasks.history import History
from azr_jax.tasks.novelty import ast_distance, halstead, traits
from azr_jax.tasks.typenames import type_of
from azr_jax.tasks.types import InductionTask, Kind, Triplet

ADD = "def f(a, b):\n    if a > b:\n        return a\n    return a + b"
ONE = "def f(x):\n    return x"


def test_traits_of_a_triplet():
    history = History(Kind.DEDUCTION)
    history.add(Triplet(ADD, "1, 2", "3", ""))
    history.add(Triplet(ONE, "3", "3", ""))
    found = traits(Triplet(ADD, "2, 2", "4", ""), ADD, [ONE, ADD], history)
    assert (found.complexity, found.lines, found.nearest, found.answer_diversity) == (1, 4, 0.0, 1.0)
    assert found.halstead == halstead(ADD).volume
    assert found.ast_distance == pytest.approx(ast_distance(ADD, ONE) / 2)
    terms = found.terms(Kind.DEDUCTION)
    assert terms["complexity"] == 1 / (1 + 3) and terms["halstead"] == pytest.approx(
        found.halstead / (found.halstead + 200)
    )
    assert (terms["ast_distance"], terms["answer_diversity"]) == (found.ast_distance, 1.0)


def test_of_a_composite_only_what_the_proposer_wrote_counts_and_the_whole_is_looked_up():
    history = History(Kind.DEDUCTION)
    whole = ADD.replace("f(", "g1(") + "\n\ndef f(x):\n    return g1(x, x)"
    history.add(Triplet(whole, "1", "2", ""))
    found = traits(Triplet(whole, "2", "4", ""), "def f(x):\n    return g1(x, x)", [], history)
    assert (found.complexity, found.lines, found.nearest, found.ast_distance) == (0, 2, 0.0, 1.0)


def test_an_induction_task_is_paid_for_its_answers_alone():
    task = InductionTask(ADD, ("1, 2", "2, 1"), ("3", "2"), ("", ""), "m", 1)
    terms = traits(task, ADD, [ADD], History(Kind.INDUCTION)).terms(Kind.INDUCTION)
    assert terms == {"complexity": 0.0, "halstead": 0.0, "ast_distance": 0.0, "answer_diversity": 1.0}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1", "int"),
        ("-1.5", "float"),
        ("'a', b'b', None, True", "str, bytes, NoneType, bool"),
        ("[1, 'a', 2]", "list[int|str]"),
        ("[], (), {}", "list, tuple, dict"),
        ("{'a': [1]}, {1, 2}", "dict[list|str], set[int]"),
        ("[[1], (2, 'x')]", "list[list|tuple]"),
        ("x=3, *[1]", "other, x=int"),
        ("set()", "other"),
        ("", ""),
        ("1)(2", "other"),
        ("[" * 5000, "other"),
        ("TypeError", "other"),
    ],
)
def test_types_of_values_by_their_text(text, name):
    assert type_of(text) == name
