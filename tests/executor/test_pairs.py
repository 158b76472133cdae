"""Induction: what is hidden follows from what is shown, and an input counts once however it is written."""

from __future__ import annotations

import ast
import functools
import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.executor.binding import bound
from azr_jax.executor.cases import Case
from azr_jax.executor.constants import handed_out, mark, marks_in
from azr_jax.executor.jobs import Validate
from azr_jax.executor.pairs import Pair, arranged, pair
from azr_jax.executor.values import encode
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Validation

TEN = tuple(map(str, range(10)))
ADD = "def f(x, y=0, *rest, z=1, **more):\n    return x + y + z + sum(rest)"


def validated(executor, program: str, inputs: tuple[str, ...], **how) -> Validation:
    rules = {"shown": 5, "fewest": len(inputs), "most": len(inputs)} | how
    return executor.submit(Validate(Proposal(Kind.INDUCTION, program, inputs, "m"), **rules)).result()


def task(executor, program: str, inputs: tuple[str, ...], **how) -> InductionTask:
    found = validated(executor, program, inputs, **how).task
    assert isinstance(found, InductionTask)
    return found


# ------------------------------------------------------------------------------ equal inputs
@pytest.mark.parametrize(
    ("program", "again"),
    [
        (ADD, "x=5"), (ADD, "5, 0"), (ADD, "5, y=0"), (ADD, "y=0, x=5"), (ADD, "*[5]"), (ADD, "**{'x': 5}"),
        (ADD, "5, z=1"),
        ("def f(x, *, key=None):\n    return x", "5, key=None"),
        ("from functools import lru_cache\n@lru_cache\ndef f(x):\n    return x", "x=5"),
        ("from functools import wraps\ndef same(g):\n    @wraps(g)\n    def h(*a, **k):\n        return g(*a, **k)\n"
         "    return h\n@same\ndef f(x):\n    return x", "x=5"),
        ("class A:\n    pass\nnone = A()\ndef f(x, y=none):\n    return x", "x=5"),
    ],
)  # fmt: skip
def test_an_input_written_otherwise_is_the_same_input(executor, program, again):
    """Told apart by their text, five values made ten inputs, and the hidden ones had been shown."""
    assert validated(executor, program, ("5", "6", "7", again)).reason == "too few inputs"
    assert task(executor, program, ("5", "6", "7", again, "8"), fewest=4).inputs == ("5", "6", "7", "8")


def test_inputs_that_differ_stay_two(executor):
    inputs = ("1", "1, 2", "1, 2, 3", "1, z=2", "1, 2, 3, 4", "x=2, y=3", "1, a=1", "1, a=2")
    assert set(task(executor, ADD, inputs, pairs="as_given").inputs) == set(inputs)


_values = st.integers(0, 2)
_SIGNATURES = [
    "x",
    "x, y=0",
    "x, /, y=1",
    "x, *rest",
    "x, *, y=2",
    "x=0, *rest, y=1, **more",
    "x, /, **more",
    "**more",
    "*rest",
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_SIGNATURES),
    st.lists(_values, max_size=4),
    st.dictionaries(st.sampled_from("xyzw"), _values, max_size=3),
)
def test_binds_as_the_library_does(signature, positional, named):
    space: dict = {}
    exec(f"def f({signature}): pass", space)
    for function in (space["f"], functools.lru_cache(space["f"])):
        found = bound(function, tuple(positional), named)
        try:
            right = inspect.signature(function).bind(*positional, **named)
        except TypeError:
            continue  # the call fails of itself
        right.apply_defaults()
        assert found is not None
        rest, more = right.arguments.pop("rest", ()), right.arguments.pop("more", {})
        assert found[0] | found[1] == right.arguments | {"*": rest, "**": more}


@pytest.mark.parametrize("function", [print, int, functools.partial(int, base=2), "f".join, object()])
def test_of_what_is_no_function_nothing_is_said(function):
    assert bound(function, (1,), {}) is None


# ------------------------------------------------------------------------------ what is shown
@pytest.mark.parametrize(
    ("program", "inputs", "shown", "hidden"),
    [
        ("x * 2", TEN, "01234", "56789"),  # as it was proposed
        ("max(x - 4, 0)", TEN, "01235", "46789"),  # all shown were 0
        ("min(x, 5) * 3", TEN, "01235", "46789"),  # all hidden were 15: a constant program was right
        ("max(4 - x, 0) % 9", TEN, "01245", "36789"),  # all hidden were 0
        ("'low' if x < 7 else 'high'", TEN, "01237", "45689"),
        ("{0: 'a', 9: 'b'}.get(x, 'c')", TEN, "01239", "45678"),
        ("x or 9", TEN[::-1], "98765", "43210"),
    ],
)
def test_what_is_hidden_follows_from_what_is_shown(executor, program, inputs, shown, hidden):
    found = task(executor, f"def f(x):\n    return {program}", inputs)
    assert ("".join(found.inputs[:5]), "".join(found.inputs[5:])) == (shown, hidden)
    assert found.outputs == tuple(repr(eval(program, {"x": int(x)})) for x in found.inputs)
    assert task(executor, f"def f(x):\n    return {program}", inputs, pairs="as_given").inputs == inputs


TABLE = {n: f"w{n * 7 % 10}" for n in range(10)}
CHAIN = "".join(f"    if x == {n}:\n        return {word!r}\n" for n, word in TABLE.items())


@pytest.mark.parametrize(
    "program",
    [
        f"def f(x):\n    return {TABLE}[x]",
        f"T = {list(TABLE.values())}\ndef f(x):\n    return T[x]",
        f"def f(x):\n{CHAIN}",
        f"def f(x):\n{CHAIN.replace('return', 'y =')}    return y",
        f"def f(x, t={tuple(TABLE.values())}):\n    return t[x]",
        f"def f(x):\n    return [(n, w) for n, w in {list(TABLE.items())} if n == x][0][1]",
    ],
)
def test_a_table_of_constants_is_nothing_to_induce(executor, program):
    """Nobody can know the hidden entries from the shown ones, and learnability paid for that."""
    assert validated(executor, program, TEN).reason == "a table of constants"
    assert task(executor, program, TEN, pairs="as_given").inputs == TEN


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (("1, 2", "3, 4", "5, 6", "7, limit=8"), ""),
        (("1, 2", "3, limit=4", "5, 6", "7, limit=8"), ""),
        (("limit=1, x=2", "x=3, limit=4", "5, 6", "7, 8"), ""),
        (("1", "2", "3", "4, 5"), ""),  # an argument more, without a name: as it comes
    ],
)
def test_names_of_arguments_are_shown_before_they_are_used(executor, inputs, reason):
    """A solver's program has names of its own: called by others it is wrong, and the task looked hard."""
    assert validated(executor, "def f(x, limit=9):\n    return x * 2 + limit", inputs, shown=2).reason == reason


TEXT = "qwertyuiopasdfghjkl"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (f"def f(x):\n    return {TEXT!r}[x]", "a table of constants"),
        (f"T = {TEXT!r}\ndef f(x):\n    return T[x % 19]", "a table of constants"),
        (f"def f(x):\n    return {' '.join(TEXT)!r}.split()[x]", "a table of constants"),
        ("def f(x):\n    return 8361947250 // 10 ** x % 10", "a table of constants"),
        ("def f(x):\n    return str(8361947250)[x]", "a table of constants"),
        ("def f(x):\n    return 'abcdefghijklmnop'[x * 3 % 16]", ""),  # an alphabet
        (f"def f(x):\n    return len({TEXT!r}[x:]) * x", ""),
    ],
)
def test_a_table_in_a_text_or_a_number_is_one(executor, program, reason):
    """`a table kept in a text` earned 0.50 where half of the attempts knew it by heart."""
    assert validated(executor, program, TEN).reason == reason


def test_what_an_input_says_behind_its_value_is_not_shown(executor):
    """It could hold the program, or the answer."""
    told = task(executor, "def f(x, y=0):\n    return x * 2", ("1 # twice", "2", "3, '#'", "4  #", "5"), shown=2)
    assert told.inputs == ("1", "2", "3, '#'", "4", "5")


def test_names_of_arguments_are_texts_or_the_line_is_forged():
    """Names that are all numbers were taken for names: `{int} > {str}` is false."""
    for names in ((3,), (3, "x")):
        case = Case("value", encode(1), given=encode(({"x": 5}, 1, names)))
        found = pair(0, case, "5", "1")
        assert (found.given, found.positional, found.names) == ((str, "5"), 0, frozenset())
    assert pair(0, Case("value", encode(1), given=encode(({"x": 5}, 0, ("x",)))), "x=5", "1").names == {"x"}


def test_constants_that_something_is_done_with_are_not_handed_out():
    program = "K = 'k'\ndef f(x, y=[1, (2, 'a')]):\n    z = -3\n    return x % 4 + 5 if x > 6 else "
    program += "(lambda: {7: 8}.get(x, 9))()"
    given = ["k", [1, (2, "a")], 1, (2, "a"), 2, "a", -3, {7: 8}, 8, 9]
    assert marks_in(handed_out(ast.parse(program))) >= {mark(encode(one)) for one in given if one != {7: 8}}
    assert marks_in(handed_out(ast.parse(program))).isdisjoint({mark(encode(one)) for one in (3, 4, 5, 6, 7, "x")})


def test_a_deep_or_long_table_costs_little():
    deep = "x = " + "[" * 60 + "1, " * 10_000 + "]" * 60
    assert 0 < len(handed_out(ast.parse(deep))) < 1 << 16
    long = f"x = {list(range(6_000))}"
    assert len(marks_in(handed_out(ast.parse(long)))) >= 5_900


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.sets(st.integers(0, 4)), st.integers(1, 6))
def test_every_arrangement_keeps_the_pairs_and_shows_what_it_can(outputs, own, shown):
    pairs = [Pair(n, encode(value), str(value), value, n) for n, value in enumerate(outputs)]
    shown = min(shown, max(1, len(pairs) // 2))
    if len(set(outputs)) < 2:
        return
    order, reason = arranged(pairs, shown, frozenset(mark(encode(one)) for one in own))
    held = own & set(outputs)
    assert (reason == "a table of constants") == (len(held) > shown)
    if not reason:
        front, back = order[:shown], order[shown:]
        assert sorted(one.number for one in order) == list(range(len(pairs)))
        assert held <= {one.output for one in front}
        assert shown == 1 or len({one.output for one in front}) > 1
        assert (order, reason) == arranged(pairs, shown, frozenset(mark(encode(one)) for one in own))
        if len(back) > 1 and len({one.output for one in back}) == 1:
            other = [one for one in front if one.output != back[0].output]
            alone = [one for one in other if one.output in held and [o.output for o in front].count(one.output) == 1]
            assert len(other) < 2 or len(alone) == len(other), "nothing could be exchanged"
