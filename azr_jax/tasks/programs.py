"""Program text as a syntax tree, and the rewrites of the paper's ablations.

Nothing here runs a program. Text that does not parse is handed back unchanged where a rewrite is asked for: whether it
is a program at all is for the executor to say. Formatting is not kept by a rewrite, because ast.unparse writes its own.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What the parser raises on hostile text, besides SyntaxError: null bytes, deep nesting, huge expressions.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, SystemError)
# What writing a tree down raises: one too deep, an f-string for which there are no quotes left, no memory.
UNWRITABLE = (ValueError, RecursionError, MemoryError, SystemError)
LONGEST = 40_000  # characters of a text that is looked at as a program; the executor runs no longer one
MOST_INT_BITS = 14_000  # of an integer in it: 4,300 decimal digits, what Python writes down
_LONG_WORD = re.compile(r"\b\w{3000}")  # shorter words are no larger number, in whatever base


def parse(program: str) -> ast.Module | None:
    """The tree, or None for text that is no program, and for one that nobody could write down again."""
    if len(program) > LONGEST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a string, `x is 1`: the author's business, not our console's
        try:
            tree = ast.parse(program)
        except UNPARSABLE:
            return None
    return None if _LONG_WORD.search(program) and any(map(_is_huge, ast.walk(tree))) else tree


def _is_huge(node: ast.AST) -> bool:
    """An integer that Python reads, in base 16 for one, and refuses to write in base 10."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value.bit_length() > MOST_INT_BITS


def arguments(text: str) -> ast.Call | None:
    """The call f(text) as a tree, or None where text is no argument list."""
    tree = parse(f"f({text}\n)")
    if tree is None or len(tree.body) != 1:
        return None
    statement = tree.body[0]
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return None
    call = statement.value
    # "1)(2" would parse too, as a call of a call: that is not an argument list.
    return call if isinstance(call.func, ast.Name) and call.func.id == "f" else None


def dump(tree: ast.AST) -> str | None:
    """The tree as text; None where it is too deep for that."""
    try:
        return ast.dump(tree)
    except UNWRITABLE:
        return None


def without_comments(program: str) -> str:
    """The same program without comments and docstrings."""
    tree = parse(program)
    if tree is None or not ("#" in program or _has_docstrings(tree)):  # there is nothing to lose: not even its form
        return program
    return _unparse(_drop_docstrings(tree), program)


def without_globals(program: str) -> str:
    """The same program without top-level statements other than imports, functions and classes."""
    tree = parse(program)
    if tree is None:
        return program
    kept = (*DEFINITIONS, ast.Import, ast.ImportFrom)
    body: list[ast.stmt] = [node for node in tree.body if isinstance(node, kept)]
    if not body or len(body) == len(tree.body):
        return program
    tree.body = body
    return _unparse(tree, program)


def join_parts(program: str, parts: Sequence[str]) -> str:
    """One program: the parts (rename_part), then the program whose `f` calls them."""
    return "\n\n".join([*parts, program])


def calls_parts(program: str, count: int) -> bool:
    """Whether the program uses each of g1 ... g<count>, and defines none of them anew."""
    if not count:
        return True
    tree = parse(program)
    if tree is None:
        return False
    wanted = {f"g{number}" for number in range(1, count + 1)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return wanted <= used and not any(wanted & _defined(node) for node in ast.walk(tree))


def rename_part(program: str, number: int) -> str:
    """The program with `f` called g<number> and its other top-level names ending in _<number>.

    Raises ValueError where that cannot be done safely.
    """
    tree = parse(program)
    if tree is None:
        raise ValueError(f"part {number} is not a program")
    own = _top_level_names(tree)
    if "f" not in own:
        raise ValueError(f"part {number} does not define f")
    names = {name: f"g{number}" if name == "f" else f"{name}_{number}" for name in own}
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and node.name in names:
            node.name = names[node.name]
        elif isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]
        elif isinstance(node, ast.Global):
            node.names = [names.get(name, name) for name in node.names]
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg in names:
            # A parameter of the same name would have to be renamed in every call: rare, so refused.
            raise ValueError(f"part {number} uses the top-level name {node.arg} as a parameter too")
    try:
        return ast.unparse(tree)
    except UNWRITABLE as error:
        raise ValueError(f"part {number} cannot be written down: {type(error).__name__}") from None


def _defined(node: ast.AST) -> set[str]:
    """The names this node gives a new meaning to."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, ast.arg):
        return {node.arg}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        return {node.name}
    return {node.rest} if isinstance(node, ast.MatchMapping) and node.rest else set()


def _top_level_names(tree: ast.Module) -> set[str]:
    names = set[str]()
    for node in tree.body:
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif not isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names


def _has_docstring(node: ast.AST) -> bool:
    return isinstance(node, (ast.Module, *DEFINITIONS)) and ast.get_docstring(node, clean=False) is not None


def _has_docstrings(tree: ast.Module) -> bool:
    return any(map(_has_docstring, ast.walk(tree)))


def _drop_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *DEFINITIONS)) and _has_docstring(node):
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return tree


def _unparse(tree: ast.Module, otherwise: str) -> str:
    try:
        return ast.unparse(tree)
    except UNWRITABLE:
        return otherwise
