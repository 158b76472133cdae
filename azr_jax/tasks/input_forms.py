"""When two inputs are the same: what they give the parameters of `f`, however the call is written. For sameness.py.

`5`, `+5`, `5 + 0`, `*[5]`, `**{'x': 5}`, `x=5` and `5, 0` are one input to `def f(x, y=0)`. Told off the text, nothing
is run: what is reckoned in other ways (`len('abcde')`) stays as it is written. Induction, whose inputs are run before
they are compared, goes by their values (executor/pairs.py).
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache

from azr_jax.tasks.programs import DEFINITIONS, arguments, dump, parse
from azr_jax.tasks.purity import is_idle

ENTRY = "f"
_MOST_BITS = 64  # of a product that is worked out here
_LONGEST = 10_000  # bits of a number that is: Python prints none that is much longer


def input_form(text: str, program: str = "", without: frozenset[str] = frozenset()) -> str:
    """The same text for argument lists that differ in layout alone or give the `f` of this program the same values.

    `without`: parameters that do not matter.
    """
    call = _spelt(text)
    if call is None:
        return text.strip()
    values = _by_name(call, _parameters(program))
    if values is None:
        return dump(call) or text.strip()
    return dump(ast.Call(call.func, [value for name, value in values.items() if name not in without], [])) or ""


def names_in(texts: Sequence[str]) -> frozenset[str]:
    """What inputs name of the program, and of Python."""
    calls = [call for text in texts if (call := arguments(text)) is not None]
    return frozenset(node.id for call in calls for node in ast.walk(call) if isinstance(node, ast.Name))


def at_default(text: str, program: str) -> dict[str, ast.Constant]:
    """Parameters of `f` with a constant for a default that the input gives just this value, or nothing."""
    call, parameters = _spelt(text), _parameters(program)
    values = _by_name(call, parameters) if call is not None else None
    if values is None or parameters is None:
        return {}
    names = [one.arg for one in parameters.args][-len(parameters.defaults) :] if parameters.defaults else []
    found = dict[str, ast.Constant]()
    for name, default in zip(names, parameters.defaults):
        if isinstance(default, ast.Constant) and dump(values[name]) == dump(ast.Constant(default.value)):
            found[name] = ast.Constant(default.value)
    return found


def _spelt(text: str) -> ast.Call | None:
    """None of what is no argument list, or is nested too deep to be looked through."""
    call = arguments(text)
    try:
        return _Spelt().visit(call) if call is not None else None
    except RecursionError:
        return None


@lru_cache(maxsize=64)
def _parameters(program: str) -> ast.arguments | None:
    """Of the only `f` of a program, where every one has its place."""
    tree = parse(program)
    named = [s for s in tree.body if isinstance(s, DEFINITIONS) and s.name == ENTRY] if tree else []
    if len(named) != 1 or not isinstance(named[0], ast.FunctionDef) or named[0].decorator_list:
        return None
    a = named[0].args
    return None if a.posonlyargs or a.vararg or a.kwarg or a.kwonlyargs else a


def _by_name(call: ast.Call, parameters: ast.arguments | None) -> dict[str, ast.expr] | None:
    """The values of all parameters in their order, defaults among them."""
    if parameters is None or any(isinstance(one, ast.Starred) for one in call.args):
        return None
    names = [one.arg for one in parameters.args]
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    values = dict(zip(names, call.args))
    if len(call.args) > len(names) or named.keys() & values.keys() or not named.keys() <= set(names):
        return None
    defaults = dict(zip(names[len(names) - len(parameters.defaults) :], parameters.defaults))
    plain = {name: value for name, value in defaults.items() if is_idle(value)}
    values = plain | values | {name: value for name, value in named.items() if name}
    return {name: values[name] for name in names} if values.keys() == set(names) else None


class _Spelt(ast.NodeTransformer):
    """One spelling for a value: `u'a'`, `+5`, `5 + 0` and `*[5]` are 'a' and 5; so are the names of `**{'x': 5}`."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        value = _number(node.operand)
        if value is None or not isinstance(node.op, ast.UAdd | ast.USub):
            return node
        return _constant(value if isinstance(node.op, ast.UAdd) else -value)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = _number(node.left), _number(node.right)
        if type(left) is not int or type(right) is not int:
            return node
        results: dict[type[ast.operator], int] = {ast.Add: left + right, ast.Sub: left - right}
        if left.bit_length() + right.bit_length() < _MOST_BITS:
            results |= {ast.Mult: left * right}
            if right:
                results |= {ast.FloorDiv: left // right, ast.Mod: left % right}
        result = results.get(type(node.op))
        return node if result is None else _constant(result)

    def visit_List(self, node: ast.List) -> ast.AST:
        self.generic_visit(node)
        node.elts = _spread(node.elts)
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        node.elts = _spread(node.elts)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.args, keywords = _spread(node.args), list[ast.keyword]()
        for one in node.keywords:
            names = one.value.keys if one.arg is None and isinstance(one.value, ast.Dict) else [None]
            texts = [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]
            if isinstance(one.value, ast.Dict) and one.arg is None and len(texts) == len(names):
                keywords += map(ast.keyword, texts, one.value.values)
            else:
                keywords.append(one)
        node.keywords = keywords
        return node


def _spread(elements: list[ast.expr]) -> list[ast.expr]:
    found = list[ast.expr]()
    for one in elements:
        inside = one.value if isinstance(one, ast.Starred) else None
        found += inside.elts if isinstance(inside, ast.List | ast.Tuple) else [one]
    return found


def _number(node: ast.expr) -> int | float | complex | None:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inside = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    value = inside.value if isinstance(inside, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float | complex):
        return None
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return None
    return -value if negative else value


def _constant(value: int | float | complex) -> ast.expr:
    """As Python would read it."""
    written = ast.parse(repr(value), mode="eval").body if value == value and value not in (_INF, -_INF) else None
    return written if written is not None else ast.Constant(value)


_INF = float("inf")
