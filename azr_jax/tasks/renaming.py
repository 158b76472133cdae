"""Gives every name that a program itself binds a number, in the order in which they are met: for sameness.py.

A name that is looked up by its text stays: attributes of classes, keywords of what is not the program's own, of what
may be one of its methods, or of whatever a dict is spread over.
"""

# pyright: reportMatchNotExhaustive=false
# (of the nodes that a tree has, most are of no interest)

from __future__ import annotations

import ast

from azr_jax.tasks.programs import DEFINITIONS


def members_of(tree: ast.Module) -> set[int]:
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


def bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def rename(tree: ast.Module, kept: set[str]) -> None:
    methods = members_of(tree)
    bound = _bound(tree, methods) - _seen_by_name(tree, methods) - kept
    own = _callees(tree, methods)
    numbers: dict[str, str] = {}

    def number(name: str) -> str:
        return numbers.setdefault(name, f"v{len(numbers)}") if name in bound else name

    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in own:
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
                node.asname = number(bound_by(node))


def _seen_by_name(tree: ast.Module, members: set[int]) -> set[str]:
    """Attributes that a class is given as names, and keywords that may reach what is not seen to be called."""
    inside = [node for node in ast.walk(tree) if id(node) in members and not isinstance(node, DEFINITIONS)]
    names = {
        n.id for node in inside for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    nodes = list(ast.walk(tree))
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    methods = {node.name for node in nodes if id(node) in members and isinstance(node, DEFINITIONS)} | {"partial"}
    if any(isinstance(node, ast.arguments) and node.kwarg for node in nodes):
        names |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        if any(keyword.arg is None for keyword in call.keywords):  # names in a dict
            names |= parameters
        elif _may_be_own(call.func, methods, parameters):
            names |= {keyword.arg for keyword in call.keywords if keyword.arg}
    if any(isinstance(node, ast.Attribute) and node.attr in ("__name__", "__qualname__") for node in nodes):
        names |= {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    return names


def _may_be_own(called: ast.expr, methods: set[str], parameters: set[str]) -> bool:
    """Whether a call may reach a method, or a function of the program by another name: `cls(x=1)`, `table[k](x=1)`."""
    if isinstance(called, ast.Name):
        return called.id in parameters
    return getattr(called, "attr", "partial") in methods


def _callees(tree: ast.Module, members: set[int]) -> set[str]:
    """Functions and classes of the program, and names of its lambdas: their keywords are parameters of its own."""
    found = {n.name for n in ast.walk(tree) if isinstance(n, DEFINITIONS) and id(n) not in members}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


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
                names.add(bound_by(node))
    return names
