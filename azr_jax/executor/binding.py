"""What a call gives the parameters of a function, however it is written.

`5`, `x=5`, `5, 0` and `*[5]` are one input to `def f(x, y=0)`. What `inspect.signature` does, by hand, for a child
does not have it. Where the function is no function of Python, or the call does not fit it, nothing is said.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

_REST, _NAMED_REST = 0x04, 0x08  # flags of a code object: it takes *args, it takes **kwargs
_CACHED = type(functools.cache(len))
_DEEPEST = 16  # wrappers that are looked through


def bound(
    function: Callable[..., object], positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The parameters' values as given, and the defaults of those that were not; None where it cannot be said."""
    plain = _unwrapped(function)
    if plain is None:
        return None
    code = plain.__code__
    count, only = code.co_argcount, code.co_kwonlyargcount
    taking, by_name = code.co_varnames[:count], set(code.co_varnames[code.co_posonlyargcount : count + only])
    values, extra = dict(zip(taking, positional)), dict[str, Any]()
    for name, value in named.items():
        if name in by_name and name in values:
            return None  # given twice
        (values if name in by_name else extra)[name] = value
    rest = positional[count:]
    if (rest and not code.co_flags & _REST) or (extra and not code.co_flags & _NAMED_REST):
        return None
    defaults = plain.__defaults__ or ()
    missing = dict(zip(taking[count - len(defaults) :], defaults)) | (plain.__kwdefaults__ or {})
    return values | {"*": rest, "**": extra}, {name: value for name, value in missing.items() if name not in values}


def _unwrapped(function: Any) -> types.FunctionType | None:
    """The function behind decorators that say what they wrap."""
    for _ in range(_DEEPEST):
        if type(function) is _CACHED:
            function = function.__wrapped__
        elif type(function) is not types.FunctionType:
            return None
        elif "__wrapped__" in function.__dict__:
            function = function.__dict__["__wrapped__"]
        else:
            return function
    return None
