"""The system calls a pure computation may make, as a raw BPF filter; every other call fails with EPERM.

No libseccomp: the filter is a few dozen instructions written by hand, so that it needs nothing but libc. Calls are
named in one table with their numbers on x86-64 and on 64-bit ARM. Left out on purpose: other machines (the layer is
reported as missing there).
"""

from __future__ import annotations

import ctypes
import platform
import struct

# name: (x86-64, aarch64); -1 where the machine has no such call
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1),
    "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101),
    "exit": (60, 93), "getcwd": (79, 17),
    "readlink": (89, -1), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "sigaltstack": (131, 132), "time": (201, -1),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "set_robust_list": (273, 99), "membarrier": (324, 283),
    "statx": (332, 291), "rseq": (334, 293),
}  # fmt: skip
# Only where clocks go: whoever proposes or answers a task is not told the time (vdso.py).
CLOCKS = frozenset({"gettimeofday", "time", "clock_gettime"})
# Answered with 0 and not asked of the kernel: they differ from run to run, and a refusal would upset the interpreter.
ZEROED = {"getpid": (39, 172), "gettid": (186, 178)}
OPENAT = (257, 56)  # for reading only
PRLIMIT = (302, 261)  # to ask, of itself, never to set
FCNTL = (72, 25)  # about the descriptor itself; owners, signals, notices, leases and locks reach beyond this process
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_SETFL, _O_ASYNC = 4, 0o20000
CLOSE_RANGE = (436, 436)  # without flags it is many a close; Python 3.13 aborts where os.closerange may not call it

_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _JUMP_EQUAL, _JUMP_MORE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050001
_ZERO = 0x00050000
_NUMBER, _MACHINE = 0, 4  # offsets in struct seccomp_data
_WRITE_FLAGS = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000  # O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE


def supported() -> bool:
    return platform.machine() in _ARCH


def _argument(number: int, high: bool = False) -> int:
    return 16 + 8 * number + (4 if high else 0)


def program(*, clocks: bool) -> bytes:
    """The filter's instructions. The call's number is looked up by halving: a chain of 60 tests costs per fork."""
    column, machine = _ARCH[platform.machine()]
    special = {OPENAT[column]: _read_only_open(), PRLIMIT[column]: _own_limits(), FCNTL[column]: _own_descriptors()}
    special[CLOSE_RANGE[column]] = [(_LOAD, 0, 0, _argument(2)), (_JUMP_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    special |= {pair[column]: [(_RETURN, 0, 0, _ZERO)] for pair in ZEROED.values()}
    allowed = {pair[column] for name, pair in ALLOWED.items() if clocks or name not in CLOCKS}
    numbers = sorted(allowed - {-1} | set(special))
    head = [(_LOAD, 0, 0, _MACHINE), (_JUMP_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    code = head + _search(numbers, special)
    return b"".join(struct.pack("=HBBI", *step) for step in code)


def _search(numbers: list[int], special: dict[int, list[tuple[int, int, int, int]]]) -> list[tuple[int, int, int, int]]:
    if len(numbers) == 1:
        body = special.get(numbers[0], [(_RETURN, 0, 0, _ALLOW)])
        return [(_JUMP_EQUAL, 0, len(body), numbers[0]), *body, (_RETURN, 0, 0, _EPERM)]
    middle = len(numbers) // 2
    low, high = _search(numbers[:middle], special), _search(numbers[middle:], special)
    return [(_JUMP_MORE, len(low), 0, numbers[middle]), *low, *high]


def _read_only_open() -> list[tuple[int, int, int, int]]:
    return [
        (_LOAD, 0, 0, _argument(2)),
        (_JUMP_BITS, 0, 1, _WRITE_FLAGS),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _own_descriptors() -> list[tuple[int, int, int, int]]:
    """A descriptor call with one of the commands above; no flag may ask for signals when a descriptor is ready."""
    allow, flags = [(_RETURN, 0, 0, _ALLOW)], (_LOAD, 0, 0, _argument(2))
    others = [command for command in _FCNTL_COMMANDS if command != _SETFL]
    tests = [(_JUMP_EQUAL, len(others) - place, 0, command) for place, command in enumerate(others)]
    refuse = (_RETURN, 0, 0, _EPERM)
    head = [(_LOAD, 0, 0, _argument(1)), (_JUMP_EQUAL, len(tests) + 2, 0, _SETFL)]
    own = [(_LOAD, 0, 0, _argument(0)), (_JUMP_MORE, 1, 0, 3), refuse]  # 0 to 2 are one open file of all children
    return [*head, *tests, refuse, *allow, *own, flags, (_JUMP_BITS, 0, 1, _O_ASYNC), refuse, *allow]


def _own_limits() -> list[tuple[int, int, int, int]]:
    """prlimit64(0, ..., NULL, ...): both halves of the pointer to new limits are zero."""
    return [
        (_LOAD, 0, 0, _argument(0)),
        (_JUMP_EQUAL, 0, 5, 0),
        (_LOAD, 0, 0, _argument(2)),
        (_JUMP_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _argument(2, high=True)),
        (_JUMP_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]


class Filter:
    """The filter as the kernel wants it, kept alive here; built once per zygote, installed in its children."""

    def __init__(self, *, clocks: bool) -> None:
        code = program(clocks=clocks)
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header, len(header))

    @property
    def address(self) -> int:
        return ctypes.addressof(self._header)
