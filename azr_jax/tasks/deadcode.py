"""Takes out of a tree what is never reached, and assignments of a parameter to itself: for sameness.py.

Never reached is what stands behind a return, raise, continue or break, and what a constant test leaves out. It stays
where its being there matters: a `yield` makes a generator of its function, and a name bound in it a local one.
"""

# pyright: reportMatchNotExhaustive=false
# (of the nodes that a tree has, most are of no interest)

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_TELLING = (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.NamedExpr)
_APART = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BODIES = ("body", "orelse", "finalbody")
_TRIES = 8  # of a block, to leave out what stands behind an end: each looks at all of the rest


def drop_dead(tree: ast.Module) -> None:
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS))]:
        _Scope(scope).prune(scope)
    _Choices().visit(tree)


class _Scope:
    """The module, or one function without those inside of it."""

    def __init__(self, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._parameters, self._bound = set[str](), Counter[str]()
        self._named: Counter[str] | None = None  # None: of a module, whose names are looked up when they are read
        if isinstance(node, _FUNCTIONS):
            a = node.args
            given = (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg)))
            self._named = Counter(_names(node.body))
            self._bound = _bound(node.body)  # how often, in what is left
            fickle = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Del)}
            self._parameters = {one.arg for one in given} - fickle

    def prune(self, node: ast.AST) -> None:
        for field in _BODIES:
            body: list[ast.stmt] | ast.expr | None = getattr(node, field, None)  # of a lambda an expression
            if isinstance(body, list):
                setattr(node, field, self._pruned(body))
        for handler in getattr(node, "handlers", ()):
            self.prune(handler)
        for case in getattr(node, "cases", ()):
            self.prune(case)

    def _pruned(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        kept: list[ast.stmt] = []
        tries = 0
        for place, statement in enumerate(body):
            if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):  # a class has rules of its own
                self.prune(statement)
            kept += self._taken(statement)
            if kept and _ends(kept[-1]) and tries < _TRIES:
                tries += 1
                if self._can_go(body[place + 1 :]):
                    break
        return kept

    def _taken(self, statement: ast.stmt) -> list[ast.stmt]:
        """What is left of a statement."""
        match statement:
            case ast.If(test=ast.Constant(value=value), body=body, orelse=orelse):
                live, dead = (body, orelse) if value else (orelse, body)
                return live if self._can_go(dead) else [statement]
            case ast.While(test=ast.Constant(value=value), body=body, orelse=orelse) if not value:
                return orelse if self._can_go(body) else [statement]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=same)) if name == same:
                return [] if name in self._parameters else [statement]
        return [statement]

    def _can_go(self, dead: Sequence[ast.stmt]) -> bool:
        nodes = [node for statement in dead for node in ast.walk(statement)]
        if any(isinstance(node, _TELLING) for node in nodes):
            return False
        if self._named is None:
            return True
        inside = Counter(_names(dead))
        bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        if any(isinstance(n, (*_FUNCTIONS, ast.ClassDef, ast.alias, ast.ExceptHandler, ast.pattern)) for n in nodes):
            return False
        own = _bound(dead)
        if any(
            name not in self._parameters and self._named[name] > inside[name] and self._bound[name] <= own[name]
            for name in bound
        ):
            return False  # without it the others would mean a name of the module
        self._bound -= own
        return True


def _ends(statement: ast.stmt) -> bool:
    """Whether nothing behind it is reached."""
    if isinstance(statement, ast.If):
        return bool(statement.body and statement.orelse) and _ends(statement.body[-1]) and _ends(statement.orelse[-1])
    return isinstance(statement, _ENDS)


class _Choices(ast.NodeTransformer):
    """`a if True else b`"""

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.test, ast.Constant):
            return node
        live, dead = (node.body, node.orelse) if node.test.value else (node.orelse, node.body)
        return node if any(isinstance(one, _TELLING) for one in ast.walk(dead)) else live


def _names(body: Sequence[ast.stmt]) -> list[str]:
    return [node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)]


def _bound(body: Sequence[ast.stmt]) -> Counter[str]:
    """How often each name is given a value here, and not inside of functions, classes and comprehensions."""
    found, waiting = Counter[str](), list[ast.AST](body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef, *_APART)):
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        waiting.extend(ast.iter_child_nodes(node))
    return found
