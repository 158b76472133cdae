"""A deduction answer is written out: whoever copies the program into an expression has worked out nothing."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from test_values import _values

from azr_jax.executor import literals
from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.values import encode, show
from azr_jax.executor.written import FORMS, is_written_out
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

TASK = Triplet("def f(x):\n    return x * 10 + 3", "5", "53", encode(53))
COMPUTES = [
    "(lambda x: x * 10 + 3)(5)", "[x * 10 + 3 for x in [5]][0]", "next(x * 10 + 3 for x in (5,))", "sum([50, 3])",
    "max(53, 1)", "eval('5 * 10 + 3')", "int('53')", "[53][0]", "53 if 5 > 2 else 0", "(x := 53)", "5 and 53",
    "str(53)", "'{}'.format(53)", "f'{5}3'", "list('ab')", "set('hello')", "Counter('aab')", "Counter(['a', 'a'])",
    "sorted([2, 1])", "list(range(9))", "deque('ab')", "dict(zip('ab', [1, 2]))", "[*'ab']", "{**{}}", "dict(**{})",
    "datetime.date.fromordinal(9)", "math.factorial(5)", "defaultdict(lambda: 3, {})", "Decimal(str(5))",
    "OrderedDict()[0]",
    "set([x for x in 'ab'])", "frozenset({}.keys())", "Fraction([1][0], 2)", "float", "x",
    # Constructors of one another are a calculator: each of these was right where the program was copied.
    "Fraction(5, Fraction(1, 10))", "complex(50, 7j)", "complex(Fraction(5, Fraction(1, 10)), -3j)", "complex('1+2j')",
    "complex(Fraction(1, 2), 1)",
    "float(Fraction(100, 3))", "[Fraction(5, Fraction(1, 10))]", "Decimal(0.1)", "float('1.5')", "float(5)",
    "Fraction(6, 4)", "Fraction(1, -3)", "Fraction('0.75')", "Fraction(True)",
    "list({7, 3, 5})", "tuple({2: 1})", "deque({3, 1})", "deque([1, 2, 3], maxlen=2)", "deque([1, 2, 3], 2)",
    "frozenset([1, 2, 1])", "set((1, True))", "bytearray([1])", "bytearray(3)",
    "dict([('a', 1), ('a', 2)])", "dict(['ab'])", "dict({'a': 1}, b=2)", "Counter({'a': 1}, a=1)",
    "OrderedDict([('a', 1), ('a', 2)])", "defaultdict(int, {1: 2, 1: 3})",
    "datetime.timedelta(minutes=90)", "datetime.timedelta(seconds=86400)", "datetime.timezone(5)",
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
    "'a' 'b'",
    "0x35",
    "[0b11]",
    "{1, 2, 1}",
    "{'a': 1, 'a': 2}",
    "{1, True}",
    "+True",
    "-Fraction(1, 3)",
]
WRITTEN = [
    "53", "'a'  # 'b'", "-5.5", "+1", "-1.5+2j", "(1-2j)", "[1, (2, {'a': {3}})]", "1, 2", "set()", "set([1, 2])",
    "frozenset({1})", "dict(a=1)", "OrderedDict([('a', 1)])", "collections.OrderedDict({'a': 1})", "Counter({'a': 2})",
    "Counter(a=2)", "defaultdict(int, {1: 2})", "defaultdict(None)", "deque([1, 2], maxlen=3)", "Fraction(-1, 3)",
    "Fraction(7)", "deque()", "deque([])", "deque([1], None)", "complex(-10, 5)", "-inf+2j", "bytearray(b'a')",
    "frozenset()", "tuple([3, 1])", "datetime.timedelta(days=-1, seconds=5)", "['0x1', '#', \"it's\"]",
    "Decimal('1.5')", "float('nan')", "-float('inf')", "-inf", "math.nan", "range(3)", "datetime.date(2020, 1, 31)",
    "datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)", "b'ab'", "r'a\\b'", "'''a'b'''", "'\\\\'", "1_000",
]  # fmt: skip


def written(text: str, form: str = "literal") -> bool:
    return is_written_out(text, ast.parse(text, mode="eval"), form)


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
        (" 53 # why", ["correct", "correct", "correct"]),
        ("0x35", ["not written out", "correct", "correct"]),
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


CALCULATES = {
    "a product": ("5 * 10", "Fraction(5, Fraction(1, 10))", "not written out"),
    "the whole of x * 10 + 3": ("5 * 10 + 3", "complex(Fraction(5, Fraction(1, 10)), -3j)", "not written out"),
    "a sorted list": ("sorted([7, 3, 5])", "list({7, 3, 5})", "not written out"),
    "different ones": ("set([7, 3, 7])", "{7, 3, 7}", "not written out"),
    "the last key": ("dict([(1, 2), (1, 3)])", "{1: 2, 1: 3}", "not written out"),
    "joined": ("'a' + 'b'", "'a' 'b'", "not written out"),
    "from base two": ("int('101', 2)", "0b101", "not written out"),
    "a product, as a complex number": ("(2j + 1) * 5j", "complex(-10, 5)", "correct"),
}


@pytest.mark.parametrize(("value", "text", "reason"), CALCULATES.values(), ids=CALCULATES)
def test_constructors_and_spellings_are_no_calculator(executor, value, text, reason):
    """The cheat `answers: the program's arithmetic` earned 1.0 with these under `deduction_answer=literal`."""
    program = f"def f(x):\n    return {value}"
    task = executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("5",)))).result().task
    answer = Answer(Kind.DEDUCTION, text)
    assert executor.submit(Verify(Kind.DEDUCTION, task, answer, deduction_answer="literal")).result().reason == reason
    assert executor.submit(Verify(Kind.DEDUCTION, task, answer)).result().correct


POINTS = "class P:\n    def __init__(self, x):\n        self.x = x\ndef f(p, y=0):\n    return p.x + y"
SEARCHES = [
    "next(x for x in range(99) if x * 10 + 3 == 53)", "[x for x in range(9) if x * 10 + 3 == 53][0]",
    "*filter(lambda x: x * 10 + 3 == 53, range(9))", "(lambda: 5)()", "sorted([5])[0]", "len('abcde')", "*[5]",
    "**{'x': 5}", "{5: 5}[5]",
]  # fmt: skip


@pytest.mark.parametrize("text", SEARCHES)
def test_an_input_is_found_by_whoever_answers(executor, text):
    """Under `any` an expression looks for it, with the program copied into it: right for every program."""
    answer = Answer(Kind.ABDUCTION, text)
    verdicts = [executor.submit(Verify(Kind.ABDUCTION, TASK, answer, abduction_answer=form)).result() for form in FORMS]
    assert [verdict.reason for verdict in verdicts] == ["not written out", "not written out", "correct"]


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("5", ["correct", "correct", "correct"]),
        ("x=5", ["correct", "correct", "correct"]),
        (" 5 ,", ["correct", "correct", "correct"]),
        ("Fraction(5)", ["correct", "correct", "correct"]),
        ("(53 - 3) // 10", ["not written out", "correct", "correct"]),
        ("53-48", ["not written out", "correct", "correct"]),
        ("6", ["wrong value", "wrong value", "wrong value"]),
        ("1), (2", ["not an argument list", "not an argument list", "not an argument list"]),
    ],
)
def test_an_abduction_answer_is_judged_by_its_form(executor, text, reasons):
    answer = Answer(Kind.ABDUCTION, text)
    jobs = [Verify(Kind.ABDUCTION, TASK, answer, abduction_answer=form) for form in FORMS]
    assert [executor.submit(job).result().reason for job in jobs] == reasons


def test_the_proposers_own_input_is_right_whatever_its_form(executor):
    """In any layout. A copy of it with something more in it is another answer."""
    task = Triplet(POINTS, "P(sum([2, 3])), 1", "6", encode(6))
    answers = {"P(sum([2, 3])), 1": 1.0, "P( sum([2,3]) ),1,": 1.0, "P(sum([2, 3])), 0 + 1": 0.0}
    jobs = [Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, one), abduction_answer="literal") for one in answers]
    assert [executor.submit(job).result().score for job in jobs] == list(answers.values())


@settings(max_examples=200, deadline=None)
@given(_values)
def test_the_flat_reader_and_the_tree_agree_on_what_is_written_out(value):
    text = show(value)
    try:
        literals.read(text, written=True)
    except literals.NotLiteral:
        return
    assert written(text)


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
