"""Honest programs at the edges of the language: accepted, and judged right on gold, on an equal answer, on a wrong one."""

# ruff: noqa: E501 - a case is one line of text, whatever its length

from __future__ import annotations

import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.tasks.types import Answer, Kind, Proposal

# name: (program, input, output as shown, an equal answer written otherwise, a wrong answer)
CASES = {
    "identity": ("def f(a):\n    return a", "1", "1", "2 - 1", "2"),
    "negative": ("def f(a):\n    return -a", "3", "-3", "-(1 + 2)", "3"),
    "none": ("def f():\n    pass", "", "None", "None", "0"),
    "boolean_is_one": ("def f(a):\n    return a > 1", "2", "True", "1", "False"),
    "float": ("def f(a):\n    return a / 3", "1", "0.3333333333333333", "1/3", "0.333"),
    "float_equals_int": ("def f(a):\n    return a / 2", "4", "2.0", "2", "2.1"),
    "infinity": ("def f(a):\n    return a * 1e308", "10.0", "float('inf')", "inf", "1e308"),
    "nan": ("def f():\n    return [float('nan'), 1]", "", "[float('nan'), 1]", "[nan, 1]", "[1, nan]"),
    "minus_zero": ("def f():\n    return -0.0", "", "-0.0", "0", "1"),
    "complex": ("def f(a):\n    return a * 2j", "3", "6j", "6j", "6"),
    "huge_integer": ("def f(n):\n    return 3 ** n", "500", str(3**500), "3 ** 500", "3 ** 501"),
    "longest_integer": ("def f(n):\n    return 10 ** n", "4000", "1" + "0" * 4000, "10 ** 4000", "10 ** 3999"),
    "text": ("def f(s):\n    return s[::-1]", "'abc'", "'cba'", '"cba"', "'abc'"),
    "text_with_quotes": ("def f(s):\n    return s", '"it\'s \\"so\\""', "'it\\'s \"so\"'", "'it\\'s \"so\"'", "'its so'"),
    "text_with_newline": ("def f(s):\n    return s.upper()", "'a\\nb'", "'A\\nB'", "'A' '\\nB'", "'A B'"),
    "triple_quotes": ("def f(s):\n    return len(s)", "'''a\nb'''", "3", "3", "4"),
    "unicode": ("def f(s):\n    return s + 'ß'", "'日本'", "'日本ß'", "'\\u65e5本ß'", "'日本'"),
    "emoji": ("def f(s):\n    return len(s)", "'🙂🙂'", "2", "2", "4"),
    "unicode_names": ("def f(é):\n    ñ = é + 1\n    return ñ", "é=1", "2", "2", "1"),
    "surrogate": ("def f():\n    return '\\ud83d'", "", "'\\ud83d'", "'\\ud83d'", "'?'"),
    "null_character": ("def f():\n    return 'a\\0b'", "", "'a\\x00b'", "'a\\x00b'", "'ab'"),
    "bytes": ("def f(s):\n    return s.encode()", "'é'", "b'\\xc3\\xa9'", "b'\\xc3' b'\\xa9'", "'é'"),
    "empty_list": ("def f():\n    return []", "", "[]", "list()", "()"),
    "list_is_not_tuple": ("def f(a, b):\n    return a, b", "1, 2", "(1, 2)", "1, 2", "[1, 2]"),
    "one_tuple": ("def f(a):\n    return (a,)", "1", "(1,)", "1,", "1"),
    "nested": ("def f(a):\n    return [a, [a, [a]]]", "1", "[1, [1, [1]]]", "[1, [1, [1, ], ], ]", "[1, 1, 1]"),
    "deeply_nested": ("def f(n):\n    x = 0\n    for _ in range(n):\n        x = [x]\n    return x", "40", "[" * 40 + "0" + "]" * 40, "[" * 40 + "0" + "]" * 40, "0"),
    "dict": ("def f(k):\n    return {k: 1, 2: 'b'}", "'a'", "{'a': 1, 2: 'b'}", "{2: 'b', 'a': 1}", "{'a': 1}"),
    "dict_order_shown": ("def f(d):\n    return dict(reversed(d.items()))", "{'b': 1, 'a': 2}", "{'a': 2, 'b': 1}", "dict(a=2, b=1)", "{}"),
    "set": ("def f(x):\n    return set(x)", "[3, 1, 2, 3]", "{1, 2, 3}", "{3, 2, 1}", "[1, 2, 3]"),
    "set_of_text": ("def f(s):\n    return set(s)", "'hello'", "{'e', 'h', 'l', 'o'}", "set('olleh')", "{'h'}"),
    "empty_set": ("def f():\n    return set()", "", "set()", "set()", "{}"),
    "frozenset": ("def f(s):\n    return frozenset(s)", "'ba'", "frozenset({'a', 'b'})", "{'a', 'b'}", "'ab'"),
    "mixed_set": ("def f():\n    return {1, 'a', (2, 3)}", "", "{'a', (2, 3), 1}", "{1, (2, 3), 'a'}", "{1}"),
    "sorted_set_is_deterministic": ("def f(s):\n    return sorted(set(s))", "'hello'", "['e', 'h', 'l', 'o']", "list('ehlo')", "[]"),
    "range": ("def f(n):\n    return range(n)", "3", "range(0, 3)", "range(3)", "[0, 1, 2]"),
    "counter": ("from collections import Counter\ndef f(s):\n    return Counter(s)", "'aab'", "Counter({'a': 2, 'b': 1})", "{'a': 2, 'b': 1}", "Counter('ab')"),
    "defaultdict": ("from collections import defaultdict\ndef f():\n    d = defaultdict(list)\n    d[1].append(2)\n    return d", "", "defaultdict(list, {1: [2]})", "{1: [2]}", "{}"),
    "deque": ("from collections import deque\ndef f():\n    return deque([1, 2], maxlen=2)", "", "deque([1, 2], maxlen=2)", "deque([1, 2])", "[1, 2]"),
    "ordered_dict": ("from collections import OrderedDict\ndef f():\n    return OrderedDict(b=1, a=2)", "", "OrderedDict([('b', 1), ('a', 2)])", "{'a': 2, 'b': 1}", "OrderedDict(a=2, b=1)"),
    "fraction": ("from fractions import Fraction\ndef f(a, b):\n    return Fraction(a, b)", "2, 4", "Fraction(1, 2)", "0.5", "2"),
    "decimal": ("from decimal import Decimal\ndef f():\n    return Decimal('0.1') + Decimal('0.2')", "", "Decimal('0.3')", "Decimal('0.30')", "0.3"),
    "keywords": ("def f(a, *, b=2, **rest):\n    return a, b, rest", "1, c=3, b=4", "(1, 4, {'c': 3})", "(1, 4, {'c': 3})", "(1, 2)"),
    "defaults": ("def f(a, b=[1]):\n    return a + b", "[0]", "[0, 1]", "[0] + [1]", "[0]"),
    "mutable_default": ("def f(x, seen=[]):\n    seen.append(x)\n    return seen", "1", "[1]", "[1]", "[1, 1]"),
    "starred": ("def f(*a):\n    return sum(a)", "*[1, 2], 3", "6", "6", "3"),
    "double_starred": ("def f(**k):\n    return sorted(k)", "**{'b': 1, 'a': 2}", "['a', 'b']", "['a', 'b']", "[]"),
    "trailing_comma": ("def f(a, b):\n    return a - b", "3, 1,", "2", "2", "-2"),
    "several_lines": ("def f(a, b):\n    return a + b", "[1,\n 2],\n[3]", "[1, 2, 3]", "[1,\n2,\n3]", "[1]"),
    "comment_in_input": ("def f(a):\n    return a", "1  # the number", "1", "1", "2"),
    "lambda_input": ("def f(g, x):\n    return g(g(x))", "lambda x: x * 2, 3", "12", "12", "6"),
    "generator_input": ("def f(xs):\n    return sum(xs)", "x * x for x in range(4)", "14", "14", "13"),
    "comprehension_input": ("def f(xs):\n    return xs[-1]", "[[0] * 2 for _ in range(2)]", "[0, 0]", "[0] * 2", "[0]"),
    "shared_rows": ("def f(g):\n    g[0][0] = 1\n    return g", "[[0] * 2] * 2", "[[1, 0], [1, 0]]", "[[1, 0]] * 2", "[[1, 0], [0, 0]]"),
    "bytes_input": ("def f(b):\n    return list(b)", "b'ab'", "[97, 98]", "[97, 98]", "[97]"),
    "lambda_program": ("f = lambda x: x + 1", "1", "2", "2", "1"),
    "closure": ("def f(n):\n    def add(x):\n        return x + n\n    return add(1)", "4", "5", "5", "4"),
    "nonlocal": ("def f(n):\n    c = 0\n    def g():\n        nonlocal c\n        c += 1\n    for _ in range(n): g()\n    return c", "3", "3", "3", "2"),
    "recursion_900": ("def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)", "900", "900", "900", "899"),
    "class": ("class P:\n    def __init__(self, x):\n        self.x = x\ndef f(x):\n    return P(x).x", "1", "1", "1", "2"),
    "class_as_input": ("class P:\n    def __init__(self, x):\n        self.x = x\ndef f(p):\n    return p.x", "P(5)", "5", "5", "6"),
    "inheritance": ("class A:\n    def g(self): return 1\nclass B(A):\n    def g(self): return super().g() + 1\ndef f():\n    return B().g()", "", "2", "2", "1"),
    "class_name": ("class A: pass\ndef f():\n    return A().__class__.__name__", "", "'A'", "'A'", "'B'"),
    "annotations_are_values": (
        "def f(x: int = 2) -> str:\n    return [v.__name__ for v in f.__annotations__.values()], x",
        "",
        "(['int', 'str'], 2)",
        "['int', 'str'], 2",
        "([], 2)",
    ),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 2\ndef f(x):\n    return P(x) == P(1)", "1", "True", "True", "False"),
    "enum": ("from enum import Enum\nclass C(Enum):\n    RED = 1\ndef f():\n    return C.RED.value", "", "1", "1", "2"),
    "namedtuple_inside": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f():\n    return tuple(P(1, 2))", "", "(1, 2)", "(1, 2)", "(2, 1)"),
    "generator_inside": ("def f(n):\n    def g():\n        yield from range(n)\n    return list(g())", "3", "[0, 1, 2]", "list(range(3))", "[]"),
    "decorator": ("import functools\n@functools.lru_cache(None)\ndef f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)", "80", "23416728348467685", "23416728348467685", "1"),
    "exceptions_inside": ("def f(x):\n    try:\n        return 1 / x\n    except ZeroDivisionError:\n        return 'no'", "0", "'no'", "'no'", "0"),
    "match": ("def f(x):\n    match x:\n        case [a, *_]: return a\n        case _: return None", "[7, 8]", "7", "7", "8"),
    "walrus_in_program": ("def f(x):\n    return y if (y := x + 1) else 0", "1", "2", "2", "0"),
    "type_hints": ("from typing import List, Optional\ndef f(x: Optional[List[int]] = None) -> int:\n    return len(x or [])", "[1]", "1", "1", "0"),
    "main_guard": ("def f(x):\n    return x\nif __name__ == '__main__':\n    f(input())", "1", "1", "1", "2"),
    "prints": ("def f(x):\n    print('noise', x)\n    return x", "1", "1", "1", "2"),
    "reads_no_input": ("def f():\n    try:\n        return input()\n    except EOFError:\n        return 'none'", "", "'none'", "'none'", "''"),
    "helper_functions": ("def g(x):\n    return x + 1\ndef f(x):\n    return g(g(x))", "1", "3", "3", "2"),
    "global_state": ("n = 0\ndef f(x):\n    global n\n    n += x\n    return n", "5", "5", "5", "10"),
    "lazy_imports": ("def f(s):\n    import textwrap, statistics\n    return statistics.mean([1, 2, 3]), textwrap.dedent(s)", "' a'", "(2, 'a')", "(2, 'a')", "(2, ' a')"),
    "heap": ("import heapq\ndef f(xs):\n    heapq.heapify(xs)\n    return heapq.heappop(xs)", "[3, 1, 2]", "1", "1", "2"),
    "regex": ("import re\ndef f(s):\n    return re.findall(r'\\d+', s)", "'a1b22'", "['1', '22']", "['1', '22']", "[]"),
    "json": ("import json\ndef f(s):\n    return json.loads(s)", "'{\"a\": [1, null]}'", "{'a': [1, None]}", "dict(a=[1, None])", "{}"),
    "long_output": ("def f(n):\n    return 'x' * n", "2000", repr("x" * 2000), "'x' * 2000", "'x' * 1999"),
    "renamed_entry": ("def solve(n):\n    return 1 if n < 2 else n * solve(n - 1)", "5", "120", "120", "24"),
    "base64_module": ("import base64\ndef f(s):\n    return base64.b64encode(s.encode()).decode()", "'hi'", "'aGk='", "'aGk='", "'hi'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_honest_program(executor, name):
    program, given, output, equal, wrong = CASES[name]
    task = executor.submit(Validate(Proposal(Kind.DEDUCTION, program, (given,)))).result()
    assert task.task is not None, task
    assert task.task.output == output
    answered = {a: Answer(Kind.DEDUCTION, a) for a in (output, equal, wrong)}
    verdicts = {a: executor.submit(Verify(Kind.DEDUCTION, task.task, answer)) for a, answer in answered.items()}
    abduced = executor.submit(Verify(Kind.ABDUCTION, task.task, Answer(Kind.ABDUCTION, given)))
    assert {a: f.result().correct for a, f in verdicts.items()} == {wrong: False} | {output: True, equal: True}
    assert abduced.result().correct


def test_there_are_enough():
    assert len(CASES) >= 60
