"""heldout.jsonl: how every held-out task fared at every measurement, and what has been gained since the first one.

The same tasks are asked each time, so a gain's error is taken over differences task by task: smaller than what two
measurements that know nothing of each other would leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from azr_jax.monitor.jsonl import JsonLines, read
from azr_jax.monitor.means import Mean

Scores = Mapping[tuple[str, str], Sequence[float]]  # of (suite, kind): of each task the mean of its attempts


class HeldOutWriter:
    def __init__(self, workdir: Path, cursor: int = 0):
        self._file = JsonLines(workdir / "heldout.jsonl")
        self._file.cut(cursor)
        self._first: dict[tuple[str, str], Sequence[float]] = {}
        for line in read(self._file.path):
            self._first_of((line["suite"], line["kind"]), line["scores"])

    def write(self, iteration: int, scores: Scores) -> dict[str, float]:
        """`eval/<suite>/<kind>/gain` with its standard error, where the same tasks were measured before."""
        numbers: dict[str, float] = {}
        for (suite, kind), now in scores.items():
            self._file.append({"iteration": iteration, "suite": suite, "kind": kind, "scores": list(now)})
            first = self._first_of((suite, kind), now)
            if first is not now:
                gain = Mean.of([after - before for before, after in zip(first, now)])
                numbers |= {f"eval/{suite}/{kind}/gain": gain.value, f"eval/{suite}/{kind}/gain_se": gain.error}
        return numbers

    def _first_of(self, which: tuple[str, str], now: Sequence[float]) -> Sequence[float]:
        """What to compare with: nothing earlier, where other tasks were asked (`eval.rows` may change)."""
        if len(self._first.get(which, ())) != len(now):
            self._first[which] = now
        return self._first[which]

    def cursor(self) -> int:
        return self._file.position()
