"""The codec: what goes in comes out, exactly; what is not plain is refused; nothing a child sends upsets the parent."""

# ruff: noqa: E501 - tables of values

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.executor import literals, values
from azr_jax.executor.values import MAX_CHARS, Refused, decode, encode, same, show

_atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text(max_size=8)
    | st.binary(max_size=8) | st.fractions() | st.decimals().filter(lambda d: not d.is_snan()) | st.dates() | st.datetimes()
    | st.timedeltas() | st.times()
)  # fmt: skip
_hashable = st.recursive(_atoms, lambda c: st.tuples(c, c) | st.frozensets(c, max_size=3), max_leaves=4)
_values = st.recursive(
    _hashable,
    lambda c: (
        st.lists(c, max_size=4)
        | st.dictionaries(_hashable, c, max_size=3)
        | st.tuples(c)
        | st.sets(_hashable, max_size=3)
    ),
    max_leaves=12,
)


def identical(a: object, b: object) -> bool:
    return type(a) is type(b) and same(a, b)


@settings(max_examples=200, deadline=None)
@given(_values)
def test_a_plain_value_survives(value):
    text = encode(value)
    back = decode(text)
    assert identical(back, value)
    assert encode(back) == text
    assert show(back) == show(value)


@pytest.mark.parametrize(
    "value",
    [
        -0.0, math.inf, -math.inf, 2**53, -(2**53), 10**4000, range(5, 0, -2), Counter(a=2, b=0), OrderedDict(b=1, a=2),
        defaultdict(list, {1: [2]}), defaultdict(None, {1: 2}), deque([1, 2], maxlen=3), deque(), Fraction(-3, 7),
        Decimal("-0"), Decimal("Infinity"), Decimal("1E+999999"), date(2020, 2, 29), time(1, 2, 3, 4), timedelta(-1),
        datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))), complex(-0.0, math.inf), "\ud800\0", b"\xff", (), {},
        frozenset({frozenset()}), {(1, "a"): {2}}, True, 1,
    ],
    ids=repr,
)  # fmt: skip
def test_exact_type_and_value(value):
    back = decode(encode(value))
    assert type(back) is type(value)
    assert repr(back) == repr(value)


class _Text(str):
    pass


class _Number(IntEnum):
    ONE = 1


class _Colour(Enum):
    RED = 1


def _cycle() -> list:
    x: list = []
    x.append(x)
    return x


def _laughs() -> list:
    x: list = [1]
    for _ in range(40):
        x = [x, x]
    return x


@pytest.mark.parametrize(
    "value",
    [
        _Text("a"), _Number.ONE, _Colour.RED, object(), len, print, lambda: 0, int, (i for i in ()), iter([]), math, ...,
        NotImplemented, bytearray(b"a"), memoryview(b"a"), {}.keys(), _cycle(), _laughs(), [_Text("a")], {_Text("a"): 1},
        10**5000, "x" * MAX_CHARS, [0] * MAX_CHARS, defaultdict(lambda: 0), Decimal("sNaN"), type("L", (list,), {})(),
        type("I", (int,), {})(3), ValueError("x"), slice(1), 1j.__class__,
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(Refused):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nan", "NaN", "1.5", "Infinity", '{"?":1}', '{"i":5}', '{"i":"' + "f" * 5000 + '"}', '{"d":[[[],1]]}',
        '{"s":[[1]]}', '{"d":1}', '{"f":[]}', '{"m":"sNaN"}', '{"m":{}}', '{"F":[1,0]}', '{"D":["eval",[]]}', "9" * 4000,
        '{"r":[0,1,0]}', '{"date":[0,0,0]}', '{"i":"1","f":"1"}', "{}", "[" * 8000, "[" * 200 + "]" * 200,
        '{"t":' * 100 + "[]" + "}" * 100, '{"q":[-1,[]]}', '{"b":"zz"}', '{"t":"ab"}', '{"delta":[1e9,0,0]}', '{"c":[1,2]}',
    ],
    ids=lambda t: t[:12],
)  # fmt: skip
def test_text_that_encode_does_not_write_is_refused(text):
    with pytest.raises(Refused):
        decode(text)


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["i", "f", "t", "d", "s", "r", "F", "q", "D", "C", "m", "date"]), c, max_size=1), max_leaves=8))  # fmt: skip
def test_any_json_decodes_or_is_refused(tree):
    with contextlib.suppress(Refused):
        encode(decode(json.dumps(tree)))


def test_equality_is_pythons_but_for_nan():
    nan = float("nan")
    assert same(1, True) and same(1, 1.0) and same(0.0, -0.0) and same({1: [1]}, {True: [1.0]})
    assert not same([1], (1,)) and not same("1", 1) and not same("é", "e\u0301")
    assert same(nan, float("nan")) and same([1, nan], [1, float("nan")]) and not same([nan, 1], [1, nan])
    assert same({nan}, {float("nan")}) and not same({nan}, {1.0}) and not same({nan, 1}, {nan, float("nan")})
    assert same({nan: 1, 2: nan}, {2: float("nan"), float("nan"): 1}) and not same({nan: 1}, {nan: 2})
    assert same(complex(nan, 1), complex(nan, 1)) and not same(complex(nan, 1), complex(nan, 2))
    assert same(Decimal("NaN"), Decimal("NaN")) and not same(Decimal("NaN"), nan)
    assert not same(Counter(a=1), Counter(a=2)) and same(Counter(a=1), {"a": 1})


def test_sets_encode_the_same_whatever_their_order():
    assert encode(set("abcdef")) == encode(set("fedcba")) == '{"s":["a","b","c","d","e","f"]}'


@pytest.mark.parametrize(
    "members",
    [
        [frozenset({False}), frozenset({-12451647, -1j, 126456764.0})],
        [(1, frozenset({1})), (1, frozenset({2})), (1, frozenset())],
        [math.nan, 3.0, 1.0, 2.0],
        [Decimal("NaN"), Decimal(2), Decimal(1)],
        [(10,), (9,), (8,)],
    ],
)
def test_sets_are_shown_the_same_whatever_their_order(members):
    assert len({values._show_members(order) for order in itertools.permutations(members)}) == 1


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10), lambda c: st.lists(c, max_size=4) | st.tuples(c, c) | st.tuples(c) | st.dictionaries(st.integers() | st.text(max_size=3), c, max_size=3), max_leaves=10))  # fmt: skip
def test_the_literal_reader_agrees_with_python(value):
    text = repr(value)
    try:
        assert identical(literals.read(text), value)
    except literals.NotLiteral:
        assert "\\" in text or "." in text or "e" in text


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="()[]{},:+-. 0123456789eExjTrueFalsNon'\"\\n#_ab\n\t", max_size=14))
def test_what_the_literal_reader_reads_python_reads_alike(text):
    try:
        value = literals.read(text)
    except literals.NotLiteral:
        return
    assert identical(eval(text.strip(" \t\n"), {"set": set}), value)


@pytest.mark.parametrize(
    "form", ['{{"s":[{}]}}', '{{"z":[{}]}}', '{{"d":[{}]}}', '{{"C":[{}]}}', '{{"O":[{}]}}', '{{"D":[null,[{}]]}}']
)
def test_keys_made_to_collide_are_refused(form):
    """Multiples of 2**61 - 1 all have the hash 0: some hundreds of them cost each of them a comparison with all."""
    numbers = [f'{{"i":"{k * (2**61 - 1):x}"}}' for k in range(1, 200)]
    keys = numbers if form[3] in "sz" else [f"[{number},0]" for number in numbers]
    with pytest.raises(Refused, match="one hash"):
        decode(form.format(",".join(keys)))
    decode(form.format(",".join(keys[:32])))
