"""Random numbers that are the zygote's own: two zygotes differ, and one draws the same for every program.

So a program that depends on a draw differs between two of them and is no task, or gives the same whenever it runs
again. Python would seed from the system, or from the clock and the process's number where a program cannot ask that;
and would draw a new state in every child, which its `random` is not told of here (link.py).
"""

from __future__ import annotations

import random


def fix(seed: int) -> None:
    """Of this process: the state of `random` now, and that of each generator that somebody makes without a seed."""
    real = random.Random.seed

    def fixed(self: random.Random, a: float | str | bytes | bytearray | None = None, version: int = 2) -> None:
        real(self, f"drawn by {seed}" if a is None else a, version)

    random.Random.seed = fixed  # type: ignore[method-assign]
    random.seed = random._inst.seed  # type: ignore[attr-defined]
    random.seed(seed)
