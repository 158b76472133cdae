"""When two decoded values are the same: Python's ==, and a NaN equals a NaN in the same place.

Containers are gone through here, each part once. Python's own == looks at each count of two Counters twice, and twice
at what differs in two deques: of forty of them, one in the other, that is 2**40 looks.

Python finds no NaN in a set and no NaN key in a dict but the very same object. So values that hold one are compared by
their keys: hashable pictures in which every NaN is one and the same object. A picture costs one walk, and two of them
are compared, or put into a dict, at the price of their size: nothing here grows with the square of what a child wrote,
and keys made to collide are refused by the codec.
"""

# What containers hold is asked for in turn, by functions that take anything.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

Value: TypeAlias = Any  # what the codec decodes: its type is asked for, never assumed
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_MOST_ALIKE = 32


class _NaN:
    """Equal to itself, and to nothing else."""


_FLOAT_NAN, _DECIMAL_NAN = _NaN(), _NaN()


def same(a: object, b: object) -> bool:
    """Python's ==, except that a NaN equals a NaN in the same place. For decoded values only."""
    try:
        return _equal(a, b) or (_has_nan(a) and _has_nan(b) and key(a) == key(b))
    except (ArithmeticError, TypeError, ValueError, RecursionError):
        return False


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Counter) and isinstance(b, Counter):
        return all(_equal(a[k], b[k]) for k in {**a, **b})  # one that is missing counts 0
    if isinstance(a, dict) and isinstance(b, dict):
        if isinstance(a, OrderedDict) and isinstance(b, OrderedDict) and list(a) != list(b):
            return False
        return len(a) == len(b) and all(k in b and _equal(v, b[k]) for k, v in a.items())
    for kind in (list, tuple, deque):
        if isinstance(a, kind):
            return isinstance(b, kind) and len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def key(value: object) -> Hashable:
    """A picture of the value that can be hashed, equal for what is the same. A Counter or an OrderedDict equals its own
    kind alone here: Python's == calls either of them the same as a dict, and not each other.
    """
    if isinstance(value, float):
        return value if value == value else _FLOAT_NAN
    if isinstance(value, complex):
        return value if value == value else (complex, key(value.real), key(value.imag))
    if isinstance(value, Decimal):
        return _DECIMAL_NAN if value.is_nan() else value
    for kind in (list, tuple, deque):
        if isinstance(value, kind):
            return (kind, *map(key, value))
    if isinstance(value, set | frozenset):
        return set, _counted(map(key, value)) if _has_nan(value) else frozenset(value)
    if isinstance(value, OrderedDict):
        return OrderedDict, tuple((key(k), key(v)) for k, v in value.items())
    if isinstance(value, Counter):
        return Counter, _counted((key(k), key(v)) for k, v in value.items() if v != 0)
    if isinstance(value, dict):
        return dict, _counted((key(k), key(v)) for k, v in value.items())
    return value


def crowded(keys: Sequence[Hashable]) -> bool:
    """Whether many have one hash, as multiples of 2**61 - 1 have, so that each would be compared with all."""
    return len(keys) > _MOST_ALIKE and max(Counter(map(hash, keys)).values()) > _MOST_ALIKE


def _counted(members: Iterable[Hashable]) -> frozenset[tuple[Hashable, int]]:
    """As a set, but two NaN stay two."""
    return frozenset(Counter(members).items())


def _has_nan(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_nan(k) or _has_nan(v) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return any(map(_has_nan, value))
    return isinstance(value, float | complex | Decimal) and value != value
