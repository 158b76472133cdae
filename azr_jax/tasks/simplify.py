"""Other ways to say the same program, brought to one: for sameness.py.

A lambda with a name is a function; names of constants are the constants; `f` that is another name of a function, or
calls one with just what it was given, is that function; functions stand in the order in which they are met from `f` on.
For a task, parameters of `f` that are never read, or have a constant for a default and got no other value, are none.
"""

# pyright: reportMatchNotExhaustive=false
# (of the nodes that a tree has, most are of no interest)

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping

from azr_jax.tasks.deadstores import Instead, drop_unread
from azr_jax.tasks.purity import Purity, is_idle


def simplify(tree: ast.Module, entry: str, purity: Purity, fixed: Mapping[str, ast.Constant] | None) -> frozenset[str]:
    """Of a task, `fixed` are the parameters of its `f` that have this value; answers which of them are gone."""
    _lambdas(tree)
    _constants(tree)
    wanted = _only(tree, entry)
    names = [one.arg for one in wanted.args.args] if wanted is not None else []
    if wanted is not None and fixed and not _reads(tree)[entry]:
        _at_default(wanted, fixed)
    left = [one.arg for one in wanted.args.args] if wanted is not None else []
    drop_unread(tree, purity)
    _unwrap(tree, entry)
    if fixed is not None and (function := _only(tree, entry)) is not None and not _reads(tree)[entry]:
        places = _without_unread(function) if len(left) == len(function.args.args) else set[int]()
        left = [name for place, name in enumerate(left) if place not in places]
    return frozenset(names) - frozenset(left)


def defines(tree: ast.Module, entry: str) -> bool:
    return bool(_stores(tree)[entry])


def _reads(tree: ast.AST) -> Counter[str]:
    return Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _stores(tree: ast.AST) -> Counter[str]:
    """How often a name is given a meaning, in whatever way."""
    found = Counter[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name() if not isinstance(node.ctx, ast.Load):
                found[node.id] += 1
            case ast.arg():
                found[node.arg] += 1
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] += 1
            case ast.alias():
                found[node.asname or node.name.partition(".")[0]] += 1
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                found[node.name] += 1
            case ast.MatchMapping() if node.rest:
                found[node.rest] += 1
            case ast.Global() | ast.Nonlocal():
                found.update(node.names)
    return found


def _only(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """The function of the module with this name, where nothing else has it and it takes plain parameters."""
    found = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
    if len(found) != 1 or found[0].decorator_list or _stores(tree)[name] != 1:
        return None
    a = found[0].args
    return None if a.posonlyargs or a.vararg or a.kwarg or a.kwonlyargs else found[0]


def _lambdas(tree: ast.Module) -> None:
    if any(isinstance(node, ast.Attribute) and node.attr == "__name__" for node in ast.walk(tree)):
        return
    stores = _stores(tree)
    for place, node in enumerate(tree.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda(args=arguments, body=value)):
                if stores[name] == 1:
                    (function,) = ast.parse("def name(): pass").body
                    assert isinstance(function, ast.FunctionDef)
                    function.name, function.args, function.body = name, arguments, [ast.Return(value)]
                    tree.body[place] = function


def _constants(tree: ast.Module) -> None:
    """Of the module, and never anything else."""
    stores, values = _stores(tree), dict[str, ast.expr]()
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() as value) if stores[name] == 1:
                values[name] = value
    if values:
        Instead(values).visit(tree)


def _at_default(function: ast.FunctionDef, fixed: Mapping[str, ast.Constant]) -> None:
    stores = _stores(ast.Module(function.body, []))
    values: dict[str, ast.expr] = {name: value for name, value in fixed.items() if not stores[name]}
    a = function.args
    while a.defaults and a.args[-1].arg in values:  # from the last on, or another would take its place
        a.args.pop()
        a.defaults.pop()
    gone = values.keys() - {one.arg for one in a.args}
    function.body = [Instead({name: values[name] for name in gone}).visit(one) for one in function.body]


def _unwrap(tree: ast.Module, entry: str) -> None:
    for place, node in enumerate(tree.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=called)) if name == entry:
                parameters = None
            case ast.FunctionDef(
                name=name, args=arguments, body=[ast.Return(value=ast.Call(func=ast.Name(id=called)) as call)]
            ) if name == entry and not call.keywords:
                parameters = [one.arg for one in arguments.args]
                if [one.id if isinstance(one, ast.Name) else "" for one in call.args] != parameters:
                    continue
                if _only(tree, entry) is not node or arguments.defaults:
                    continue
            case _:
                continue
        function, reads = _only(tree, called), _reads(tree)
        if function is None or reads[entry] or _stores(tree)[entry] != 1:
            return
        fits = parameters is None or (len(function.args.args) == len(parameters) and not function.args.defaults)
        if fits and reads[called] == _reads(function)[called] + 1:
            del tree.body[place]
            function.name = entry
            Instead({called: ast.Name(entry, ast.Load())}).visit(function)
        return


def put_in_order(tree: ast.Module, entry: str, purity: Purity) -> None:
    """Functions as they are met; where all else that the module does is to import and to give names."""
    functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef) and purity.only_defines(one)}
    others = [one for one in tree.body if one not in functions.values()]
    stores = _stores(tree)
    plain = all(
        isinstance(one, ast.Import | ast.ImportFrom) or (isinstance(one, ast.Assign) and is_idle(one.value))
        for one in others
    )
    if not plain or any(stores[name] != 1 for name in functions):
        return
    met, waiting = dict[str, ast.FunctionDef](), [entry]
    while waiting:
        name = waiting.pop()
        if name in functions and name not in met:
            met[name] = functions[name]
            waiting += [n.id for n in ast.walk(functions[name]) if isinstance(n, ast.Name)][::-1]
    rest = [one for name, one in functions.items() if name not in met]
    tree.body = [*others, *met.values(), *rest]


def _without_unread(function: ast.FunctionDef) -> set[int]:
    """Takes away the parameters that are never read; answers which places they had."""
    read = {node.id for one in function.body for node in ast.walk(one) if isinstance(node, ast.Name)}
    a = function.args
    gone = {place for place, one in enumerate(a.args) if one.arg not in read}
    first = len(a.args) - len(a.defaults)
    a.defaults = [one for place, one in enumerate(a.defaults, start=first) if place not in gone]
    a.args = [one for place, one in enumerate(a.args) if place not in gone]
    return gone
