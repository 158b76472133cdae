"""What a statement or an expression does beside its value: for sameness.py, which leaves out what does nothing.

Idle is what can neither fail nor do anything; quiet is what does nothing where it does not fail. A task's program has
been run on its input and did not fail there, so that what is quiet and not used changes nothing about the task; but
not where the program catches what fails, or the failure is what is asked for. Classes of a program's own may do
anything when they are added, compared or read, and so may iterators when they are read from.
"""

# pyright: reportMatchNotExhaustive=false
# (of the nodes that a tree has, most are of no interest)

from __future__ import annotations

import ast

from azr_jax.tasks.programs import DEFINITIONS

Function = ast.FunctionDef | ast.AsyncFunctionDef
_CATCHING = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith)
_LAZY = frozenset({"iter", "map", "filter", "zip", "enumerate", "reversed", "open", "itertools", "next", "input"})
_LAZY_NODES = (ast.ClassDef, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFunctionDef)
_SILENT = (
    ast.Constant, ast.Name, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare,
    ast.IfExp, ast.Subscript, ast.Slice, ast.JoinedStr, ast.FormattedValue, ast.Starred, ast.ListComp, ast.SetComp,
    ast.DictComp, ast.comprehension, ast.Lambda, ast.arguments, ast.arg, ast.expr_context, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.keyword,
)  # fmt: skip
_FUNCTIONS = frozenset({
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "float", "frozenset",
    "hex", "int", "isinstance", "len", "list", "max", "min", "oct", "ord", "pow", "range", "repr", "round", "set",
    "sorted", "str", "sum", "tuple", "type",
})  # fmt: skip
_METHODS = frozenset({
    "capitalize", "casefold", "copy", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdigit",
    "islower", "isspace", "isupper", "items", "join", "keys", "lower", "lstrip", "replace", "rfind", "rstrip", "split",
    "startswith", "strip", "swapcase", "title", "upper", "values", "zfill",
})  # fmt: skip


class Purity:
    """Of one program. `failing`: it matters that it fails, as to the error kind."""

    def __init__(self, tree: ast.Module, *, failing: bool) -> None:
        nodes = list(ast.walk(tree))
        named = {getattr(node, "id", None) or getattr(node, "module", None) for node in nodes}
        named |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        self.fails_in_silence = not failing and not any(isinstance(node, _CATCHING) for node in nodes)
        self._opaque = bool(named & _LAZY) or any(isinstance(node, _LAZY_NODES) for node in nodes)
        self._own = {node.name for node in nodes if isinstance(node, DEFINITIONS)}
        self._own |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        self._own |= {node.arg for node in nodes if isinstance(node, ast.arg)}

    def is_quiet(self, node: ast.AST, known: frozenset[str] = frozenset()) -> bool:
        """Whether it does nothing but have a value; `known` are names that certainly have one."""
        if is_idle(node, known):
            return True
        return self.fails_in_silence and not self._opaque and self._silent(node)

    def _silent(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute):
                known = called.attr in _METHODS and self._silent(called.value)
            else:
                known = isinstance(called, ast.Name) and called.id in _FUNCTIONS - self._own
            return known and all(map(self._silent, [*node.args, *node.keywords]))
        return isinstance(node, _SILENT) and all(map(self._silent, ast.iter_child_nodes(node)))

    def only_defines(self, node: ast.AST) -> bool:
        """Whether a definition does nothing else: no default, base, decorator or statement of a class that might."""
        if isinstance(node, ast.ClassDef):
            quiet = all(self._only_a_member(one) for one in node.body)
            return quiet and not (node.bases or node.keywords or node.decorator_list)
        if not isinstance(node, Function) or node.decorator_list:
            return False
        return all(is_idle(one) or isinstance(one, ast.Name) for one in _defaults(node.args))

    def _only_a_member(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return all(isinstance(one, ast.Name) for one in targets) and (node.value is None or is_idle(node.value))
        return isinstance(node, ast.Pass) or self.only_defines(node)


def is_idle(node: ast.AST, known: frozenset[str] = frozenset()) -> bool:
    """A constant, a name that is known, a function without defaults, or a display of such."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name in known
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)):
            return isinstance(value, int | float | complex)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return all(is_idle(one, known) for one in elements)
        case ast.Set(elts=elements):
            return all(isinstance(one, ast.Constant) for one in elements)
        case ast.Dict(keys=keys, values=values):
            return all(isinstance(key, ast.Constant) for key in keys) and all(is_idle(one, known) for one in values)
        case ast.Lambda(args=arguments):
            return not _defaults(arguments)
        case ast.IfExp(test=ast.Constant(), body=body, orelse=orelse):
            return is_idle(body, known) and is_idle(orelse, known)
    return False


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(one for one in arguments.kw_defaults if one is not None)]
