"""Another time for every zygote, and one that stands still for whoever proposes or answers a task.

What a program reads off a clock, if it is allowed to get at one, must not decide by chance whether an answer is right.
So the clocks of a task's child stand still: a reading moves them by a microsecond, sleeping by what was slept, and
nothing else does. They stand at a time of the zygote's own: a program that depends on it differs between two of them
and is no task; one that does not gives the same whenever it runs again. Other programs, which evaluations run, have
clocks that go, shifted by as much.

Changed are the functions of `time`, and with them `datetime`, which is loaded here without its C half, and what the
process has used of the processor. Files keep the time they were made at, which is part of what is installed, and have
no other. Once the clocks stand still, the functions that tell the real time are held by nothing: they cannot be dug out
of those here; nor would they tell it, for the call filter refuses (vdso.py). An interpreter within this one, which
would have its own, cannot be started.
"""

from __future__ import annotations

import os
import posix
import resource
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_DAY_S = 86_400
# By hash seed. Each is an odd number of some unit after the first, so that a clock read in that unit is odd in the one
# and even in the other, whatever the time: days (and years, nearly), hours, minutes, seconds, months nearly.
_BASE_S = 41_234_567
_AHEAD_S = {1: 0, 2: 367 * _DAY_S, 3: 12_345 * 3_600, 4: 1_234_567 * 60, 5: 98_765_433, 6: 31 * _DAY_S}
_ASK_ABOUT_FILES = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")


_STANDS_AT_S = 1_700_000_000
_STEP_NS = 1_000  # by which a reading moves a clock that stands still
_LONGEST_WAIT_MS = 2**31 - 1  # that `poll` takes
_moved_ns: list[int] = []  # since it was stopped, where it was
_REAL: dict[str, Callable[..., Any]] = {}  # what tells the real time, while clocks go
_WITHIN = ("_interpreters", "_interpchannels", "_interpqueues", "_xxsubinterpreters", "_xxinterpchannels")


def stop() -> None:
    """From here on the clocks of this process stand still."""
    _moved_ns[:] = [0]
    _REAL.clear()


def move(seconds: float) -> None:
    """Somebody waited for so long, and may look whether the time is up."""
    if _moved_ns:
        _moved_ns[0] += max(0, round(seconds * 1e9))


def shift(seed: int) -> None:
    """Moves this process's clocks forward by an amount of the seed's own."""
    for name in ("_uuid", *_WITHIN):  # without `_uuid`, which asks the clock itself, `uuid` asks `time`
        sys.modules[name] = None  # type: ignore[assignment] - it cannot be imported
    seconds = _BASE_S + _AHEAD_S.get(seed, 7_654_321 * seed)
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"):
        in_ns = f"{name}_ns"
        _REAL[name], _REAL[in_ns] = getattr(time, name), getattr(time, in_ns)
        setattr(time, name, _later(name, seconds, 1e-9))
        setattr(time, in_ns, _later(in_ns, seconds * 10**9, 1))
    _hand_out()
    time.get_clock_info = _info(time.get_clock_info)  # it reads the clock
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _of_now(getattr(time, name), time.time))
    time.asctime = _of_today(time.asctime, time.localtime, 0)
    time.strftime = _of_today(time.strftime, time.localtime, 1)
    time.sleep = _sleep(time.sleep, select.poll().poll)
    _REAL["getrusage"], _REAL["times"] = resource.getrusage, posix.times
    resource.getrusage = _rusage(seconds)
    _put("times", lambda _: _times(seconds))
    for name in ("stat", "lstat", "fstat"):
        _put(name, lambda real: lambda *given, **named: _timeless(real(*given, **named)))
    _put("scandir", lambda real: lambda *given, **named: _Listing(real(*given, **named)))


def _hand_out() -> None:
    """To modules of the library that have taken a clock already, as `threading`, which Python 3.12 loads so early."""
    others = {id(real): getattr(time, name) for name, real in _REAL.items()}
    for module in [sys.modules[name] for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names]:
        names: dict[str, Any] = getattr(module, "__dict__", {})  # of None there are none
        for name in [name for name, value in names.items() if id(value) in others]:
            names[name] = others[id(names[name])]


def _put(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts another function in the place of one of `os`, wherever the library keeps it."""
    real = getattr(posix, name)
    other = make(real)
    setattr(posix, name, other)
    setattr(os, name, other)
    for known in (getattr(os, name) for name in _ASK_ABOUT_FILES):
        if real in known:
            known.remove(real)
            known.add(other)


def _later(name: str, amount: int, unit: float) -> Callable[..., Any]:
    """In the place of one of `time`; `amount` in its unit: seconds, or nanoseconds where `unit`, of one ns, is 1."""
    stands_at = _STANDS_AT_S * 10**9 if unit == 1 else _STANDS_AT_S

    def now(*given: int) -> float:
        if not _moved_ns:
            return _REAL[name](*given) + amount
        _moved_ns[0] += _STEP_NS
        return stands_at + amount + _moved_ns[0] * unit

    return now


def _sleep(real: Callable[[float], None], wait: Callable[[float], object]) -> Callable[[float], None]:
    """Where clocks stand, the kernel is not asked for the time, and `time.sleep` would have to ask."""

    def sleep(seconds: float) -> None:
        if not _moved_ns:
            real(seconds)
            return
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        wait(min(1_000 * seconds, _LONGEST_WAIT_MS))
        move(seconds)

    return sleep


def _info(real: Callable[[Any], Any]) -> Callable[[str], Any]:
    known = {name: real(name) for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")}
    return lambda name: known[name] if name in known else real(name)


def _of_now(real: Callable[[float], object], now: Callable[[], float]) -> Callable[..., Any]:
    def of_now(secs: float | None = None) -> object:
        return real(now() if secs is None else secs)

    return of_now


def _of_today(real: Callable[..., Any], today: Callable[[], Any], place: int) -> Callable[..., Any]:
    return lambda *given: real(*given) if len(given) > place else real(*given, today())


def _times(seconds: int) -> Callable[[], posix.times_result]:
    return lambda: posix.times_result([part + seconds for part in ([0] * 5 if _moved_ns else _REAL["times"]())])


def _rusage(seconds: int) -> Callable[[int], resource.struct_rusage]:
    def getrusage(who: int) -> resource.struct_rusage:
        user, system, peak, *counts = [0] * 16 if _moved_ns else _REAL["getrusage"](who)
        return resource.struct_rusage([user + seconds, system + seconds, peak + seconds, *counts])

    return getrusage


def _timeless(found: os.stat_result) -> os.stat_result:
    """A file of the library with the time it was made at; everything else as if it had been there for ever."""
    made = found.st_mtime_ns if stat.S_ISREG(found.st_mode) else 0
    number = found.st_ino if made else 0
    times = [made // 10**9] * 3 + [made / 1e9] * 3 + [made] * 3
    rest = [found.st_blksize, found.st_blocks, found.st_rdev]
    return os.stat_result([found.st_mode, number, 0, *found[3:7], *times, *rest])


class _Listing:
    """What `os.scandir` gives, with entries whose `stat` tells no times. No attribute leads to what lies behind it."""

    def __init__(self, real: Any) -> None:
        self._entries = (_Entry(one) for one in real)
        self.close = real.close

    def __iter__(self) -> Iterator[_Entry]:
        return self

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Entry:
    def __init__(self, real: os.DirEntry[str]) -> None:
        self.name, self.path = real.name, real.path
        self.is_dir, self.is_file, self.is_symlink = real.is_dir, real.is_file, real.is_symlink
        self._stat: Callable[[bool], os.stat_result] = lambda follow: _timeless(real.stat(follow_symlinks=follow))

    def __fspath__(self) -> str:
        return self.path

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._stat(follow_symlinks)
