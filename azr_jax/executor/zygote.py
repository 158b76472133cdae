"""The clean process that forks one child per program, and nothing else: it never reads a request or a result.

The parent sends one message per program over a socket pair that keeps message borders. The zygote looks at the
first bytes only (a number and a time limit), forks, and the child takes the whole message. When the child has ended
or its time is up and it was killed, the zygote hands the reading end of the child's pipe to the parent. So neither an
input nor an output of one program is ever in the memory that later children are copies of.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from azr_jax.executor import child, clock, imports, jail, names, packages
from azr_jax.executor.values import ALSO

REPLY = struct.Struct("=QBiQQQ")  # request number, how it ended, exit status, wall us, cpu us, peak kilobytes
ENDED, TIMED_OUT, LOST, STOPPED = 0, 1, 2, 3
_YIELDS, _LOOK_S = 50, 0.005  # how often a child is asked for at once when its pipe has closed; then at what interval
_SET_PIPE_SIZE, _GET_PIPE_SIZE = 1031, 1032

_KEPT: list[Any] = []

Body = Callable[[jail.ChildJail, socket.socket, int, int, int, float, dict[str, Any]], NoReturn]


def _preload(settings: dict[str, Any]) -> dict[str, Any]:
    """Imports what programs use, and gives the names that answers may use."""
    known = names.preload() | packages.load(settings["packages"], settings["package_paths"], settings["seed"])
    ALSO.update(packages.plain_forms())
    imports.mend()
    child.warm_up(known)
    return known


def main() -> NoReturn:
    """Set up by arguments: socket descriptor, settings as JSON."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    try:
        wall, known, alone = _set_up(sock, settings)
    except BaseException as error:
        sock.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    _serve(sock, wall, known, alone=alone, body=child.empty if settings["empty"] else child.main)


def _set_up(sock: socket.socket, settings: dict[str, Any]) -> tuple[jail.ChildJail, dict[str, Any], bool]:
    """Jails this process, tests the jail, and says to the parent what holds."""
    jail.die_with_parent()
    with contextlib.suppress(OSError):  # short of memory, the machine ends programs, not the trainer
        Path("/proc/self/oom_score_adj").write_text("1000")
    paths = jail.readable_paths()
    namespaces, refused = jail.enter_namespaces() if settings["namespaces"] else ([], {})
    if "pid" in namespaces:
        _become_init(sock)
    warnings.simplefilter("ignore")
    clock.shift(settings["seed"])
    known = _preload(settings)
    _shift_addresses(settings["seed"])
    random.seed(settings["seed"])  # two zygotes differ, one and the same repeats itself after a restart
    wall = jail.ChildJail(settings["memory_mb"])  # reads /proc, which is gone after the next line
    layers, missing = jail.enter_zygote(paths, namespaces, settings["package_paths"])
    wall.limit_zygote()
    held = jail.probe(wall, settings["outside"])
    layers += ["rlimits", "seccomp"] if wall.filtered else ["rlimits"]
    missing |= {} if wall.filtered else {"seccomp": "the call filter does not hold"}
    _forget_ourselves(settings["package_paths"])
    sock.send(json.dumps({"layers": layers, "held": held, "missing": refused | missing}).encode())
    return wall, known, "pid" in namespaces


def _shift_addresses(seed: int) -> None:
    """Keeps objects of every small size, so many as the seed says, so that the next ones lie elsewhere.

    The kernel chooses the first digits of an address; the last five would be the same in every zygote.
    """
    draw = random.Random(f"addresses {seed}").randrange
    for size in range(16, 513, 16):
        make = object if size == 16 else float if size == 32 else functools.partial(bytes, size - 33)
        _KEPT.extend(make() for _ in range(draw(4 * 16_384 // size)))  # up to four of the allocator's pools


def _become_init(sock: socket.socket) -> None:
    """A pid namespace begins with the next child: go on as that child; the one before only waits for it."""
    inner = os.fork()
    if inner == 0:
        jail.die_with_parent()
        return
    sock.close()
    _, status = os.waitpid(inner, 0)
    os._exit(0 if status == 0 else 1)


def _forget_ourselves(package_paths: list[str]) -> None:
    """Programs find neither these modules by name nor a path to them."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "azr_jax"]:
        del sys.modules[name]
    beside = {str(Path(path).parent) for path in package_paths}
    sys.path[:] = [p for p in sys.path if p.startswith((sys.base_prefix, sys.base_exec_prefix)) or p in beside]
    sys.argv[:] = ["program"]
    os.environ.clear()


def _serve(sock: socket.socket, wall: jail.ChildJail, known: dict[str, Any], *, alone: bool, body: Body) -> NoReturn:
    while True:
        try:
            head = sock.recv(child.HEADER.size, socket.MSG_PEEK)
        except OSError:
            os._exit(0)
        if len(head) < child.HEADER.size:
            os._exit(0)  # the trainer is gone
        number, milliseconds = child.HEADER.unpack(head)
        reader, writer = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, _SET_PIPE_SIZE, child.PIPE_BYTES)
        room = fcntl.fcntl(writer, _GET_PIPE_SIZE)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            body(wall, sock, reader, writer, room, milliseconds / 1000, known)
        os.close(writer)
        ended = _await(sock, reader, pid, started + milliseconds / 1000)
        _, status, usage = os.wait4(pid, 0)
        _sweep(alone)
        wall_us = int((time.monotonic() - started) * 1e6)
        if _unread(sock, number):
            ended = LOST  # it died before it took its message: drop that
            sock.recv(1)
        cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
        reply = REPLY.pack(number, ended, os.waitstatus_to_exitcode(status), wall_us, cpu_us, usage.ru_maxrss)
        try:
            sock.sendmsg([reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reader]))])
        except OSError:
            os._exit(0)
        os.close(reader)


def _await(sock: socket.socket, reader: int, pid: int, deadline: float) -> int:
    """Waits for the child's end; kills it at the deadline, and everything if the trainer has gone.

    The end shows as the end of its pipe, which nobody else writes to. A program may close that itself: then it is
    asked for now and then. (A descriptor of the process would do, but some containers refuse `pidfd_open`.)
    """
    poll = select.poll()
    poll.register(reader, 0)  # only that nobody writes any more
    poll.register(sock, 0)  # only that the other side hung up
    looks = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None
            os.kill(pid, signal.SIGKILL)
            return STOPPED if stopped else TIMED_OUT
        if 0 < looks < _YIELDS:
            os.sched_yield()
            events = []
        else:
            events = poll.poll(1000 * (min(left, _LOOK_S) if looks else left))
        if any(descriptor != reader for descriptor, _ in events):
            os.kill(pid, signal.SIGKILL)
            os._exit(0)
        if events:
            poll.unregister(reader)
        if events or looks:
            looks += 1
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return ENDED


def _sweep(alone: bool) -> None:
    """Whatever the child left behind (nothing, while the call filter holds) dies too."""
    if alone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # the first process of a pid namespace reaches all others, and only them
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if alone else os.WNOHANG)[0]:
            pass


def _unread(sock: socket.socket, number: int) -> bool:
    try:
        head = sock.recv(child.HEADER.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return len(head) == child.HEADER.size and child.HEADER.unpack(head)[0] == number


if __name__ == "__main__":
    main()
