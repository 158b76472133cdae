"""A deduction answer is written out: whoever copies the program into an expression has worked out nothing."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from test_values import _values

from azr_jax.executor import literals
from azr_jax.executor.jobs import Verify
from azr_jax.executor.values import encode, show
from azr_jax.executor.written import FORMS, is_written_out
from azr_jax.tasks.types import Answer, Kind, Triplet

TASK = Triplet("def f(x):\n    return x * 10 + 3", "5", "53", encode(53))
COMPUTES = [
    "(lambda x: x * 10 + 3)(5)", "[x * 10 + 3 for x in [5]][0]", "next(x * 10 + 3 for x in (5,))", "sum([50, 3])",
    "max(53, 1)", "eval('5 * 10 + 3')", "int('53')", "[53][0]", "53 if 5 > 2 else 0", "(x := 53)", "5 and 53",
    "str(53)", "'{}'.format(53)", "f'{5}3'", "list('ab')", "set('hello')", "Counter('aab')", "Counter(['a', 'a'])",
    "sorted([2, 1])", "list(range(9))", "deque('ab')", "dict(zip('ab', [1, 2]))", "[*'ab']", "{**{}}", "dict(**{})",
    "datetime.date.fromordinal(9)", "math.factorial(5)", "defaultdict(lambda: 3, {})", "Decimal(str(5))",
    "OrderedDict()[0]",
    "set([x for x in 'ab'])", "frozenset({}.keys())", "Fraction([1][0], 2)", "float", "x",
]  # fmt: skip
OPERATES = [
    "5 * 10 + 3",
    "'a' * 50",
    "[0] * 10",
    "2 ** 10",
    "~3",
    "not 0",
    "-(-3)",
    "'a' + 'b'",
    "1 + (2 + 3j)",
    "1j + 2",
]
WRITTEN = [
    "53", "'a' 'b'", "-5.5", "+1", "-1.5+2j", "(1-2j)", "[1, (2, {'a': {3}})]", "1, 2", "set()", "set([1, 2])",
    "frozenset({1})", "dict(a=1)", "OrderedDict([('a', 1)])", "collections.OrderedDict({'a': 1})", "Counter({'a': 2})",
    "Counter(a=2)", "defaultdict(int, {1: 2})", "defaultdict(None)", "deque([1, 2], maxlen=3)", "Fraction(1, -3)",
    "Decimal('1.5')", "float('nan')", "-float('inf')", "-inf", "math.nan", "range(3)", "datetime.date(2020, 1, 31)",
    "datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)", "b'ab'", "r'a\\b'", "'''a'''", "0x10", "1_000",
]  # fmt: skip


def written(text: str, form: str = "literal") -> bool:
    return is_written_out(ast.parse(text, mode="eval"), form)


@pytest.mark.parametrize("text", COMPUTES)
def test_what_computes_is_not_written_out(text):
    assert [written(text, form) for form in FORMS] == [False, False, True]


@pytest.mark.parametrize("text", OPERATES)
def test_operators_between_literals_are_a_form_of_their_own(text):
    assert [written(text, form) for form in FORMS] == [False, True, True]


@pytest.mark.parametrize("text", WRITTEN)
def test_literals_and_what_constructors_make_of_them_count(text):
    assert [written(text, form) for form in FORMS] == [True, True, True]


@settings(max_examples=200, deadline=None)
@given(_values)
def test_every_output_as_prompts_show_it_is_written_out(value):
    assert written(show(value))


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("53", ["correct", "correct", "correct"]),
        (" 0x35 ", ["correct", "correct", "correct"]),
        ("5 * 10 + 3", ["not written out", "correct", "correct"]),
        ("(lambda x: x * 10 + 3)(5)", ["not written out", "not written out", "correct"]),
        ("5 * 10", ["not written out", "wrong value", "wrong value"]),
    ],
)
def test_a_deduction_answer_is_judged_by_its_form(executor, text, reasons):
    answer = Answer(Kind.DEDUCTION, text)
    jobs = [Verify(Kind.DEDUCTION, TASK, answer, deduction_answer=form) for form in FORMS]
    assert [executor.submit(job).result().reason for job in jobs] == reasons
    evaluation = executor.submit(Verify(Kind.DEDUCTION, TASK, answer)).result()
    assert evaluation.reason == reasons[-1], "evaluations judge as their own code does"


def test_an_unknown_form_is_named(executor):
    with pytest.raises(ValueError, match=r"deduction_answer: 'text', one of literal, operators, any"):
        executor.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "53"), deduction_answer="text"))  # type: ignore


@pytest.mark.parametrize("text", ["s e t()", "se\nt()", "set\n()", "set()()", "set\u00a0()"])
def test_a_text_that_is_no_python_is_no_empty_set(executor, text):
    """White space was taken out before it was compared."""
    with pytest.raises(literals.NotLiteral):
        literals.read(text)
    task = Triplet("def f(x):\n    return set()", "1", "set()", encode(set()))
    assert not executor.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, text))).result().correct


@pytest.mark.parametrize("text", ["set()", " set ( ) ", "set(\n)"])
def test_the_empty_set_however_it_is_laid_out(text):
    assert literals.read(text) == set()
