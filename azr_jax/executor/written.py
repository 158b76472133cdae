"""Whether an answer is written out or left to Python to compute, read off its tree and its text.

The value of a deduction task is to be worked out by whoever answers. `(lambda x: x * 10 + 3)(5)` and `5 * 10 + 3` leave
that to the judge: they are right whenever the program was copied right; so is an input that is searched for, as an
answer to an abduction task. Written out is what holds nothing but the value itself: a literal, each text in one piece,
each integer in base ten, each member of a set and each key once; and where a value has no literal of its own, its
constructor, given what the value is shown with: `Counter({'a': 2})`, `deque([1, 2], maxlen=3)`, `Fraction(1, 3)`,
`datetime.date(2020, 1, 31)`. A constructor that would count, sort, join, round, shorten, reduce or take apart what it
is given (`Counter('aab')`, `list({3, 1})`, `Fraction(6, 4)`, `complex(Fraction(1, 2), 1j)`) computes.

literals.py, which reads most answers without Python's parser, keeps to the same with `written=True`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Sequence

FORMS = ("literal", "operators", "any")  # what an answer may be; operators: also sums, powers, ... of what is written

_MODULES = frozenset({"collections", "fractions", "decimal", "datetime", "math"})
_FACTORIES = frozenset({"int", "float", "str", "bool", "list", "tuple", "dict", "set", "frozenset", "bytes"})
_NAMES = frozenset({"inf", "nan"})
_NO_NUMBERS = frozenset({"inf", "-inf", "+inf", "infinity", "-infinity", "nan", "-nan"})  # floats without a literal
_FORMATTED = re.compile(r"\b[rR]?[fF][rR]?[\"']")
# What a text of Python looks like to the reader of its tokens: texts, comments, and integers in another base.
_TEXT = re.compile(
    r"#[^\r\n]*|(?P<text>'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<base>\b0[xXbBoO])",
    re.DOTALL,
)


def without_comments(text: str) -> str:
    """An input as it is shown: what stands behind a # says nothing to Python, and may tell a solver what to find.

    Texts that hold expressions are left alone: where they end is more than this can tell.
    """
    if "#" not in text or _FORMATTED.search(text):
        return text.strip()
    return _TEXT.sub(lambda found: "" if found[0].startswith("#") else found[0], text).strip()


def is_written_out(text: str, tree: ast.Expression, form: str) -> bool:
    """`tree` is that of `text`."""
    return form == "any" or are_written_out(text, [tree.body], form)


def are_written_out(text: str, values: Iterable[ast.expr], form: str) -> bool:
    """The same for the arguments of a call."""
    values, operators = list(values), form == "operators"
    return (operators or _is_plainly_spelt(text, values)) and all(_written(one, operators) for one in values)


def _is_plainly_spelt(text: str, values: Sequence[ast.expr]) -> bool:
    """`'a' 'b'` joins, and `0x35` is reckoned in base sixteen; the tree shows neither."""
    texts = 0
    for found in _TEXT.finditer(text):
        if found["base"]:
            return False
        texts += found["text"] is not None
    nodes = [node for value in values for node in ast.walk(value)]
    return texts == sum(isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) for node in nodes)


def _written(node: ast.expr, operators: bool) -> bool:
    def written(nodes: Iterable[ast.expr]) -> bool:
        return all(_written(one, operators) for one in nodes)

    match node:
        case ast.Constant():
            return True
        case ast.Name() | ast.Attribute():
            return _name(node) in _NAMES or ast.unparse(node) == "datetime.timezone.utc"
        case ast.List() | ast.Tuple():
            return written(node.elts)
        case ast.Set():
            return written(node.elts) and (operators or _all_differ(node.elts))
        case ast.Dict(keys=keys):
            known = [key for key in keys if key is not None]
            return len(known) == len(keys) and written([*known, *node.values]) and (operators or _all_differ(known))
        case ast.UnaryOp(op=op, operand=operand):
            return _is_real(node) or (operators and written([operand])) or (_is_sign(op) and _is_imaginary(operand))
        case ast.BinOp(left=left, right=right):
            return _is_complex(node) or (operators and written([left, right]))
        case ast.Call():
            parts = _parts(node)
            return parts is not None and written(parts)
        case _:
            return False


# ---------------------------------------------------------------------------------------------- numbers
def _is_sign(op: ast.unaryop) -> bool:
    return isinstance(op, ast.USub | ast.UAdd)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _is_imaginary(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is complex


def _is_real(node: ast.expr) -> bool:
    """A number with a sign or without one; infinity and no number, which have no literal, as they are written."""
    if isinstance(node, ast.UnaryOp) and _is_sign(node.op):
        node = node.operand
    if isinstance(node, ast.Call):
        return _name(node.func) == "float" and _parts(node) is not None
    return _is_number(node) or _name(node) in _NAMES


def _is_complex(node: ast.BinOp) -> bool:
    """`-1.5+2j`"""
    return isinstance(node.op, ast.Add | ast.Sub) and _is_real(node.left) and _is_imaginary(node.right)


def _integer(node: ast.expr) -> int | None:
    sign = -1 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1
    inside = node.operand if isinstance(node, ast.UnaryOp) and _is_sign(node.op) else node
    return sign * inside.value if isinstance(inside, ast.Constant) and type(inside.value) is int else None


# ---------------------------------------------------------------------------------------------- constructors
def _name(node: ast.expr) -> str:
    """`x`, and `module.x` of a module known here; else nothing."""
    if isinstance(node, ast.Attribute):
        known = isinstance(node.value, ast.Name) and node.value.id in _MODULES
        return node.attr if known else ""
    return node.id if isinstance(node, ast.Name) else ""


Given = Sequence[ast.expr]  # without a name
Named = dict[str, ast.expr]
Parts = list[ast.expr] | None  # what has to be written out in turn; None: what is called does more than to hold it


def _parts(call: ast.Call) -> Parts:
    """Of a call that makes a value of just these parts."""
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    rule = _CONSTRUCTORS.get(_name(call.func))
    if rule is None or len(named) < len(call.keywords) or any(isinstance(one, ast.Starred) for one in call.args):
        return None
    return rule(call.args, named)


def _float(given: Given, named: Named) -> Parts:
    """The two that have no literal: `float('nan')`."""
    if len(given) != 1 or named or not isinstance(given[0], ast.Constant):
        return None
    text = given[0].value
    return [] if isinstance(text, str) and text.lower() in _NO_NUMBERS else None


def _complex(given: Given, named: Named) -> Parts:
    both = [*given, *named.values()]
    return [] if len(both) == 2 and named.keys() <= {"real", "imag"} and all(map(_is_real, both)) else None


def _fraction(given: Given, named: Named) -> Parts:
    """In lowest terms: another is reduced."""
    numbers = [_integer(one) for one in given]
    if named or not 1 <= len(numbers) <= 2 or None in numbers:
        return None
    over, under = (*numbers, 1)[:2]
    return [] if over is not None and under and under > 0 and math.gcd(over, under) == 1 else None


def _decimal(given: Given, named: Named) -> Parts:
    """Of a text: a float is spread out to all its digits."""
    one = given[0] if len(given) == 1 and not named else None
    return [] if isinstance(one, ast.Constant) and isinstance(one.value, str) else None


def _integers(given: Given, named: Named) -> Parts:
    return [] if not named and given and all(_integer(one) is not None for one in given) else None


def _moment(given: Given, named: Named) -> Parts:
    """A date or a time: integers, and a zone."""
    zone = named.get("tzinfo")
    numbers = [*given, *(one for name, one in named.items() if name != "tzinfo")]
    return None if any(_integer(one) is None for one in numbers) else [zone] if zone is not None else []


def _delta(given: Given, named: Named) -> Parts:
    """As it is shown: days, seconds of a day and millionths of a second, so that nothing is carried over."""
    values = dict(zip(("days", "seconds", "microseconds"), given)) | named
    numbers = {name: _integer(one) for name, one in values.items()}
    seconds, millionths = numbers.get("seconds", 0), numbers.get("microseconds", 0)
    known = numbers.keys() <= {"days", "seconds", "microseconds"} and None not in numbers.values() and len(given) <= 3
    if not known or seconds is None or millionths is None:
        return None
    return [] if 0 <= seconds < 86_400 and 0 <= millionths < 1_000_000 else None


def _zone(given: Given, named: Named) -> Parts:
    return list(given) if len(given) == 1 and not named and isinstance(given[0], ast.Call) else None


def _members(given: Given, named: Named) -> Parts:
    """Of a list or tuple, in its order: `list({3, 1})` would sort."""
    if not given and not named:
        return []
    held = given[0] if len(given) == 1 and not named else None
    return [held] if isinstance(held, ast.List | ast.Tuple) else None


def _bytes(given: Given, named: Named) -> Parts:
    held = given[0] if len(given) == 1 and not named else None
    return [] if isinstance(held, ast.Constant) and isinstance(held.value, bytes) else None


def _set(given: Given, named: Named) -> Parts:
    """Of members that differ: an empty one has no literal."""
    if not given and not named:
        return []
    held = given[0] if len(given) == 1 and not named else None
    if not isinstance(held, ast.List | ast.Tuple | ast.Set):
        return None
    return [held] if _all_differ(held.elts) else None


def _deque(given: Given, named: Named) -> Parts:
    """One that is full drops what is over."""
    held, most = (*given, None)[0], named.get("maxlen", given[1] if len(given) == 2 else None)
    if len(given) + len(named) > 2 or not named.keys() <= {"maxlen"}:
        return None
    if not (held is None or isinstance(held, ast.List | ast.Tuple)):
        return None
    if most is not None and not (isinstance(most, ast.Constant) and most.value is None):
        room = _integer(most)
        if room is None or room < (len(held.elts) if held else 0):
            return None
    return [held] if held else []


def _mapping(given: Given, named: Named) -> Parts:
    """By names, or of one dict or list of pairs, whose keys differ; never of both, which would merge."""
    if not given or named:
        return None if given else list(named.values())
    held = given[0] if len(given) == 1 else None
    if isinstance(held, ast.Dict):
        return [held] if _all_differ([key for key in held.keys if key is not None]) else None
    if not isinstance(held, ast.List | ast.Tuple):
        return None
    pairs = [one.elts for one in held.elts if isinstance(one, ast.List | ast.Tuple) and len(one.elts) == 2]
    return [held] if len(pairs) == len(held.elts) and _all_differ([key for key, _ in pairs]) else None


def _counter(given: Given, named: Named) -> Parts:
    """Of counts that stand there: whatever else it is given it counts."""
    return _mapping(given, named) if not given or isinstance(given[0], ast.Dict) else None


def _defaultdict(given: Given, named: Named) -> Parts:
    if given and not (_name(given[0]) in _FACTORIES or (isinstance(given[0], ast.Constant) and given[0].value is None)):
        return None
    return _mapping(given[1:], named) if len(given) <= 2 else None


_CONSTRUCTORS: dict[str, Callable[[Given, Named], Parts]] = {
    "float": _float, "complex": _complex, "Fraction": _fraction, "Decimal": _decimal, "range": _integers,
    "date": _moment, "time": _moment, "datetime": _moment, "timedelta": _delta, "timezone": _zone,
    "list": _members, "tuple": _members, "set": _set, "frozenset": _set, "deque": _deque, "bytearray": _bytes,
    "dict": _mapping, "OrderedDict": _mapping, "Counter": _counter, "defaultdict": _defaultdict,
}  # fmt: skip


def _all_differ(nodes: Sequence[ast.expr]) -> bool:
    """Whether none would be dropped for being equal to another, as far as literals go; `1`, `1.0` and `True` are."""
    seen = set[object]()
    for node in nodes:
        try:
            value: object = ast.literal_eval(node)
            hash(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = ast.dump(node)
        if value in seen:
            return False
        seen.add(value)
    return True
