"""Another time of day for every zygote, so that a program that depends on the clock differs between two of them.

Real time moves too little between two runs to show in `time.time() // 86400`. Shifted are the functions of `time`,
and with them `datetime`, which is loaded here without its C half. The system call itself is not shifted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_STEP_S = 41_234_567  # more than a year, and not a whole number of days, hours or minutes


def shift(seed: int) -> None:
    """Moves this process's clocks forward by an amount of the seed's own."""
    seconds = seed * _STEP_S
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, _later(getattr(time, name), seconds))
        in_ns = f"{name}_ns"
        setattr(time, in_ns, _later(getattr(time, in_ns), seconds * 10**9))
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _of_now(getattr(time, name), time.time))
    time.asctime = _of_today(time.asctime, time.localtime, 0)
    time.strftime = _of_today(time.strftime, time.localtime, 1)


def _later(real: Callable[[], Any], amount: int) -> Callable[[], Any]:
    return lambda: real() + amount


def _of_now(real: Callable[..., Any], now: Callable[[], float]) -> Callable[..., Any]:
    return lambda secs=None: real(now() if secs is None else secs)


def _of_today(real: Callable[..., Any], today: Callable[[], Any], place: int) -> Callable[..., Any]:
    return lambda *given: real(*given) if len(given) > place else real(*given, today())
