"""Programs that belong to an evaluation and must not be trained on: told by their text, or by what they compute.

Two programs are the same here when they differ only in comments, docstrings, layout, quotes and the names of variables,
parameters, functions, imports and caught exceptions. Left out on purpose: programs rewritten beyond that, which no
comparison finds for certain.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable

from azr_jax.tasks.programs import parse, without_comments


class Reserved:
    """`program in reserved`: whether it is one of them."""

    def __init__(self, programs: Iterable[str] = ()):
        self._marks = {mark for program in programs for mark in _marks(program)}

    def __contains__(self, program: str) -> bool:
        return bool(self._marks) and not self._marks.isdisjoint(_marks(program))

    def __len__(self) -> int:
        return len(self._marks)


def _marks(program: str) -> list[bytes]:
    forms = [program.strip()]
    tree = parse(without_comments(program))
    if tree is not None:
        forms.append(_renamed(tree))
    return [_hash(form) for form in forms if form]


def _renamed(tree: ast.Module) -> str:
    """The tree as text, every name that the program itself binds replaced by its number."""
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    bound |= {node.asname or node.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.alias)}
    numbers: dict[str, str] = {}

    def number(name: str) -> str:
        return numbers.setdefault(name, f"v{len(numbers)}") if name in bound else name

    for node in ast.walk(tree):
        match node:
            case ast.arg() | ast.keyword(arg=str()):
                node.arg = number(node.arg or "")
            case ast.Name():
                node.id = number(node.id)
            case ast.FunctionDef() | ast.ClassDef() | ast.ExceptHandler(name=str()):
                node.name = number(node.name or "")
            case ast.Global() | ast.Nonlocal():
                node.names = [number(name) for name in node.names]
            case ast.alias():
                node.asname = number(node.asname or node.name.partition(".")[0])
    try:
        return ast.dump(tree)
    except RecursionError:
        return ""


def _hash(form: str) -> bytes:
    return hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=16).digest()
