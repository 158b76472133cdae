"""What is said of a proposal before it is run, by a child that runs nothing of it: what it is, what it may see, and
which of its inputs are one.

A child apart, so that those that run the program are asked for nothing but what they are asked for when an answer is
judged: a program finds no difference between the two. And what is said here, no program has had a hand in.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Sequence
from typing import Any

from azr_jax.executor import arguments, binding, constants, hygiene, reach
from azr_jax.executor.constants import mark
from azr_jax.executor.values import encode


def lines_of(
    program: str, inputs: Sequence[str], banned: Sequence[str], names: dict[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """First of the program, then of each input where there are several. Raises Unfit."""
    text, tree = hygiene.normalise(program, banned)
    calls = [arguments.parse_call(given) for given in inputs]
    for call in calls:
        hygiene.check(call, banned)
    several = len(calls) > 1
    changed = None if text == program else text
    held = constants.handed_out(tree) if several else ""
    sight = reach.sight([tree, *calls])
    yield "program", -1, changed, *sight[:2], reach.remembers(tree), held
    if several:
        signature, space = _signature(tree), arguments.inert_space(names)
        for number, call in enumerate(calls):
            yield "input", number, _mark(call, signature, space, own_words=not sight.anything)


def _mark(call: ast.Call, signature: types.FunctionType | None, space: dict[str, Any], *, own_words: bool) -> str:
    """The same for inputs that give the parameters the same values, as far as that can be known without the program.

    Of one that names what is the program's, `P(+5)`, nothing is known. The child that runs it says what it gave, unless
    the program may have written that itself (not `own_words`): then all such inputs are one.
    """
    written = ast.dump(call)
    if not arguments.is_inert(call):
        return mark(written if own_words else "")
    try:
        build = compile(ast.fix_missing_locations(ast.Expression(call)), "input", "eval", dont_inherit=True)
        positional, named = eval(build, arguments.capturing(space))
        found = binding.bound(signature, positional, named) if signature is not None else None
        given, defaults = found or ({"*": positional, "**": named}, {})
        return mark(encode(sorted((given | defaults).items(), key=_name)))
    except Exception:  # its own calls say what becomes of it
        return mark(written if own_words else "")


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def _signature(tree: ast.Module) -> types.FunctionType | None:
    """A function that takes what `f` takes and does nothing; none where its text does not say what `f` takes."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == "f"] or functions
    if len(named) != 1 or named[0].decorator_list:
        return None
    given = named[0].args
    try:
        for place, default in enumerate(given.defaults):
            given.defaults[place] = ast.Constant(ast.literal_eval(default))
        given.kw_defaults = [one and ast.Constant(ast.literal_eval(one)) for one in given.kw_defaults]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    for one in ast.walk(given):
        if isinstance(one, ast.arg):
            one.annotation = None
    stub = ast.Expression(ast.Lambda(given, ast.Constant(None)))
    return eval(compile(ast.fix_missing_locations(stub), "signature", "eval", dont_inherit=True))
