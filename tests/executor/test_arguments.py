"""The short way for plain inputs: never taken where the long way would refuse, and never to another call."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.executor.arguments import parse_call, plain_call
from azr_jax.executor.hygiene import Unfit

_PIECES = (
    "(", ")", "[", "]", "{", "}", ",", ":", "-", ".", " ", "\n", "\r", "1", "20", "True", "None", "a", "f", "=", "#",
    "*", "\\", "'", '"', "''", '""', "'''", '"""', "'a'", '"(b"', '")"', "1), (2", "\x0c", "\xa0", "\x00", "é",
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_the_short_way_is_the_long_way(text: str) -> None:
    code = plain_call(text)
    if code is not None:
        tree = parse_call(text)  # raises Unfit where the text is more than an argument list
        long = compile(ast.fix_missing_locations(ast.Expression(tree)), "input", "eval", dont_inherit=True)
        assert code == long


@pytest.mark.parametrize("text", ["", "1", "-1.5, 'a(', \"b)\"", "[(1, 2), {3: None}], {True}", "[\n1,\n2]"])
def test_plain_inputs_go_the_short_way(text: str) -> None:
    assert plain_call(text) is not None


@pytest.mark.parametrize(
    "text", ["1), (2", "'''(''', 1", '"""a"""', "1 # (", "f'{g()}'", "x", "a=1", "*[1]", "(]", "'\\''", "\\\n1", "1,,2"]
)
def test_all_else_goes_the_long_way(text: str) -> None:
    assert plain_call(text) is None


def test_a_text_that_closes_the_call_is_refused() -> None:
    with pytest.raises(Unfit):
        parse_call("1), (2")
