"""Text between the parentheses of a call -> argument expressions, built from the tree and never spliced.

An abduction answer is evaluated in the same process as the program it is an input to, so it must not be able to
change that program (`(helper := lambda x: gold)` would). `is_inert` says whether an answer is written in the part
of the language that can only build values: displays, arithmetic, comprehensions, lambdas, calls of known
constructors and of methods of what it built. Any other answer is evaluated in a process of its own and enters as data.
"""

from __future__ import annotations

import ast
import re
import sys
import types
from typing import Any

from azr_jax.executor.hygiene import Unfit, parse
from azr_jax.executor.written import are_written_out

CAPTURE = "_capture_arguments_"
Given = tuple[tuple[Any, ...], dict[str, Any]]  # arguments: by position, by name
_SIMPLE = re.compile(r"""[\s,:0-9.-]+|(?:None|True|False)\b|'[^'\\\r\n]*'(?!')|"[^"\\\r\n]*"(?!")""")
_STATEFUL = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)

# Names an inert answer may read; none of them leads to a module's, a class's or a frame's state.
_BUILTINS = frozenset({
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "enumerate", "filter",
    "float", "frozenset", "hash", "hex", "int", "iter", "len", "list", "map", "max", "min", "next", "oct", "ord",
    "pow", "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip",
})  # fmt: skip
_TYPES = frozenset({
    "Counter", "OrderedDict", "defaultdict", "deque", "Fraction", "Decimal", "inf", "nan",
})  # fmt: skip
_METHODS = frozenset({
    "append", "add", "capitalize", "casefold", "center", "copy", "count", "decode", "difference", "encode",
    "endswith", "expandtabs", "extend", "find", "fromkeys", "get", "hex", "index", "insert", "intersection",
    "isalnum", "isalpha", "isdigit", "islower", "isspace", "isupper", "items", "join", "keys", "ljust", "lower",
    "lstrip", "pop", "removeprefix", "removesuffix", "replace", "reverse", "rfind", "rindex", "rjust", "rotate",
    "rsplit", "rstrip", "setdefault", "sort", "split", "splitlines", "startswith", "strip", "swapcase", "title",
    "union", "update", "upper", "values", "zfill",
})  # fmt: skip
_PLAIN = (
    ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp,
    ast.Subscript, ast.Slice, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.Starred,
    ast.Lambda, ast.arguments, ast.arg, ast.keyword, ast.JoinedStr, ast.FormattedValue, ast.expr_context, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def plain_call(text: str) -> types.CodeType | None:
    """The compiled call of `parse_call` where the text is brackets and simple literals; None sends it there.

    To build and walk the tree costs a short run more than to compile its input. Without names, comments, escapes
    and triple quotes the brackets pair for Python as they do here, so none of them closes the call's own.
    """
    brackets = _SIMPLE.sub("", text)
    while brackets:
        inner = brackets.replace("()", "").replace("[]", "").replace("{}", "")
        if inner == brackets:
            return None
        brackets = inner
    try:
        return compile(f"{CAPTURE}(\n{text}\n)", "input", "eval", dont_inherit=True)
    except Exception:
        return None


def parse_call(text: str) -> ast.Call:
    """The call whose argument list the text is; the function is CAPTURE. Unfit if the text is anything more."""
    tree = parse(f"{CAPTURE}(\n{text}\n)", "eval")
    call = tree.body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == CAPTURE):
        raise Unfit("not an argument list", text[:100])
    names = [n.id for n in ast.walk(call) if isinstance(n, ast.Name)]
    if names.count(CAPTURE) != 1 or (call.func.lineno, call.func.col_offset) != (1, 0):
        raise Unfit("not an argument list", text[:100])
    for node in ast.walk(call):
        if isinstance(node, _STATEFUL):
            raise Unfit("not an argument list", type(node).__name__)
    return call


def parse_value(text: str) -> ast.Expression:
    """A single expression, as an answer to a deduction task."""
    tree = parse(text.strip(), "eval")
    assert isinstance(tree, ast.Expression)
    return tree


def same_text(a: ast.Call, b: str) -> bool:
    """Whether the two argument lists are the same but for layout."""
    try:
        return ast.dump(a) == ast.dump(parse_call(b))
    except Unfit:
        return False


def is_written_out(text: str, call: ast.Call, form: str) -> bool:
    """Whether the argument list `text` holds nothing but values (written.py)."""
    named = all(keyword.arg is not None for keyword in call.keywords)
    return named and are_written_out(text, [*call.args, *(keyword.value for keyword in call.keywords)], form)


def inert_space(names: dict[str, Any]) -> dict[str, Any]:
    """The only globals an inert answer is evaluated with, whatever names it binds elsewhere in its text."""
    builtins = {name: getattr(sys.modules["builtins"], name) for name in _BUILTINS}
    return {name: names[name] for name in _TYPES} | {"__builtins__": builtins}


def capturing(space: dict[str, Any]) -> dict[str, Any]:
    """The globals with CAPTURE among them, anew for each evaluation: it gives the arguments as they come."""

    def capture(*positional: Any, **named: Any) -> Given:
        return positional, named

    return {**space, CAPTURE: capture}


def is_inert(call: ast.Call) -> bool:
    """Whether evaluating the arguments can do nothing but build them."""
    bound = {n.id for n in ast.walk(call) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.arg for n in ast.walk(call) if isinstance(n, ast.arg)}
    known = _BUILTINS | _TYPES | bound
    return all(_inert(child, known) for part in (call.args, call.keywords) for child in part)


def _inert(node: ast.AST, known: frozenset[str] | set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            callee = node.func.attr in _METHODS and _inert(node.func.value, known)
        else:
            callee = _inert(node.func, known)
        return callee and all(_inert(child, known) for part in (node.args, node.keywords) for child in part)
    return isinstance(node, _PLAIN) and all(_inert(child, known) for child in ast.iter_child_nodes(node))
