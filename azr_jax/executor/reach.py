"""What a program can reach beside its arguments, read off its text: chance (clocks, addresses, hash seeds) and memory.

A short list says what is known to reach neither; whatever names anything else is run more often (chance), or has each
of its calls judged in a child of its own (memory). Errors to that side cost a few runs. This is no wall: a list of what
to look at twice.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable
from typing import NamedTuple

_KNOWN = frozenset({
    "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "complex", "dict", "divmod",
    "enumerate", "filter", "float", "format", "hex", "int", "isinstance", "issubclass", "iter", "len", "list", "map",
    "max", "min", "next", "oct", "ord", "pow", "print", "range", "repr", "reversed", "round", "slice", "sorted", "str",
    "sum", "tuple", "type", "zip", "super", "property", "staticmethod", "classmethod", "__name__",
    "True", "False", "None", "Ellipsis", "NotImplemented",
})  # fmt: skip
_OBJECTS = {name for name in _KNOWN if callable(getattr(builtins, name, None))} | {"Ellipsis", "NotImplemented"}
_LATE = frozenset({"MemoryError", "RecursionError"})  # whether they are raised depends on where the program runs
_ERRORS = frozenset(n for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException))
# Every other builtin reads names that the text does not show, the file system, addresses, or the hash seed.
_STRANGE = frozenset(dir(builtins)) - _KNOWN - (_ERRORS - _LATE)
_MODULES = frozenset({
    "math", "cmath", "collections", "collections.abc", "itertools", "functools", "operator", "heapq", "bisect", "re",
    "string", "copy", "fractions", "textwrap", "typing", "numbers", "json", "statistics", "abc", "enum", "dataclasses",
    "__future__",
})  # fmt: skip
# In these: what takes the name of an attribute as a text, what runs a text, and what keeps something for later.
_DENIED = frozenset({
    "attrgetter", "methodcaller", "get_type_hints", "ForwardRef", "Formatter", "Template", "make_dataclass",
    "update_wrapper", "wraps", "singledispatch", "singledispatchmethod", "cached_property", "register",
    "dispatch_table", "decoder", "encoder", "scanner", "bltns", "overload", "get_overloads", "clear_overloads",
    "get_cache_token", "all_feature_names", "unicode_whitespace_trans", "*",
})  # fmt: skip
_OTHER_MODULES = sys.stdlib_module_names - _MODULES  # reached as attributes: `statistics.random`
_CONSTANTS = frozenset({
    "pi", "e", "inf", "nan", "tau", "ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation",
    "whitespace", "hexdigits", "octdigits", "printable",
})  # fmt: skip
_HARMLESS = frozenset({"__name__", "__class__"})  # among attributes with an underscore
_TO_TEXT = frozenset({"str", "repr", "ascii", "format"})
_ITERATORS = frozenset({"map", "filter", "zip", "enumerate", "reversed", "iter"})
_SEEDED = frozenset({"set", "frozenset", "hash", "id", "__hash__"})  # whoever may have bound these names
_PLACES = _SEEDED - {"set", "frozenset"}
_CATCHES_ALL = frozenset({"Exception", "BaseException", "RuntimeError"})  # of the last is RecursionError
_SWALLOWS = frozenset({"__del__", "__exit__", "__aexit__"})  # methods in which, or by which, an exception gets lost
# These write on the class, the function or the module that they are given or told of: a call finds what another left.
_WRITERS = frozenset({
    "ABC", "ABCMeta", "abstractclassmethod", "abstractmethod", "abstractproperty", "abstractstaticmethod",
    "update_abstractmethods", "dataclass", "dataclass_transform", "Enum", "EnumMeta", "EnumType", "Flag", "IntEnum",
    "IntFlag", "ReprEnum", "StrEnum", "global_enum", "unique", "verify", "final", "no_type_check",
    "no_type_check_decorator", "override", "runtime_checkable", "total_ordering", "Protocol",
})  # fmt: skip
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)
_NOT_NUMBERS = frozenset({"nan", "inf", "float"})  # a NaN's hash is where it lies


class Sight(NamedTuple):
    """What a program, with its inputs, may see that differs from run to run."""

    chance: bool  # anything of that kind
    address: bool  # where an object lies in memory, of which no number of hash seeds tells much
    anything: bool = False  # it names something that is not on the short list, and may do what Python can


def sight(trees: Iterable[ast.AST]) -> Sight:
    """Sets go by addresses where they hold objects, functions, classes or None."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    if any(map(_is_strange, nodes)) or _swallows(nodes) or _makes_classes(nodes):
        return Sight(chance=True, address=True, anything=True)
    seeded = any(map(_is_by_seed, nodes)) or _makes_sets_of_views(nodes)
    text, objects = _makes_text(nodes), _has_addresses(nodes)
    nothing = any(isinstance(node, ast.Constant) and node.value is None for node in nodes)
    called = _called(nodes)
    builtin = any(isinstance(node, ast.Name) and node.id in _OBJECTS and id(node) not in called for node in nodes)
    nan = any(_named(node) in _NOT_NUMBERS or _is_infinite(node) for node in nodes)
    hashed = seeded and (objects or nothing or builtin or nan)  # of these a hash is an address
    address = any(_named(node) in _PLACES for node in nodes) or (text and objects) or hashed
    return Sight(chance=seeded or (text and objects), address=address)


def _called(nodes: list[ast.AST]) -> set[int]:
    """What is called as it stands, and so gets no other name: ids of nodes."""
    return {id(node.func) for node in nodes if isinstance(node, ast.Call)}


def _named(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def remembers(tree: ast.AST) -> bool:
    """Whether a later call of a program may know of an earlier one."""
    assert isinstance(tree, ast.Module)
    if not all(map(_is_forgetful, tree.body)):
        return True
    nodes = list(ast.walk(tree))
    return _makes_classes(nodes) or any(
        _is_strange(node)
        or _is_writer(node)
        or isinstance(node, ast.Global | ast.ClassDef)
        or (isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load))
        for node in nodes
    )


def _is_strange(node: ast.AST) -> bool:
    """Names something that is not on the short list."""
    if isinstance(node, ast.Name):
        return node.id in _STRANGE or (node.id.startswith("__") and node.id not in _KNOWN)
    if isinstance(node, ast.Attribute):
        name = node.attr
        # In capitals: a module's tables, which can be written to.
        return (name.startswith("_") and name not in _HARMLESS) or name in _OTHER_MODULES | _DENIED or name.isupper()
    if isinstance(node, ast.Import):
        return any(alias.name not in _MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        strange = names & (_DENIED | _OTHER_MODULES) or any(name.startswith("_") or name.isupper() for name in names)
        return node.module not in _MODULES or bool(strange)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "type":
            return len(node.args) != 1 or bool(node.keywords)
        return _formats_attributes(node.func)
    if isinstance(node, ast.MatchClass):  # takes attributes by names that may not stand there
        return bool(node.kwd_attrs) or not (isinstance(node.cls, ast.Name) and node.cls.id in _KNOWN)
    if isinstance(node, ast.ExceptHandler):  # how much memory there is, how deep it may go
        return node.type is None or any(_named(one) in _CATCHES_ALL for one in ast.walk(node.type))
    return False


def _is_writer(node: ast.AST) -> bool:
    names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else {_named(node)}
    return not names.isdisjoint(_WRITERS)


def _makes_classes(nodes: list[ast.AST]) -> bool:
    """`type` under another name, with which a class can be made of what the text does not show."""
    called = _called(nodes)
    return any(isinstance(node, ast.Name) and node.id == "type" and id(node) not in called for node in nodes)


def _swallows(nodes: list[ast.AST]) -> bool:
    """Goes on after an exception that it does not name: so it may know how deep it can go, how much memory there is."""
    plain = {id(one) for n in nodes for one in _named_plainly(n)}
    for node in nodes:
        if isinstance(node, ast.With | ast.AsyncWith | ast.TryStar):
            return True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _SWALLOWS:
            return True
        if isinstance(node, ast.Try) and node.finalbody:
            inside = [one for statement in (*node.body, *node.finalbody) for one in ast.walk(statement)]
            if any(isinstance(one, ast.Yield | ast.YieldFrom | ast.Await) for one in inside):
                return True
            last = [one for statement in node.finalbody for one in ast.walk(statement)]
            if any(isinstance(one, ast.Return | ast.Break | ast.Continue) for one in last):
                return True
        if isinstance(node, ast.Name) and node.id in _CATCHES_ALL and id(node) not in plain:
            return True
    return False


def _named_plainly(node: ast.AST) -> Iterable[ast.AST]:
    """An exception that is raised or made here, or that a class is derived from; not one that gets another name."""
    if isinstance(node, ast.Raise):
        return [one for one in (node.exc, node.cause) if one is not None]
    if isinstance(node, ast.ClassDef):
        return node.bases
    return [node.func] if isinstance(node, ast.Call) else []


def _formats_attributes(called: ast.expr) -> bool:
    """`"{0.name}".format`, or `.format` of a text that is not at hand."""
    if not (isinstance(called, ast.Attribute) and called.attr in ("format", "format_map")):
        return False
    text = called.value.value if isinstance(called.value, ast.Constant) else None
    return not isinstance(text, str) or any("." in part or "[" in part for part in _fields(text))


def _fields(text: str) -> list[str]:
    """What stands between braces, before the colon of a format."""
    return [part.partition("}")[0].partition(":")[0] for part in text.split("{")[1:]]


def _is_by_seed(node: ast.AST) -> bool:
    """Depends on the order of a set, or on a hash."""
    return (
        isinstance(node, ast.Set | ast.SetComp)
        or _named(node) in _SEEDED
        or (isinstance(node, ast.BinOp) and (_is_view(node.left) or _is_view(node.right)))
    )


def _makes_sets_of_views(nodes: list[ast.AST]) -> bool:
    """Keys or items of a dict that got another name, and something that would make a set of them."""
    if not any(isinstance(node, ast.Attribute) and node.attr in ("keys", "items") for node in nodes):
        return False
    iterated = {id(n.iter) for n in nodes if isinstance(n, ast.For | ast.comprehension)}
    iterated |= {id(one) for n in nodes if isinstance(n, ast.Call) for one in n.args}
    views = any(_is_view(node) and id(node) not in iterated for node in nodes)
    called = _called(nodes)
    views = views or any(_named(node) in ("keys", "items") and id(node) not in called for node in nodes)
    operators = any(isinstance(n, ast.BinOp | ast.AugAssign) and isinstance(n.op, _SET_OPERATORS) for n in nodes)
    return (views and operators) or "operator" in {
        alias.name if isinstance(n, ast.Import) else n.module
        for n in nodes
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }


def _is_infinite(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float | complex) and node.value - node.value != 0


def _is_view(node: ast.AST) -> bool:
    """`d.keys()` or `d.items()`, whose `&`, `|`, `-` and `^` make sets."""
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("keys", "items")


def _makes_text(nodes: list[ast.AST]) -> bool:
    """Turns values into text, by which an address can be seen."""
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str | bytes)]
    with_percent = any("%" in text if isinstance(text, str) else b"%" in text for text in texts)
    named = {n.id for n in nodes if isinstance(n, ast.Name)}
    percent = any(isinstance(n, ast.BinOp | ast.AugAssign) and isinstance(n.op, ast.Mod) for n in nodes)
    return (
        bool(named & _TO_TEXT)
        or any(isinstance(n, ast.JoinedStr) for n in nodes)
        or any(isinstance(n, ast.Attribute) and n.attr in ("format", "format_map", "dumps") for n in nodes)
        or (percent and (with_percent or "chr" in named or "bytes" in named))
    )


def _has_addresses(nodes: list[ast.AST]) -> bool:
    """Holds objects whose text is their address: functions, iterators, objects of classes of its own."""
    called = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    owners = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for n in nodes
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
        if alias.name not in _CONSTANTS
    }
    for n in nodes:
        if isinstance(
            n, ast.ClassDef | ast.Lambda | ast.GeneratorExp | ast.Yield | ast.YieldFrom | ast.AsyncFunctionDef
        ):
            return True
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            if n.id in _ITERATORS or (n.id in functions and id(n) not in called):
                return True
            if n.id in imported and id(n) not in called and id(n) not in owners:
                return True
        if isinstance(n, ast.Attribute) and id(n) not in called and n.attr not in _CONSTANTS | _HARMLESS:
            return True
        if isinstance(n, ast.Import | ast.ImportFrom) and not _gives_plain_values(n):
            return True
        if isinstance(n, ast.Attribute) and n.attr in ("finditer", "scanner"):
            return True
    return False


_PLAIN_MODULES = frozenset({"math", "cmath", "re", "string", "heapq", "bisect", "collections", "typing", "fractions"})


def _gives_plain_values(node: ast.Import | ast.ImportFrom) -> bool:
    """Its functions return values, and no objects whose text is an address."""
    if isinstance(node, ast.ImportFrom):
        return node.module in _PLAIN_MODULES and not any(alias.name in ("finditer", "merge") for alias in node.names)
    return all(alias.name in _PLAIN_MODULES for alias in node.names)


def _is_forgetful(statement: ast.stmt) -> bool:
    """A statement of a module that leaves nothing behind that a call could change."""
    if isinstance(statement, ast.FunctionDef):
        defaults = [d for d in (*statement.args.defaults, *statement.args.kw_defaults) if d is not None]
        return not statement.decorator_list and all(map(_is_fixed, defaults))
    if isinstance(statement, ast.Assign):
        return all(isinstance(t, ast.Name) for t in statement.targets) and _is_fixed(statement.value)
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)


def _is_fixed(node: ast.expr) -> bool:
    """Built of constants that nobody can change."""
    if isinstance(node, ast.Tuple):
        return all(map(_is_fixed, node.elts))
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and _is_fixed(node.operand))
