"""Packages that the user lets programs import, in a zygote: imported once, and what of theirs counts as plain values.

So a program's own import costs nothing. What else is installed stays out of sight.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from azr_jax.executor.values import MAX_CHARS, Refused


def load(packages: Sequence[str], paths: Sequence[str], seed: int) -> dict[str, Any]:
    """Imports the packages: the names under which answers find them."""
    if not packages:
        return {}
    sys.path += sorted({str(Path(path).parent) for path in paths} - set(sys.path))
    with _c_half_of_datetime():
        modules = {name: importlib.import_module(name) for name in packages}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)  # two zygotes differ, one and the same repeats itself after a restart
    return modules


@contextlib.contextmanager
def _c_half_of_datetime() -> Generator[None]:
    """Extensions ask `datetime` for its C half when imported; here it is plain Python, for the clock's sake."""
    datetime = vars(importlib.import_module("datetime"))
    hidden = sys.modules.pop("_datetime", None)
    datetime["datetime_CAPI"] = importlib.import_module("_datetime").datetime_CAPI
    try:
        yield
    finally:
        del datetime["datetime_CAPI"]
        sys.modules["_datetime"] = hidden  # type: ignore[assignment] - None: it cannot be imported


def plain_forms() -> dict[type, Callable[[Any], Any]]:
    """Of numpy's types: its numbers become Python's, its arrays lists. What has no plain form is refused."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return {}
    wide = (numpy.longdouble, numpy.clongdouble)  # whose values Python's floats do not hold
    numbers = {one for one in numpy.sctypeDict.values() if numpy.dtype(one).kind in "biufcSU" and one not in wide}

    def as_list(array: Any) -> list[Any] | float | str:  # of no dimension: a number
        if array.dtype.kind not in "biufcSUO" or array.dtype.type in wide:
            raise Refused(f"not a plain value: array of {str(array.dtype)[:40]}")
        if array.size > MAX_CHARS:
            raise Refused("value too large")
        return array.tolist()

    return {one: one.item for one in numbers} | {numpy.ndarray: as_list}
