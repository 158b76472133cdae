"""The constants that a program may hand out as they stand: what it returns, keeps in tables, or gives a name.

An output that is one of them can be learned only by being seen: no other pair tells of it. pairs.py asks that those are
shown. A constant that something is done with (`x % 4`, `x * 2 + 3`) is none of these. A text of ten signs or more that
a place is taken of, or that is split, hands out its signs and words, and a number of ten digits or more that is divided
or shifted its digits: `'qwertyuiop'[x]`, `3141592653 // 10 ** x % 10`. An alphabet, whose signs rise, does not: what is
hidden of it follows from what is shown.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from azr_jax.executor.values import MAX_CHARS, Refused, encode

_PRIME = 2**32 - 5  # `zlib` would be two more libraries in every zygote, and each of them costs every fork
_LONG = 10  # signs of a text or digits of a number that are a table
_MOST = 8_192  # of one program; the longest that is run holds fewer
_MOST_CHARS = 16 * MAX_CHARS  # of all of them, encoded: nested tables hold their parts again and again


def handed_out(tree: ast.AST) -> str:
    """The marks of all of them, one behind the other."""
    marks, left = dict[str, None](), _MOST_CHARS
    for node in _in_place(tree):
        try:
            text = encode(ast.literal_eval(node))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, Refused):
            continue
        marks[mark(text)] = None
        left -= len(text)
        if left < 0 or len(marks) >= _MOST:
            break
    for value in _kept_in_texts(tree):
        if len(marks) < _MOST:
            marks[mark(encode(value))] = None
    return "".join(marks)


def marks_in(text: str) -> frozenset[str]:
    return frozenset(text[place : place + 8] for place in range(0, len(text), 8))


def mark(encoded: str) -> str:
    """Of a value in the codec. That two values share one costs a proposal, and pays nobody."""
    return f"{int.from_bytes(encoded.encode(), 'little') % _PRIME:08x}"


def _kept_in_texts(tree: ast.AST) -> Iterator[str | int]:
    """The entries of tables that are a text or a number."""
    named: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            named |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=table) if not isinstance(node.slice, ast.Constant):
                yield from _entries(table, named)
            case ast.Call(
                func=ast.Attribute(value=table, attr="split" | "splitlines" | "partition" | "index" | "find")
            ):
                yield from _entries(table, named)
            case ast.BinOp(left=table, op=ast.FloorDiv() | ast.RShift()):
                yield from _entries(table, named)
            case ast.Call(
                func=ast.Name(id="str" | "bin" | "hex" | "oct" | "list" | "iter" | "enumerate"), args=[table]
            ):
                yield from _entries(table, named)
            case _:
                pass


def _entries(node: ast.expr, named: dict[str, ast.expr]) -> Iterator[str | int]:
    table = named.get(node.id, node) if isinstance(node, ast.Name) else node
    if isinstance(table, ast.Call) and isinstance(table.func, ast.Attribute):  # `'a b c'.split()[x]`
        table = table.func.value
    value = table.value if isinstance(table, ast.Constant) else None
    if type(value) is int and abs(value) >= 10 ** (_LONG - 1):
        value = str(abs(value))
    if not isinstance(value, str) or not _LONG <= len(value) <= MAX_CHARS or all(a < b for a, b in pairwise(value)):
        return
    yield from dict.fromkeys(value)
    yield from dict.fromkeys(re.split(r"[\s,;|/]+", value))
    yield from (int(digit) for digit in dict.fromkeys(value) if digit in "0123456789")


def _in_place(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions whose value goes on as it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Return() | ast.Yield() | ast.Assign() | ast.AnnAssign() | ast.NamedExpr() if node.value:
                yield node.value
            case ast.arguments():
                yield from (*node.defaults, *filter(None, node.kw_defaults))
            case ast.Lambda():
                yield node.body
            case ast.IfExp():
                yield from (node.body, node.orelse)
            case ast.BoolOp():
                yield from node.values
            case ast.List() | ast.Tuple() | ast.Set():
                yield from node.elts
            case ast.Dict():
                yield from node.values
            case ast.Call(func=ast.Attribute(attr="get" | "setdefault" | "pop")):
                yield from node.args[1:]
            case _:
                pass
