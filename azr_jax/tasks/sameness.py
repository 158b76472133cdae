"""When two programs, and two tasks, are the same: a normal form of the tree that leaves out what changes nothing.

Same are programs that differ only in
    layout: comments, docstrings and other statements that are a bare value, `pass`, spacing, quotes, brackets, the base
        a number is written in
    names: those of variables, parameters, functions, classes, imports and caught exceptions, renamed one for one
    annotations of parameters, results and variables
    what is never used: imports, functions and classes that nothing on the way from `f` names, a name that is given a
        plain value (a constant, or a list or tuple of them) and never read
    what is never reached, or gives a parameter to itself (deadcode.py)

Constants are told apart, but where `tasks.copies` says not to: then of each is left whether it is a number or a text.

Two tasks are the same where their programs are, their inputs, in any order, by name or by place, defaults spelt out or
not, and their outputs; the message of an induction task may say anything. A program that reads names by their text
(`eval`) keeps all of them. Left out on purpose, and so not seen: another order of statements, names of methods and
attributes, another constant, `x + 0`, a parameter that is never read. Such a program is near to its origin and not
equal to it, which is what history.py measures.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from azr_jax.tasks.deadcode import drop_dead
from azr_jax.tasks.programs import DEFINITIONS, arguments, dump, parse
from azr_jax.tasks.types import Task, Triplet

ENTRY = "f"
BY_TEXT = {"eval", "exec", "globals", "locals", "vars"}  # a program that reads these may use any name
BODIES = ("body", "orelse", "finalbody")


COPIES = ("exact", "constants", "skeletons")


def task_mark(task: Task, copies: str = "exact") -> bytes:
    """16 bytes that agree for tasks that are the same, and for no others.

    With `copies` "constants" also for two programs of one input that differ in constants alone, with "skeletons"
    whatever their inputs are. The program of an induction task is not its proposer's, and is told apart all the same.
    """
    if isinstance(task, Triplet) and copies != "exact":
        given = [input_form(task.input, task.program)] if copies == "constants" else []
        return _hash([normal_form(task.program, skeleton=True), *given])
    if isinstance(task, Triplet):
        return _hash([normal_form(task.program), input_form(task.input, task.program), task.value])
    pairs = sorted(zip((input_form(given, task.program) for given in task.inputs), task.values, strict=True))
    return _hash([normal_form(task.program), *(part for pair in pairs for part in pair)])


def program_mark(program: str) -> bytes:
    return _hash([normal_form(program)])


def normal_form(program: str, entry: str = ENTRY, *, skeleton: bool = False) -> str:
    """The same text for programs that are the same; what is no program is its own form.

    `entry` keeps its name. Without one any function may be the one that is called: none counts as unused. A `skeleton`
    is the same whatever the numbers and texts in it are.
    """
    tree = parse(program)
    if tree is None:
        return program.strip()
    try:
        _drop_decoration(tree)
        if not any(_reads(node) & BY_TEXT for node in ast.walk(tree)):
            drop_dead(tree)
            if entry:
                _drop_unused(tree, entry)
            _rename(tree, entry)
        if skeleton:
            tree = _Skeleton().visit(tree)
    except RecursionError:
        return program.strip()
    return dump(tree) or program.strip()


def _drop_decoration(tree: ast.Module) -> None:
    """Bare values, `pass` and annotations. The fields of a dataclass are annotations too: those of classes stay."""
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        for field, body in _bodies(node):
            kept = (_without_annotation(node, s) for s in body if not _says_nothing(s))
            setattr(node, field, [statement for statement in kept if statement is not None])


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return _is_plain(statement.value)
    return isinstance(statement, ast.Pass)


def _without_annotation(parent: ast.AST, statement: ast.stmt) -> ast.stmt | None:
    if not isinstance(statement, ast.AnnAssign) or isinstance(parent, ast.ClassDef):
        return statement
    if statement.value is None:
        return None
    return ast.Assign([statement.target], statement.value, lineno=statement.lineno)


def _drop_unused(tree: ast.Module, entry: str) -> None:
    live, members = _live(tree, entry), _members(tree)
    for node in list(ast.walk(tree)):
        for field, body in _bodies(node):
            kept = [
                s if id(s) in members else _without_unused_imports(s, live)
                for s in body
                if id(s) in members or not _is_unused(s, live)
            ]
            setattr(node, field, [statement for statement in kept if statement is not None])


def _members(tree: ast.Module) -> set[int]:
    """What stands in a class, under an `if` or in a `try` of it too: reached as an attribute, under its own name."""
    found = set[int]()
    waiting: list[ast.AST] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while waiting:
        node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                found.add(id(child))
                if not isinstance(child, DEFINITIONS):
                    waiting.append(child)
    return found


def _live(tree: ast.Module, entry: str) -> set[str]:
    """The entry and all names read on the way from it: one that only unused functions read, or itself, is not."""
    live = {entry}
    members, unmet = _members(tree), dict[str, list[ast.AST]]()  # what a name stands for, until it is read
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, kept = waiting.pop()
        if not kept and _is_unused(node, live):
            for name in _defined(node):
                unmet.setdefault(name, []).append(node)
            continue
        read = _reads(node)
        live |= read
        waiting.extend((one, True) for name in read for one in unmet.pop(name, ()))
        waiting.extend((child, id(child) in members) for child in ast.iter_child_nodes(node))
    return live


def _reads(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set(node.names) if isinstance(node, (ast.Global, ast.Nonlocal)) else set()


def _is_unused(node: ast.AST, live: set[str]) -> bool:
    defined = _defined(node)
    return bool(defined) and defined.isdisjoint(live)


def _defined(node: ast.AST) -> set[str]:
    """What a statement names that does nothing but give a name."""
    if isinstance(node, DEFINITIONS):
        return set() if node.decorator_list else {node.name}
    if isinstance(node, ast.Assign) and _is_plain(node.value):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names if len(names) == len(node.targets) else set()
    return set()


def _is_plain(value: ast.AST) -> bool:
    """A constant, a negative number, or a list or tuple of these: to make it does nothing else."""
    if isinstance(value, (ast.List, ast.Tuple)):
        return all(map(_is_plain, value.elts))
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        return isinstance(value.operand, ast.Constant) and isinstance(value.operand.value, (int, float, complex))
    return isinstance(value, ast.Constant)


def _without_unused_imports(statement: ast.stmt, read: set[str]) -> ast.stmt | None:
    if not isinstance(statement, (ast.Import, ast.ImportFrom)) or getattr(statement, "module", "") == "__future__":
        return statement
    statement.names = [alias for alias in statement.names if _bound_by(alias) in read or alias.name == "*"]
    return statement if statement.names else None


def _bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _rename(tree: ast.Module, entry: str) -> None:
    """Every name that the program itself binds becomes a number, in the order in which they are met."""
    methods = _members(tree)
    bound = _bound(tree, methods) - _seen_by_name(tree, methods) - {entry}
    numbers: dict[str, str] = {}

    def number(name: str) -> str:
        return numbers.setdefault(name, f"v{len(numbers)}") if name in bound else name

    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in bound:
                for keyword in node.keywords:  # of a function of the program itself: its parameter
                    keyword.arg = keyword.arg and number(keyword.arg)
            case ast.arg():
                node.arg = number(node.arg)
            case ast.Name():
                node.id = number(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if id(node) not in methods:
                node.name = number(node.name)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
                node.name = node.name and number(node.name)
            case ast.MatchMapping():
                node.rest = node.rest and number(node.rest)
            case ast.Global() | ast.Nonlocal():
                node.names = [number(name) for name in node.names]
            case ast.alias() if node.name != "*":
                node.asname = number(_bound_by(node))


def _seen_by_name(tree: ast.Module, members: set[int]) -> set[str]:
    """Attributes that a class is given as names, and, where a function takes any keyword, all keywords."""
    inside = [node for node in ast.walk(tree) if id(node) in members and not isinstance(node, DEFINITIONS)]
    names = {
        n.id for node in inside for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    nodes = list(ast.walk(tree))
    if any(isinstance(node, ast.arguments) and node.kwarg for node in nodes):
        names |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    if any(isinstance(node, ast.Attribute) and node.attr in ("__name__", "__qualname__") for node in nodes):
        names |= {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    return names


def _bound(tree: ast.Module, methods: set[int]) -> set[str]:
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.arg():
                names.add(node.arg)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if id(node) not in methods:
                names.add(node.name)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                names.add(node.name)
            case ast.MatchMapping() if node.rest:
                names.add(node.rest)
            case ast.alias() if node.name != "*":
                names.add(_bound_by(node))
    return names


def _bodies(node: ast.AST) -> list[tuple[str, list[ast.stmt]]]:
    found = ((field, getattr(node, field, None)) for field in BODIES)
    return [(field, body) for field, body in found if isinstance(body, list)]


class _Skeleton(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        inside = self.visit(node.operand)
        signed = isinstance(node.op, ast.USub | ast.UAdd) and isinstance(inside, ast.Constant)
        return inside if signed else ast.UnaryOp(node.op, inside)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        kind = type(node.value)
        if kind in (int, float, complex):
            return ast.Constant("number")
        return ast.Constant("text") if kind in (str, bytes) else node


def input_form(text: str, program: str = "") -> str:
    """The same text for argument lists that differ in layout alone or give the `f` of this program the same values."""
    call = arguments(text)
    if call is None:
        return text.strip()
    values = _by_place(call, _parameters(program))
    if values is not None:
        call = ast.Call(call.func, values, [])
    return dump(call) or text.strip()


@lru_cache(maxsize=64)
def _parameters(program: str) -> ast.arguments | None:
    """Of the only `f` of a program, where every one has its place."""
    tree = parse(program)
    named = [s for s in tree.body if isinstance(s, DEFINITIONS) and s.name == ENTRY] if tree else []
    if len(named) != 1 or not isinstance(named[0], ast.FunctionDef) or named[0].decorator_list:
        return None
    a = named[0].args
    return None if a.posonlyargs or a.vararg or a.kwarg or a.kwonlyargs else a


def _by_place(call: ast.Call, parameters: ast.arguments | None) -> list[ast.expr] | None:
    """The values of all parameters, defaults among them; None where that cannot be said."""
    if parameters is None or any(isinstance(one, ast.Starred) for one in call.args):
        return None
    names = [one.arg for one in parameters.args]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    values = dict(zip(names, call.args))
    if len(call.args) > len(names) or given.keys() & values.keys() or not given.keys() <= set(names):
        return None
    defaults = dict(zip(names[len(names) - len(parameters.defaults) :], parameters.defaults))
    plain = {name: value for name, value in defaults.items() if _is_plain(value)}
    values = plain | values | {name: value for name, value in given.items() if name}
    return [values[name] for name in names] if values.keys() == set(names) else None


def _hash(parts: Sequence[str]) -> bytes:
    # Lengths first: no two lists of texts are one text.
    text = "\0".join([*(str(len(part)) for part in parts), *parts])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
