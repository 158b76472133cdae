"""Counts and percentiles of what the executor did, kept in bounded memory."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

_KEPT = 4_096  # latest timings that percentiles are taken of


class Stats:
    def __init__(self) -> None:
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._times: dict[str, deque[float]] = {name: deque(maxlen=_KEPT) for name in ("queue", "run", "cpu")}

    def count(self, name: str, amount: float = 1) -> None:
        self._counts[name] += amount

    def time(self, name: str, seconds: float) -> None:
        self._times[name].append(seconds)

    def snapshot(self) -> dict[str, float]:
        """One flat table: counts under their names, times as <name>_p50_ms and <name>_p99_ms."""
        table: dict[str, float] = {name: float(number) for name, number in self._counts.copy().items()}
        for name, times in self._times.items():
            ordered = sorted(times.copy())
            for share in (50, 99):
                table[f"{name}_p{share}_ms"] = 1e3 * _percentile(ordered, share)
        return table


def _percentile(ordered: Iterable[float], share: int) -> float:
    values = list(ordered)
    return values[min(len(values) - 1, len(values) * share // 100)] if values else 0.0
