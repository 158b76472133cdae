"""When two programs, and two tasks, are the same: a normal form of the tree that leaves out what changes nothing.

Same are programs that differ only in
    layout: comments, docstrings and other statements that are a bare value, `pass`, `assert True`, spacing, quotes,
        brackets, the base a number is written in
    names: those of variables, parameters, functions, classes, imports and caught exceptions, renamed one for one
    annotations of parameters, results and variables
    what is never used: imports, functions, classes and values that nothing on the way from `f` names, what is worked
        out in a function and not read later, a branch or loop with nothing in it (purity.py, deadstores.py)
    what is never reached, or gives a parameter to itself (deadcode.py)
    other ways to say it: `f` as a lambda, as another name of a function or a call of one, a second name for a parameter
        or for a constant, a name for what is returned at once (simplify.py)

Constants are told apart, but where `tasks.copies` says not to: then of each is left whether it is a number or a text.

Two tasks are the same where their programs are, their inputs, in any order and spelling (input_forms.py), and their
outputs; the message of an induction task may say anything, and parameters that are never read may be given anything. A
program that reads names by their text (`eval`) keeps all of them, and one that looks at itself (`f.__doc__`) all that
it says. Left out on purpose, and so not seen: another order of statements or operands, names of methods and
attributes, another constant, `x + 0`, code that is run and changes nothing, another algorithm. Such a program is near
to its origin and not equal to it, which is what history.py measures.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence

from azr_jax.tasks.deadcode import drop_dead
from azr_jax.tasks.input_forms import ENTRY, at_default, input_form, names_in
from azr_jax.tasks.programs import DEFINITIONS, dump, parse
from azr_jax.tasks.purity import Purity, is_idle
from azr_jax.tasks.renaming import bound_by, members_of, rename
from azr_jax.tasks.simplify import defines, put_in_order, simplify
from azr_jax.tasks.types import Task, Triplet

BY_TEXT = {"eval", "exec", "globals", "locals", "vars", "dir"}  # a program that reads these may use any name
# And these see what is otherwise left out: texts, annotations, names, what there is beside what is called.
LOOKS_INSIDE = {
    "__doc__", "__annotations__", "__globals__", "__dict__", "__code__", "__defaults__", "__kwdefaults__",
    "__subclasses__", "__closure__", "__mro__", "__qualname__", "signature", "getsource", "getdoc", "get_type_hints",
    "modules", "_getframe",
}  # fmt: skip
BODIES = ("body", "orelse", "finalbody")


COPIES = ("exact", "constants", "skeletons")


def task_mark(task: Task, copies: str = "exact", *, failing: bool = False) -> bytes:
    """16 bytes that agree for tasks that are the same, and for no others.

    With `copies` "constants" also for two programs of one input that differ in constants alone, with "skeletons"
    whatever their inputs are. The program of an induction task is not its proposer's, and is told apart all the same.
    `failing`: it matters whether the program fails.
    """
    if isinstance(task, Triplet):
        form, idle = _looked_at(task.program, ENTRY, skeleton=copies != "exact", failing=failing, inputs=[task.input])
        if copies == "skeletons":
            return _hash([form])
        return _hash([form, input_form(task.input, task.program, idle), *([task.value] if copies == "exact" else [])])
    pairs = sorted(zip((input_form(given, task.program) for given in task.inputs), task.values, strict=True))
    form, _ = _looked_at(task.program, ENTRY, skeleton=False, inputs=task.inputs)
    return _hash([form, *(part for pair in pairs for part in pair)])


def program_mark(program: str) -> bytes:
    return _hash([normal_form(program)])


def normal_form(program: str, entry: str = ENTRY, *, skeleton: bool = False) -> str:
    """The same text for programs that are the same; what is no program is its own form.

    `entry` keeps its name. Without one any function may be the one that is called: none counts as unused. A `skeleton`
    is the same whatever the numbers and texts in it are.
    """
    return _looked_at(program, entry, skeleton=skeleton)[0]


def _looked_at(
    program: str, entry: str, *, skeleton: bool, failing: bool = False, inputs: Sequence[str] = ()
) -> tuple[str, frozenset[str]]:
    """The form and, for a task of one input, the parameters of its `f` that do not matter and are not in it.

    Classes and functions that its inputs name are used.
    """
    tree = parse(program)
    if tree is None:
        return program.strip(), frozenset()
    idle = frozenset[str]()
    try:
        named = {_named(node) for node in ast.walk(tree)}
        if not named & LOOKS_INSIDE:
            _drop_decoration(tree)
        if not named & (LOOKS_INSIDE | BY_TEXT):
            drop_dead(tree)
            live = {entry, *names_in(inputs)}
            if entry and defines(tree, entry):
                _drop_unused(tree, live, Purity(tree, failing=failing))  # what is unused hides what is quiet
                purity = Purity(tree, failing=failing)
                idle = simplify(tree, entry, purity, at_default(inputs[0], program) if len(inputs) == 1 else None)
                _drop_unused(tree, live, purity)
                put_in_order(tree, entry, purity)
            rename(tree, live)
        if skeleton:
            tree = _Skeleton().visit(tree)
    except RecursionError:
        return program.strip(), frozenset()
    return dump(tree) or program.strip(), idle


def _named(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


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
        return is_idle(statement.value)
    if isinstance(statement, ast.Assert):
        return isinstance(statement.test, ast.Constant) and bool(statement.test.value)
    return isinstance(statement, ast.Pass)


def _without_annotation(parent: ast.AST, statement: ast.stmt) -> ast.stmt | None:
    if not isinstance(statement, ast.AnnAssign) or isinstance(parent, ast.ClassDef):
        return statement
    if statement.value is None:
        return None
    return ast.Assign([statement.target], statement.value, lineno=statement.lineno)


def _drop_unused(tree: ast.Module, named: set[str], purity: Purity) -> None:
    members = members_of(tree)
    live = _live(tree, named, members, purity)
    for node in list(ast.walk(tree)):
        for field, body in _bodies(node):
            kept = [
                s if id(s) in members else _without_unused_imports(s, live)
                for s in body
                if id(s) in members or not _is_unused(s, live, purity)
            ]
            setattr(node, field, [statement for statement in kept if statement is not None])


def _live(tree: ast.Module, named: set[str], members: set[int], purity: Purity) -> set[str]:
    """These and all names read on the way from them: one that only unused functions read, or itself, is not."""
    live = set(named)
    unmet = dict[str, list[ast.AST]]()  # what a name stands for, until it is read
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, kept = waiting.pop()
        if not kept and _is_unused(node, live, purity):
            for name in _defined(node, purity):
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


def _is_unused(node: ast.AST, live: set[str], purity: Purity) -> bool:
    defined = _defined(node, purity)
    return bool(defined) and defined.isdisjoint(live)


def _defined(node: ast.AST, purity: Purity) -> set[str]:
    """What a statement names that does nothing but give a name."""
    if isinstance(node, DEFINITIONS):
        return {node.name} if purity.only_defines(node) else set()
    if isinstance(node, ast.Assign) and purity.is_quiet(node.value):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names if len(names) == len(node.targets) else set()
    return set()


def _without_unused_imports(statement: ast.stmt, read: set[str]) -> ast.stmt | None:
    if not isinstance(statement, (ast.Import, ast.ImportFrom)) or getattr(statement, "module", "") == "__future__":
        return statement
    statement.names = [alias for alias in statement.names if bound_by(alias) in read or alias.name == "*"]
    return statement if statement.names else None


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


def _hash(parts: Sequence[str]) -> bytes:
    # Lengths first: no two lists of texts are one text.
    text = "\0".join([*(str(len(part)) for part in parts), *parts])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
