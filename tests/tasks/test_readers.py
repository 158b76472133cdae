"""Whatever program is accepted, everything that looks at it afterwards comes to an end, and soon."""

# ruff: noqa: E501 - tables of programs

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "executor"))

from costs import is_linear

from azr_jax.executor.values import encode
from azr_jax.tasks import leaks, novelty, programs, prompts, sameness
from azr_jax.tasks.buffers import Buffers, BufferSettings
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.history import History
from azr_jax.tasks.novelty import traits
from azr_jax.tasks.parsing import blocks, parse_answer, parse_proposal
from azr_jax.tasks.typenames import type_of
from azr_jax.tasks.types import InductionTask, Kind, Triplet

RESERVED = Reserved(["def g(a):\n    return a * 2"])


def renamed(program: str) -> str:
    try:
        return programs.rename_part(program, 1)
    except ValueError as error:  # the one refusal it states
        assert str(error).startswith("part 1")
        return ""


def asked(program: str) -> None:
    """Every prompt that shows it."""
    task = Triplet(program, program, program, encode(1))
    for style in ("think", "think_chat", "completion"):
        prompts.propose(Kind.DEDUCTION, [task], style=style, functions=[program])
        prompts.propose(Kind.INDUCTION, [task], style=style)
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION, Kind.ERROR):
            prompts.solve(kind, task, style=style)
        pairs = InductionTask(program, (program, "1"), (program, "2"), (encode(1), encode(2)), program, 1)
        prompts.solve(Kind.INDUCTION, pairs, style=style)


READERS: dict[str, Callable[[str], object]] = {
    "normal form": sameness.normal_form,
    "form of an input": sameness.input_form,
    "without comments": programs.without_comments,
    "without globals": programs.without_globals,
    "rename": renamed,
    "calls parts": lambda p: programs.calls_parts(p, 2),
    "complexity": novelty.complexity,
    "halstead": novelty.halstead,
    "distance": lambda p: novelty.distance_to(p, [p, "def f(x): return x"]),
    "reserved": lambda p: p in RESERVED,
    "types": type_of,
    "nearest": lambda p: History(Kind.DEDUCTION).nearest(Triplet(p, "1", "1", encode(1))),
    "leak": lambda p: leaks.leak(p, p),
    "prompts": asked,
    "blocks": blocks,
    "proposal": lambda p: parse_proposal(Kind.DEDUCTION, f"```python\n{p}\n```\n```input\n{p}\n```"),
    "induction": lambda p: parse_proposal(Kind.INDUCTION, f"```input\n{p}\n```\n```message\n{p}\n```", program=p),
    "answer": lambda p: parse_answer(Kind.ABDUCTION, f"```input\nf({p})\n```"),
}


def read_by_all(program: str, given: str) -> None:
    """What happens to a task that was just accepted, and later when it is drawn as a reference."""
    for reader in READERS.values():
        reader(program)
    history = History(Kind.DEDUCTION)
    for kind, task in (
        (Kind.DEDUCTION, Triplet(program, given, "1", encode(1))),
        (Kind.INDUCTION, InductionTask(program, (given, "1"), ("1", "2"), (encode(1), encode(2)), "m", 1)),
    ):
        traits(task, program, [program], history)
        buffers = Buffers([kind], BufferSettings(capacity=2))
        buffers[kind].append(task, iteration=1)
        buffers[kind].append(task, iteration=2)


DEEP = "def f(x):\n    return x" + "+1" * 950
HOSTILE = {
    "a number of 4,335 digits in base 16": f"def f(x):\n    return x % {'0x' + 'f' * 3_600}",
    "the same in base 8": f"def f(x):\n    return x % {'0o' + '7' * 5_000}",
    "the same in base 2": f"def f(x):\n    return x % {'0b' + '1' * 15_000}",
    "below zero": f"def f(x):\n    return -{'0x' + 'f' * 3_600}",
    "a sum of two": f"def f(x):\n    return {'0x' + 'f' * 3_000} + {'0x' + 'f' * 3_000}",
    "in a default": f"def f(x={'0x' + 'f' * 3_600}):\n    return x",
    "in a docstring's place": f"def f(x):\n    {'0x' + 'f' * 3_600}\n    return x  # c",
    "with lines between the digits": f"def f(x):\n    return {'0x' + 'f_f' * 1_800}",
    "950 terms": DEEP,
    "950 terms and a comment": DEEP + "  # why",
    "a long chain of attributes": "def f(x):\n    # c\n    return x" + ".a" * 3_000,
    "a long chain of calls": "def f(x):\n    # c\n    return x" + "()" * 3_000,
    "many signs": "def f(x):\n    # c\n    return " + "-" * 3_000 + "1",
    "many ifs": "def f(x):\n    # c\n    return " + "1 if x else " * 900 + "0",
    "many elifs": "def f(x):\n    if x: # c\n        pass\n" + "    elif x:\n        pass\n" * 900,
    "every kind of quote": "def f(x):\n    # c\n    return f\"\"\"{f'''{f'{f\"{x}\"}'}'''}\"\"\"",
    "a brace and a backslash": "def f(x):\n    # c\n    return f'{x!r:\\n}' f'''{'a' \"b\" + '''c'''}'''",
    "half a character": "def f(x):\n    '\\ud800'\n    # c\n    return '\\ud800'",
    "half a character as it is": "def f(x):\n    # c\n    return '\ud800'",
    "a null": "def f(x):\n    # c\n    return '\0'",
    "a form feed": "def f(x):\n    # c\n\x0c    return x",
    "odd escapes": "def f(x):\n    # c\n    return '\\d' '\\N{DIGIT ONE}' b'\\xff'",
    "infinite numbers": "def f(x):\n    # c\n    return 1e999, 1e999j, -1e999",
    "only a comment": "# f",
    "a class without a body": "class f:\n    '''doc'''",
    "an async f": "async def f(x):\n    '''doc'''\n    return [await y async for y in x]",
    "match": "def f(x):\n    # c\n    match x:\n        case {'a': 1, **rest} | [*_, rest]: return rest",
    "star everywhere": "def f(*a, b=1, **k):\n    # c\n    return f(*a, **k, b=(c := b))",
    "a very long name": "def f(" + "x" * 3_500 + "):\n    # c\n    return 1",
    "a very long text": "def f(x):\n    # c\n    return '" + "x" * 30_000 + "'",
    "too long to be looked at": "def f(x):\n    # c\n    return [" + "1," * 30_000 + "]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_odd_program_is_read_by_all(name):
    program = HOSTILE[name]
    read_by_all(program, "1")
    read_by_all(program, program.partition("return")[2].strip() or "1")


_SCRAPS = st.sampled_from([
    "x", "f", "1", "0x" + "f" * 3_600, "'a'", "'\\ud800'", "f'{x!r:>{x}}'", "'''t'''", "b''", "1e999", "1j", "...", "None",
    "+1" * 400, "-" * 400, "[" * 40 + "]" * 40, "(", ")", "[", "]", "{", "}", ":", ",", "=", ":=", "*", "**", ".a", "()",
    "lambda:", "lambda x=1:", " if x else ", " for x in x", " async ", "await ", "yield ", " and ", " not ", "@", "#", "\\\n",
    "\n", "\n    ", "\n        ", "def f(x):", "def g():", "class f:", "global f", "nonlocal x", "import f", "from f import *",
    "import f as g", "try:", "except E as f:", "with f as x:", "match x:", "case f:", "return ", "return", "del f", "pass",
    "\x0c", "\0", "\ud800", "é", "ﬁ", "\r", "\t", ";", "'", '"', "'''", "assert x",
])  # fmt: skip
_BODY = st.lists(_SCRAPS, max_size=14).map("".join)


@settings(max_examples=150, deadline=None)
@given(_BODY, _BODY)
def test_any_scraps_are_read_by_all(body, given_text):
    for program in (body, f"def f(x):\n    {body}", f"def f(x):\n    # c\n    return {body}"):
        read_by_all(program, given_text)


LONG: dict[str, Callable[[int], str]] = {
    "terms": lambda n: "def f(x):\n    # c\n    return x" + "+1" * n,
    "statements": lambda n: "def f(x):\n    # c\n" + "    x = 1\n" * n,
    "list": lambda n: "def f(x):\n    # c\n    return [" + "1," * n + "]",
    "quotes": lambda n: "'" * n,
    "fences": lambda n: "```\n" * n,
    "fences of growing length": lambda n: "".join("`" * (3 + k % 50) + "\n" for k in range(n)),
    "blanks": lambda n: " " * n + "\n" + "\t" * n,
    "lines": lambda n: "\n" * n + "x",
    "words": lambda n: "a" * n + " " + "0x" * n,
    "digits": lambda n: "0b" * n,
    "tags": lambda n: "<answer>" * n + "</think>" * n,
    "calls": lambda n: "f(" * n,
    "carriage returns": lambda n: "\r" * n,
    "open at last": lambda n: "def f(x):\n    return (" + "x," * n,
}


@pytest.mark.parametrize("name", LONG)
def test_all_read_in_linear_time(name):
    slow = [reader for reader, read in READERS.items() if not is_linear(read, LONG[name], 500)]
    assert slow == []


def test_values_of_values_are_read_in_linear_time():
    """Each was put where it is read, and all of them gone through again: 1.8 s of the trainer for 500 lines."""

    def chain(lines: int) -> str:
        given = "".join(f"    x{i} = x{i - 1} + 1\n" for i in range(1, lines))
        return f"def f(x0):\n{given}    return x{lines - 1}"

    assert is_linear(sameness.normal_form, chain, 60)
