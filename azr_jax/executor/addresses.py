"""No program sees where an object lies: for each place that is asked for it is shown a number of the zygote's own.

Python's own text of a function, an iterator or an object holds its address, and so do messages of exceptions; all of
them are written by libc's `%p`, whatever built-in function, method or format led there. Here that is given another
writer, which counts the places in the order in which they are first asked for, in each call of a program anew; `id`
counts along. In the first two zygotes every bit of these numbers differs, so a program that gives one is no task; and
what is judged is judged by the first, where they are always the same. What still goes by the address itself is the
order of sets of objects, and `hash` (reach.py).
"""

from __future__ import annotations

import builtins
import ctypes
import random
import sys
from collections.abc import Callable
from typing import Any

_FIRST, _STEP = 0x555555555550, 16  # as long as an address, also with all bits the other way round
_TURNED = {1: 0, 2: 2**48 - 1}  # bits, by hash seed; of later ones some
_PA_POINTER = 5  # from printf.h
_libc = ctypes.PyDLL(None)  # whose calls keep the interpreter's lock
_KEPT: list[Any] = []  # libc calls these for as long as the process lives
_numbers: dict[int, int] = {}  # of the places that were asked for
forget = _numbers.clear  # or the count would tell a call of earlier ones


def _called(function: Callable[..., int]) -> Callable[..., int]:
    """The same, in a text that holds no address: Python 3.13 writes what it was that failed, which would fail again."""
    named: Any = type(function.__name__, (str,), {"__call__": staticmethod(function)})
    return named()


def hide(seed: int) -> None:
    """Of this process and its children, from now on."""
    turned = _TURNED[seed] if seed in _TURNED else random.Random(f"places {seed}").randrange(2**44)
    real, setdefault, count = id, _numbers.setdefault, _numbers.__len__
    pointers = ctypes.POINTER(ctypes.c_void_p)
    put = _libc.fputs
    put.argtypes = [ctypes.c_char_p, ctypes.c_void_p]

    def number(address: int) -> int:
        return setdefault(address, _FIRST + _STEP * count() ^ turned)

    def id_(obj: object, /) -> int:
        return number(real(obj))

    def write(stream: int, _: int, arguments: Any) -> int:
        text = b"%#x" % number(ctypes.cast(arguments[0], pointers)[0] or 0)
        put(text, stream)
        return len(text)

    def kinds(_: int, room: int, found: Any, __: int) -> int:
        if room:
            found[0] = _PA_POINTER
        return 1

    integers = ctypes.POINTER(ctypes.c_int)
    writer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, pointers)(_called(write))
    asker = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, integers, ctypes.c_void_p)(_called(kinds))
    if _libc.register_printf_specifier(ord("p"), writer, asker) != 0:
        raise OSError("libc does not let %p be written otherwise")
    _KEPT.extend((writer, asker))
    # What they raise, too deep in a recursion for one, is told by the hook; Python's own would write an address again.
    sys.unraisablehook = type  # type: ignore[assignment]
    id_.__name__ = id_.__qualname__ = "id"
    builtins.id = id_  # type: ignore[assignment]
