"""The types of a task's inputs and outputs, read off their text: how many kinds of values a proposer thinks of."""

from __future__ import annotations

import ast

from azr_jax.tasks.programs import arguments

LONGEST = 2_000  # characters looked at
OTHER = "other"  # calls, names, arithmetic: whose type only running would tell
CONTAINERS = {ast.List: "list", ast.Tuple: "tuple", ast.Set: "set"}


def type_of(text: str) -> str:
    """`[1, 'a'], {}` -> `list[int|str], dict`: one argument after the other, with what containers hold."""
    call = arguments(text) if len(text) <= LONGEST else None
    if call is None:
        return OTHER
    each = [_name(argument) for argument in call.args]
    return ", ".join([*each, *(f"{keyword.arg or '**'}={_name(keyword.value)}" for keyword in call.keywords)])


def _name(node: ast.expr, *, inside: bool = True) -> str:
    if isinstance(node, ast.Constant):
        return type(node.value).__name__
    if isinstance(node, ast.UnaryOp):
        return _name(node.operand, inside=inside)
    if isinstance(node, ast.Dict):
        return "dict" + (_held([*(key for key in node.keys if key), *node.values]) if inside else "")
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return CONTAINERS[type(node)] + (_held(node.elts) if inside else "")
    return OTHER


def _held(nodes: list[ast.expr]) -> str:
    names = sorted({_name(node, inside=False) for node in nodes})
    return f"[{'|'.join(names)}]" if names else ""
