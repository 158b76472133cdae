"""Whether a reader's time grows with the length of what it reads, and not with its square."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

NOISE_S = 0.000_5  # below this a clock and a busy machine say nothing


def cpu_s(read: Callable[[], Any], times: int = 5) -> float:
    """The least processor time of this thread over several readings; what the reader raises is its own affair."""
    best = float("inf")
    for _ in range(times):
        began = time.thread_time()
        with contextlib.suppress(Exception):
            read()
        best = min(best, time.thread_time() - began)
    return best


def is_linear(read: Callable[[Any], Any], make: Callable[[int], Any], size: int) -> bool:
    """Eight times the length costs about eight times as much; its square would cost 64 times as much."""
    small, large = make(size), make(8 * size)
    # a machine that is busy with something else is asked again
    return any(cpu_s(lambda: read(large)) <= 24 * max(cpu_s(lambda: read(small)), NOISE_S) for _ in range(3))
