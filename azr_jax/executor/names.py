"""The library modules that are loaded before a program, and the names that answers may use without an import."""

from __future__ import annotations

from typing import Any

# What programs use and what answers may name; more modules make every fork dearer.
_PRELOADED = (
    "math", "cmath", "collections", "collections.abc", "itertools", "functools", "operator", "heapq", "bisect", "re",
    "string", "json", "typing", "dataclasses", "enum", "copy", "fractions", "decimal", "statistics", "textwrap",
    "datetime", "abc", "contextlib", "random", "types", "numbers",
)  # fmt: skip


def preload() -> dict[str, Any]:
    modules = {name: __import__(name) for name in _PRELOADED}
    names: dict[str, Any] = {n: m for n, m in modules.items() if "." not in n}
    for source, wanted in (
        ("collections", "Counter OrderedDict defaultdict deque"),
        ("fractions", "Fraction"),
        ("decimal", "Decimal"),
        ("datetime", "date timedelta"),
    ):
        names |= {n: getattr(modules[source], n) for n in wanted.split()}
    return names | {"inf": float("inf"), "nan": float("nan")}
