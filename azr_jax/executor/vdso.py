"""Makes this process ask the kernel what time it is, so that a call filter can refuse to say.

The kernel lets a process read its clocks without a system call, by code and a page of data that it maps into each (the
vDSO), and no filter sees that. Here the entries of that code are overwritten with the plain system calls, the page is
given back, and the processor's own counter is locked. From then on whoever asks for the time in a child whose filter
leaves those calls out gets an error: the library, an extension in C, or a `time` that a program has made anew.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

_AT_SYSINFO_EHDR = 33  # where the kernel says at what address it is
_PT_LOAD, _PT_DYNAMIC, _DT_STRTAB, _DT_SYMTAB = 1, 2, 5, 6
_MOST_SYMBOLS = 64
_READ_WRITE, _READ_EXECUTE = 3, 5
_NAMES = {
    "x86_64": {
        "__vdso_clock_gettime": 228, "__vdso_gettimeofday": 96, "__vdso_time": 201, "__vdso_getrandom": 318,
        "__vdso_clock_getres": 229,
    },
    "aarch64": {
        "__kernel_clock_gettime": 113, "__kernel_gettimeofday": 169, "__kernel_getrandom": 278,
        "__kernel_clock_getres": 114,
    },
}  # fmt: skip
_PR_SET_TSC, _PR_TSC_SIGSEGV = 26, 2

_libc = ctypes.PyDLL(None)  # holds the interpreter's lock: nobody reads a clock half written
_libc.getauxval.restype, _libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def ask_the_kernel() -> None:
    """Once per zygote. Changes nothing where there is no such code or it is sealed: the probe finds that (jail.py)."""
    base, calls = _libc.getauxval(_AT_SYSINFO_EHDR), _NAMES.get(platform.machine())
    if not base or calls is None:
        return
    headers, symbols = _read(base)
    whole = max(start + size for kind, start, size in headers if kind == _PT_LOAD)  # a part of it cannot be protected
    whole += -whole % os.sysconf("SC_PAGE_SIZE")
    if _libc.mprotect(base, whole, _READ_WRITE) != 0:
        return
    for name, address, size in symbols:
        code = _system_call(calls[name]) if name in calls else b""
        if code and len(code) <= size:
            ctypes.memmove(base + address, code, len(code))
    _libc.mprotect(base, whole, _READ_EXECUTE)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "[vvar" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            _libc.munmap(start, end - start)
    _libc.prctl(_PR_SET_TSC, _PR_TSC_SIGSEGV, 0, 0, 0)


def _system_call(number: int) -> bytes:
    """The call with the arguments as they are, and back: what libc does where there is no vDSO."""
    if platform.machine() == "x86_64":
        return struct.pack("=BI3s", 0xB8, number, b"\x0f\x05\xc3")  # mov eax, number; syscall; ret
    return struct.pack("=4I", 0xD503245F, 0xD2800008 | number << 5, 0xD4000001, 0xD65F03C0)  # bti c; mov x8; svc; ret


def _read(base: int) -> tuple[list[tuple[int, int, int]], list[tuple[str, int, int]]]:
    """Of the shared object at `base`: its parts (kind, where, how long) and its symbols (name, where, how long)."""

    def at(form: str, place: int) -> tuple[int, ...]:
        return struct.unpack(form, ctypes.string_at(base + place, struct.calcsize(form)))

    (first,), (count,) = at("=Q", 32), at("=H", 56)
    parts = [at("=IIQQQQQ", first + 56 * number) for number in range(count)]
    headers = [(kind, address, size) for kind, _, _, address, _, _, size in parts]
    dynamic = next(address for kind, address, _ in headers if kind == _PT_DYNAMIC)
    tags = dict[int, int]()
    for place in range(dynamic, dynamic + 16 * _MOST_SYMBOLS, 16):
        tag, value = at("=QQ", place)
        tags.setdefault(tag, value)
        if not tag:
            break
    names, table = tags[_DT_STRTAB], tags[_DT_SYMTAB]
    symbols = list[tuple[str, int, int]]()
    for number in range(min((names - table) // 24, _MOST_SYMBOLS)):  # the names come right behind the table
        name, _, _, _, address, size = at("=IBBHQQ", table + 24 * number)
        symbols.append((ctypes.string_at(base + names + name).decode(), address, size))
    return headers, symbols
