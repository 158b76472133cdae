"""Whether an answer is written out or left to Python to compute, read off its tree.

The value of a deduction task is to be worked out by whoever answers. `(lambda x: x * 10 + 3)(5)` and `5 * 10 + 3` leave
that to the judge: they are right whenever the program was copied right. A literal is written out; so is a value that
has no literal of its own and is made by its constructor, from parts that are written out: `Counter({'a': 2})`,
`deque([1, 2], maxlen=3)`, `Fraction(1, 3)`, `datetime.date(2020, 1, 31)`. A constructor that would count, sort or take
apart what it is given (`Counter('aab')`, `list('abc')`, `set(range(9))`) computes.
"""

from __future__ import annotations

import ast

FORMS = ("literal", "operators", "any")  # what an answer may be; operators: also sums, powers, ... of what is written

# From numbers and texts, which none of them looks through.
_OF_SCALARS = frozenset({
    "float", "complex", "range", "Fraction", "Decimal", "date", "time", "datetime", "timedelta", "timezone",
})  # fmt: skip
# From a list, tuple or set that stands there; a mapping from a dict that stands there, or by names.
_OF_MEMBERS = frozenset({"set", "frozenset", "list", "tuple", "deque"})
_OF_PAIRS = frozenset({"dict", "OrderedDict", "defaultdict"})
_OF_COUNTS = frozenset({"Counter"})
_MODULES = frozenset({"collections", "fractions", "decimal", "datetime", "math"})
_FACTORIES = frozenset({"int", "float", "str", "bool", "list", "tuple", "dict", "set", "frozenset", "bytes"})
_NAMES = frozenset({"inf", "nan"})


def is_written_out(tree: ast.Expression, form: str) -> bool:
    return form == "any" or _written(tree.body, operators=form == "operators")


def _written(node: ast.expr, *, operators: bool) -> bool:
    def written(*nodes: ast.expr) -> bool:
        return all(_written(one, operators=operators) for one in nodes)

    match node:
        case ast.Constant():
            return True
        case ast.Name() | ast.Attribute():
            return _name(node) in _NAMES or ast.unparse(node) == "datetime.timezone.utc"
        case ast.List() | ast.Tuple() | ast.Set():
            return written(*node.elts)
        case ast.Dict():
            return None not in node.keys and written(*filter(None, node.keys), *node.values)
        case ast.UnaryOp(op=op, operand=operand):
            signed = isinstance(op, ast.USub | ast.UAdd) and not isinstance(operand, ast.UnaryOp)
            return (operators or signed) and written(operand)
        case ast.BinOp(left=left, right=right):
            return (operators or _is_complex(node)) and written(left, right)
        case ast.Call():
            return _made(node) and written(*_parts(node))
    return False


def _is_complex(node: ast.BinOp) -> bool:
    """`-1.5+2j`"""
    real = node.left.operand if isinstance(node.left, ast.UnaryOp) else node.left
    return (
        isinstance(node.op, ast.Add | ast.Sub)
        and isinstance(real, ast.Constant)
        and isinstance(real.value, int | float)
        and isinstance(node.right, ast.Constant)
        and isinstance(node.right.value, complex)
    )


def _name(node: ast.expr) -> str:
    """`x`, and `module.x` of a module known here; else nothing."""
    if isinstance(node, ast.Attribute):
        known = isinstance(node.value, ast.Name) and node.value.id in _MODULES
        return node.attr if known else ""
    return node.id if isinstance(node, ast.Name) else ""


def _made(call: ast.Call) -> bool:
    """Whether what is called makes a value of parts like these, and does nothing else."""
    name, given = _name(call.func), [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(keyword.arg is None for keyword in call.keywords):
        return False
    if name in _OF_SCALARS:
        return not any(isinstance(one, ast.List | ast.Tuple | ast.Set | ast.Dict) for one in given)
    first = call.args[0] if call.args else None
    if name in _OF_MEMBERS:
        return first is None or isinstance(first, ast.List | ast.Tuple | ast.Set)
    if name == "defaultdict":
        if first is not None and not _is_factory(first):
            return False
        first = call.args[1] if len(call.args) > 1 else None
    if name in _OF_PAIRS:
        return first is None or isinstance(first, ast.Dict | ast.List | ast.Tuple)
    return name in _OF_COUNTS and (first is None or isinstance(first, ast.Dict))


def _is_factory(node: ast.expr) -> bool:
    return _name(node) in _FACTORIES or (isinstance(node, ast.Constant) and node.value is None)


def _parts(call: ast.Call) -> list[ast.expr]:
    """What has to be written out in turn: all but the factory of a defaultdict."""
    positional = call.args[1:] if _name(call.func) == "defaultdict" else call.args
    return [*positional, *(keyword.value for keyword in call.keywords)]
