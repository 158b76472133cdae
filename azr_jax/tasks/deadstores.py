"""Takes out of each function what is worked out and never used, and names that stand for a value once: for sameness.py.

Backwards through each block goes what is read later; a quiet value (purity.py) given to a name that is not goes, and
with it branches and loops that have nothing left in them. `y = x * 10` before `return y + 3` is put where it is read,
and a second name of a parameter is the parameter. Names that functions inside of it see, or that are another scope's,
stay. Left out on purpose: what stands in `try`, `with` and `match`, and values that are used and change nothing.
"""

# pyright: reportMatchNotExhaustive=false
# (of the nodes that a tree has, most are of no interest)

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from azr_jax.tasks.programs import DEFINITIONS
from azr_jax.tasks.purity import Function, Purity

_ROUNDS = 3
_LARGEST = 200  # nodes of what is returned; a value of a value and so on would be gone through again for each of them
_SCOPES = (*DEFINITIONS, ast.Lambda)
_AGAIN = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)  # what stands there may be run again


def drop_unread(tree: ast.Module, purity: Purity) -> None:
    for node in [node for node in ast.walk(tree) if isinstance(node, Function)]:
        _Function(node, purity).prune()


class _Function:
    def __init__(self, node: Function, purity: Purity) -> None:
        self._node, self._purity = node, purity
        inside = [one for statement in node.body for one in ast.walk(statement)]
        scopes = [one for one in inside if isinstance(one, _SCOPES)]
        seen = {name for one in scopes for name in _names(one)} | {getattr(one, "name", "") for one in scopes}
        self._pinned = frozenset(
            seen | {n for i in inside if isinstance(i, ast.Global | ast.Nonlocal) for n in i.names}
        )
        self._reads, self._stores = Counter[str](), Counter[str]()
        values: dict[str, list[ast.expr]] = {}
        for one in inside:
            if isinstance(one, ast.Name):
                (self._reads if isinstance(one.ctx, ast.Load) else self._stores)[one.id] += 1
            if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.targets[0], ast.Name):
                values.setdefault(one.targets[0].id, []).append(one.value)
            if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name):
                self._stores[one.target.id] -= 1  # it reads as well: no value of its own
        self._parameters = frozenset(_parameters(node))
        # Given constants alone: `+=` makes a new value of it, and changes none that another name has too.
        self._unshared = {
            name for name, given in values.items()
            if len(given) == self._stores[name] and all(isinstance(one, ast.Constant) for one in given)
        } - self._parameters  # fmt: skip
        self._known = self._parameters - {name for name, count in self._stores.items() if count}
        self._loops: list[frozenset[str]] = []

    def prune(self) -> None:
        for _ in range(_ROUNDS):  # what one leaves out another may show to be unused; more are not worth their time
            if self._purity.fails_in_silence:
                self._use_parameters()
            self._node.body, _ = self._block(self._node.body, frozenset())

    # --- what is read later
    def _block(self, body: Sequence[ast.stmt], live: frozenset[str]) -> tuple[list[ast.stmt], frozenset[str]]:
        """What is left, and the names read in it or behind it."""
        kept: list[ast.stmt] = []
        for statement in reversed(body):
            statement, live = self._statement(statement, live)
            if statement is not None:
                kept.insert(0, statement)
                while len(kept) > 1 and (joined := self._joined(*kept[:2])) is not None:
                    kept[:2] = [joined]
                    live = _read(joined)
        return kept, live

    def _statement(self, node: ast.stmt, live: frozenset[str]) -> tuple[ast.stmt | None, frozenset[str]]:
        match node:
            case ast.Assign(targets=targets, value=value) if all(isinstance(one, ast.Name) for one in targets):
                names = _names(ast.List(targets))
                if self._can_go(names, live) and self._quiet(value):
                    self._forget(node)
                    return None, live
                return node, live - names | _read(value)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                # Where nothing but itself reads it, no round of a loop does.
                later = live if self._reads[name] else live - {name}
                free = name in self._unshared and self._purity.fails_in_silence  # it may have no value yet
                if free and self._can_go({name}, later) and self._quiet(value):
                    self._forget(node)
                    return None, live
                return node, live | {name} | _read(value)
            case ast.Expr(value=value) if self._quiet(value):
                self._forget(node)
                return None, live
            case ast.If():
                return self._branch(node, live)
            case ast.For() | ast.While():
                return self._loop(node, live)
            case ast.Return() | ast.Raise():
                return node, _read(node)
            case ast.Break() | ast.Continue():
                return node, self._loops[-1] if self._loops else live
        return node, live | _read(node)

    def _branch(self, node: ast.If, live: frozenset[str]) -> tuple[ast.stmt | None, frozenset[str]]:
        node.body, taken = self._block(node.body, live)
        node.orelse, left = self._block(node.orelse, live)
        if not node.body and not node.orelse and self._quiet(node.test):
            self._forget(node.test)
            return None, live
        node.body = node.body or [ast.Pass()]
        return node, taken | left | _read(node.test)

    def _loop(self, node: ast.For | ast.While, live: frozenset[str]) -> tuple[ast.stmt | None, frozenset[str]]:
        """Whatever it reads may be read again in its next round."""
        inner = live | _read(node)
        self._loops.append(inner)
        node.body, _ = self._block(node.body, inner)
        self._loops.pop()
        match node:
            case ast.For(target=ast.Name(id=name), body=[], orelse=[]) if self._can_go({name}, live):
                if self._quiet(node.iter):
                    self._forget(node)
                    return None, live
        node.body = node.body or [ast.Pass()]
        return node, live | _read(node)

    def _quiet(self, value: ast.AST) -> bool:
        return self._purity.is_quiet(value, self._known)

    def _can_go(self, names: frozenset[str] | set[str], live: frozenset[str]) -> bool:
        """Not read later; and not the one that makes a name local which is read elsewhere."""
        alone = (self._reads[name] and self._stores[name] < 2 and name not in self._parameters for name in names)
        return names.isdisjoint(live | self._pinned) and not any(alone)

    def _forget(self, node: ast.AST) -> None:
        for one in ast.walk(node):
            if isinstance(one, ast.Name):
                (self._reads if isinstance(one.ctx, ast.Load) else self._stores)[one.id] -= 1

    # --- names that stand for a value
    def _joined(self, first: ast.stmt, then: ast.stmt) -> ast.stmt | None:
        """`y = x * 10` and `return y + 3` as one."""
        match first, then:
            case ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Return(value=ast.expr() as result):
                nodes = list(itertools.islice(ast.walk(result), _LARGEST + 1))
                if len(nodes) > _LARGEST:
                    return None
                again = any(isinstance(one, _AGAIN) for one in nodes)
                plain = isinstance(result, ast.Name) or (self._quiet(value) and self._quiet(result) and not again)
                other = self._reads[name] > 1 and self._stores[name] < 2
                if plain and not other and name not in self._pinned and _count(result, name) == 1:
                    self._reads[name] -= 1
                    self._stores[name] -= 1
                    return ast.Return(Instead({name: value}).visit(result))
        return None

    def _use_parameters(self) -> None:
        """`y = x`, where neither ever means anything else."""
        same = {
            one.targets[0].id: one.value
            for one in self._node.body
            if isinstance(one, ast.Assign) and len(one.targets) == 1 and isinstance(one.targets[0], ast.Name)
            and isinstance(one.value, ast.Name) and one.value.id in self._known - self._pinned
            and self._stores[one.targets[0].id] == 1 and one.targets[0].id not in self._pinned | self._parameters
        }  # fmt: skip
        changed = set[str]().union(*map(_changed, ast.walk(self._node)))
        same = {name: value for name, value in same.items() if name not in changed}
        if same:
            for name, value in same.items():
                self._reads[value.id] += self._reads.pop(name, 0)
            self._node.body = [Instead(same).visit(one) for one in self._node.body]


class Instead(ast.NodeTransformer):
    """Expressions in place of names that are read."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _changed(node: ast.AST) -> set[str]:
    """By `+=` and the like."""
    return {node.target.id} if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) else set()


def _names(node: ast.AST) -> frozenset[str]:
    return frozenset(one.id for one in ast.walk(node) if isinstance(one, ast.Name))


def _read(node: ast.AST) -> frozenset[str]:
    """Names that it may read, `del` and `+=` among that."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Store)}
    return frozenset(found.union(*map(_changed, ast.walk(node))))


def _count(node: ast.AST, name: str) -> int:
    return sum(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def _parameters(node: Function) -> list[str]:
    a = node.args
    given = (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg)
    return [one.arg for one in given if one is not None]
