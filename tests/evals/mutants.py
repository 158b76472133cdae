"""Wrong programs made of right ones: one small change in the tree each, chosen by number."""

import ast

_SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def _changes(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
            yield lambda node=node: node.ops.__setitem__(0, _SWAPS[type(node.ops[0])]())
        elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in _SWAPS:
            yield lambda node=node: setattr(node, "op", _SWAPS[type(node.op)]())
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield lambda node=node: setattr(node, "value", node.value + 1)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield lambda node=node: setattr(node, "value", ast.List([node.value], ast.Load()))


def mutant(program: str, number: int) -> str:
    """The program with one of its possible changes; the same number gives the same one."""
    tree = ast.parse(program)
    changes = list(_changes(tree))
    changes[number % len(changes)]()
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def returning(program: str, entry_point: str, value: str) -> str:
    """The program with its entry point replaced by one that always says the same."""
    return f"{program}\n\ndef {entry_point}(*arguments, **named):\n    return {value}\n"
