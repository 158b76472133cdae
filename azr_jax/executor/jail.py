"""The walls around model-written code, made of what the kernel offers: two entries, `enter_zygote`, `enter_child`.

Once per zygote: user, pid, mount, net, ipc and uts namespaces, a root that holds nothing but the interpreter's
library, Landlock with the same list, no capabilities, no new privileges, not dumpable. Once per child: resource
limits, the parent-death signal, the system call filter. Each layer is tried and reported, and `probe` then tests
from inside a child what really holds, so that a missing layer is noticed and not assumed. No cgroups: they need a
delegated tree that few machines give.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import platform
import resource
import signal
import socket
import struct
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from azr_jax.executor import seccomp

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_NAMESPACES = {  # the first one gives the right to the others
    "user": 0x10000000, "pid": 0x20000000, "mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000
}  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_ARM = platform.machine() == "aarch64"
_SYS_CAPSET, _SYS_PIVOT_ROOT = (91, 41) if _ARM else (126, 155)
_SYS_LANDLOCK = 444  # create_ruleset; add_rule and restrict_self follow
_LANDLOCK_ACCESS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many file rights each version of Landlock knows
_LANDLOCK_READ_FILE = 1 << 2
_LANDLOCK_READ = _LANDLOCK_READ_FILE | 1 << 3  # and read directory


def _prctl(option: int, *arguments: int) -> None:
    _check(_prepared_prctl(option, *arguments)(), f"prctl {option}")


def _prepared_prctl(option: int, *arguments: int) -> Callable[[], int]:
    """The call with its arguments made: each object that a child makes or touches is memory to be copied."""
    values = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return functools.partial(_libc.prctl, ctypes.c_int(option), *values)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def readable_paths() -> list[str]:
    """What a child may read: the standard library and the folders of the shared objects the interpreter uses."""
    names = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("DESTSHARED")}
    for line in Path("/proc/self/maps").read_text().splitlines():
        file = line.split(maxsplit=5)[5] if line.count("/") else ""
        if ".so" in file:
            names.add(os.path.dirname(file))  # noqa: PTH120 - text in, text out
    found = sorted({str(Path(n).resolve()) for n in names if n and Path(n).is_dir()})
    return [p for p in found if p != "/" and not any(p != o and Path(p).is_relative_to(o) for o in found)]


# ---------------------------------------------------------------------------------------------- once per zygote
def enter_namespaces() -> tuple[list[str], dict[str, str]]:
    """New namespaces for this process and, for pids, its next child: those that were given, and why others were not."""
    uid, gid = os.getuid(), os.getgid()
    entered: list[str] = []
    refused: dict[str, str] = {}
    for name, flag in _NAMESPACES.items():
        try:
            _check(_libc.unshare(flag), f"unshare {name}")
            if name == "user":
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")
                Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
            entered.append(name)
        except OSError as error:
            refused[name] = os.strerror(error.errno or 0)
    return entered, refused


def enter_zygote(paths: list[str], namespaces: list[str], packages: list[str]) -> tuple[list[str], dict[str, str]]:
    """Everything that is done once and inherited by every child: the layers now in force, and why others are not."""
    layers, missing = list(namespaces), dict[str, str]()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    steps = (
        ("root", lambda: _own_root(paths, packages) if "mount" in namespaces else _missing()),
        ("capabilities", _drop_capabilities),
        ("no_new_privs", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1)),
        ("landlock", lambda: _landlock([*paths, *packages])),
        ("undumpable", lambda: _prctl(_PR_SET_DUMPABLE, 0)),
    )
    for name, step in steps:
        try:
            step()
            layers.append(name)
        except OSError as error:
            missing[name] = os.strerror(error.errno or 0)
    return layers, missing


def _missing() -> None:
    raise OSError(errno.EPERM, "there is no mount namespace")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    fs = kind.encode() if kind else None
    _check(_libc.mount(source.encode(), target.encode(), fs, ctypes.c_ulong(flags), None), f"mount {target}")


def _own_root(paths: list[str], packages: list[str]) -> None:
    """A root file system with the readable paths and packages at their own names, read-only, and nothing else."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    base = _out_of_the_way([*paths, *packages])
    _mount("tmpfs", base, "tmpfs", _MS_NOSUID | _MS_NODEV)
    for path in paths:
        _show(path, base)
    masked = {sysconfig.get_path(n) for n in ("purelib", "platlib")}  # what is installed beside the library
    masked = {path for path in masked if Path(base + path).is_dir()}
    for path in masked:
        _mount("tmpfs", base + path, "tmpfs", _MS_NOSUID | _MS_NODEV)
    for path in packages:
        _show(path, base)
    for path in masked:
        _mount("none", base + path, None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(base)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", 2), "umount")  # the old root lies on top of the new one; MNT_DETACH
    os.chdir("/")
    _mount("none", "/", None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _out_of_the_way(paths: list[str]) -> str:
    """A folder to build the root at: none of what is to be shown lies in it, such as an environment made in /tmp."""
    for base in ("/tmp", "/mnt", "/srv", "/media"):
        if Path(base).is_dir() and not any(Path(path).is_relative_to(base) for path in paths):
            return base
    raise OSError(errno.EBUSY, "what programs may read lies in every folder that a root could be built at")


def _show(path: str, base: str) -> None:
    """A file or a folder at its own name below `base`, read-only."""
    shown = Path(base + path)
    if Path(path).is_dir():
        shown.mkdir(parents=True, exist_ok=True)
    else:
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.touch()
    _mount(path, str(shown), None, _MS_BIND)
    # a remount from a user namespace may only add flags, so the ones already set are kept
    flags = os.statvfs(path).f_flag & (_MS_NOSUID | _MS_NODEV | 8 | 1024 | 2048)
    _mount("none", str(shown), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | flags)


def _drop_capabilities() -> None:
    for number in range(64):
        with contextlib.suppress(OSError):
            _prctl(_PR_CAPBSET_DROP, number)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    _check(_libc.syscall(_SYS_CAPSET, header, ctypes.create_string_buffer(24)), "capset")


def _landlock(paths: list[str]) -> None:
    version = _check(_libc.syscall(_SYS_LANDLOCK, None, ctypes.c_size_t(0), 1), "landlock")
    files = (1 << _LANDLOCK_ACCESS.get(version, 16)) - 1
    net = 3 if version >= 4 else 0  # bind and connect, none of which is granted below
    scope = 3 if version >= 6 else 0  # abstract sockets and signals of the world outside
    attribute = struct.pack("=QQQ", files, net, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _check(_libc.syscall(_SYS_LANDLOCK, attribute, ctypes.c_size_t(len(attribute)), 0), "landlock ruleset")
    try:
        for path in paths:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights = _LANDLOCK_READ if Path(path).is_dir() else _LANDLOCK_READ_FILE
            rule = struct.pack("=Qi", rights, folder)
            _check(_libc.syscall(_SYS_LANDLOCK + 1, ruleset, 1, rule, 0), f"landlock rule {path}")
            os.close(folder)
        _check(_libc.syscall(_SYS_LANDLOCK + 2, ruleset, 0), "landlock restrict")
    finally:
        os.close(ruleset)


# ---------------------------------------------------------------------------------------------- once per child
class ChildJail:
    """What every child puts on before it reads its program. Built once per zygote to keep the fork cheap."""

    def __init__(self, memory_mb: int) -> None:
        self._filters = [seccomp.Filter(clocks=clocks) for clocks in (False, True)] if seccomp.supported() else []
        self._die_with_zygote = _prepared_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        calls = [_prepared_prctl(_PR_SET_SECCOMP, 2, one.address) for one in self._filters]
        self._filter_calls, self._filter_calls_but_clocks = calls or (_no_filter, _no_filter)
        with Path("/proc/self/statm").open() as sizes:
            own = int(sizes.read().split()[0]) * resource.getpagesize()
        self.filtered = False  # once the filter has been seen to work, a child without it does not run
        self._memory = own + memory_mb * 2**20  # the interpreter's own map is not the program's fault

    def limit_zygote(self) -> None:
        """The limits that children inherit as they are: set once, they cost no fork anything."""
        for name, limit in (
            (resource.RLIMIT_AS, self._memory),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 32),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
        ):
            resource.setrlimit(name, (limit, limit))

    def wait(self, zygote: int) -> None:
        """What does not depend on the request: that the child forks nothing, and whose death ends it."""
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        _check(self._die_with_zygote(), "parent-death signal")
        if os.getppid() != zygote:
            os._exit(1)  # it died before it could be said

    def enter(self, seconds: float, *, clocks: bool) -> None:
        """The rest, when the request is known: how much processor time, and the call filter, with clocks or without."""
        processor_s = int(seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s))
        refused = self._filter_calls_but_clocks() if clocks else self._filter_calls()
        if refused and self.filtered:
            raise OSError(ctypes.get_errno(), "call filter")


def _no_filter() -> int:
    return -1


# ---------------------------------------------------------------------------------------------- the probe
_PROBED = ("read", "write", "socket", "fork", "exec", "signal", "memory", "notice", "clock")


def probe(jail: ChildJail, outside: str) -> list[str]:
    """What a jailed child still manages to do out of the list that it must not; best: nothing.

    `outside` is a file that exists, readable for this user and not in the interpreter's library.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            jail.wait(os.getppid())
            jail.enter(5.0, clocks=False)
            for name, attempt in _attempts(outside, writer):
                with contextlib.suppress(BaseException):
                    attempt()
                    os.write(writer, name.encode() + b"\n")
            os.write(writer, b"done")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        *held, end = pipe.read().split("\n")
    os.waitpid(child, 0)
    jail.filtered = end == "done" and "socket" not in held and "fork" not in held
    return held if end == "done" else list(_PROBED)


def _attempts(outside: str, descriptor: int):
    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    def execute() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.execv("/nonexistent/program", ["x"])

    def ask_for_signals() -> None:
        """A signal of the program's choice to a process of its choice, by way of a descriptor; or a lock or a lease."""
        done = 0
        for command, argument in (
            (fcntl.F_SETOWN, os.getppid()),
            (fcntl.F_SETSIG, 9),
            (fcntl.F_SETLEASE, fcntl.F_RDLCK),
        ):
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, command, argument)
                done += 1
        with contextlib.suppress(OSError):
            fcntl.fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), fcntl.F_NOTIFY, 0)  # noqa: PTH120
            done += 1
        if not done:
            raise PermissionError

    return (
        ("read", lambda: os.close(os.open(outside, os.O_RDONLY))),
        ("write", lambda: os.close(os.open("/tmp/azr_jax_probe", os.O_WRONLY | os.O_CREAT))),
        ("socket", lambda: socket.socket().close()),
        ("fork", fork),
        ("exec", execute),
        ("signal", lambda: os.kill(os.getppid(), 0)),
        ("memory", lambda: os.close(os.open("/proc/1/mem", os.O_RDONLY))),
        ("notice", ask_for_signals),
        ("clock", time.monotonic),
    )


def interpreter() -> list[str]:
    """The command of a bare interpreter: no site, no user site, no script folder; the hash seed still counts."""
    return [sys.executable, "-s", "-S", "-P", "-B"]
