"""The mean of a few numbers that know nothing of each other (seeds, blocks of iterations), and its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """One value alone says nothing of its error: None."""
    n = len(values)
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else None


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error."""

    value: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        n = len(values)
        mean = sum(values) / n
        spread = sum((value - mean) ** 2 for value in values) / max(1, n - 1)
        return cls(mean, math.sqrt(spread / n), n)
