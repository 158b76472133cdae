"""The constants that a program may hand out as they stand: what it returns, keeps in tables, or gives a name.

An output that is one of them can be learned only by being seen: no other pair tells of it. pairs.py asks that those are
shown. A constant that something is done with (`x % 4`, `x * 2 + 3`) is none of these. A table that is taken out of a
text or a number (`'abcdef'[x]`, `31415 // 10 ** x % 10`) is not seen.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterator

from azr_jax.executor.values import MAX_CHARS, Refused, encode

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
    return "".join(marks)


def marks_in(text: str) -> frozenset[str]:
    return frozenset(text[place : place + 8] for place in range(0, len(text), 8))


def mark(encoded: str) -> str:
    """Of a value in the codec. That two values share one costs a proposal, and pays nobody."""
    return f"{zlib.crc32(encoded.encode()):08x}"


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
