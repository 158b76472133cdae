"""The clean process that forks one child per program, and nothing else: it never reads a request or a result.

The parent sends two messages per program, over socket pairs that keep message borders: the request, which the child
takes, and after it a word to the zygote (a number and a time limit). When the child has ended or its time is up and it
was killed, the zygote hands the reading end of the child's pipe to the parent. So neither an input nor an output of
one program is ever in the memory that later children are copies of.

One child is forked ahead and waits for the next request: while a program runs on one core, another makes the copy that
the next program will run in.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import json
import os
import posix
import random
import select
import signal
import socket
import struct
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from azr_jax.executor import addresses, child, clock, draws, imports, jail, names, packages, vdso
from azr_jax.executor.values import ALSO

REPLY = struct.Struct("=QBiQQQ")  # request number, how it ended, exit status, wall us, cpu us, peak kilobytes
_DESCRIPTOR = struct.Struct("i")
ENDED, TIMED_OUT, LOST, STOPPED = 0, 1, 2, 3
_YIELDS = 50  # how often something is asked for again at once that cannot be waited for
_LOOK_S = 0.001  # and then at what interval
_LONGEST_LOOK_S = 3_600.0  # `poll` counts milliseconds in 31 bits
_SET_PIPE_SIZE = 1031

_KEPT: list[Any] = []
_now_s = time.monotonic  # the real one, before clocks are shifted


def _preload(settings: dict[str, Any]) -> dict[str, Any]:
    """Imports what programs use, and gives the names that answers may use."""
    known = names.preload() | packages.load(settings["packages"], settings["package_paths"], settings["seed"])
    ALSO.update(packages.plain_forms())
    imports.mend()
    child.warm_up(known)
    os.register_at_fork = posix.register_at_fork  # see link.py
    return known


def main() -> NoReturn:
    """Set up by arguments: the descriptors of two sockets, settings as JSON."""
    control, requests = (_out_of_the_way(int(text)) for text in sys.argv[1:3])
    settings = json.loads(sys.argv[3])
    try:
        wall, known, alone = _set_up((control, requests), settings)
    except BaseException as error:
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    nursery = _Nursery(control, requests, wall, known, child.empty if settings["empty"] else child.main, _Turn())
    _serve(nursery, alone=alone, early=wall.filtered and not settings["empty"])


def _out_of_the_way(descriptor: int) -> socket.socket:
    """The socket under a number that no child's pipe and no program gets."""
    other = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 2 * child.OUTCOMES)
    os.close(descriptor)
    return socket.socket(fileno=other)


def _set_up(
    sockets: tuple[socket.socket, socket.socket], settings: dict[str, Any]
) -> tuple[jail.ChildJail, dict[str, Any], bool]:
    """Jails this process, tests the jail, and says to the parent what holds."""
    jail.die_with_parent()
    with contextlib.suppress(OSError):  # short of memory, the machine ends programs, not the trainer
        Path("/proc/self/oom_score_adj").write_text("1000")
    paths = jail.readable_paths()
    namespaces, refused = jail.enter_namespaces() if settings["namespaces"] else ([], {})
    if "pid" in namespaces:
        _become_init(sockets)
    warnings.simplefilter("ignore")
    clock.shift(settings["seed"])
    vdso.ask_the_kernel()
    known = _preload(settings)
    gc.collect()
    _shift_addresses(settings["seed"])
    draws.fix(settings["seed"])
    addresses.hide(settings["seed"])
    wall = jail.ChildJail(settings["memory_mb"])  # reads /proc, which is gone after the next line
    layers, missing = jail.enter_zygote(paths, namespaces, settings["package_paths"])
    wall.limit_zygote()
    held = jail.probe(wall, settings["outside"])
    layers += ["rlimits", "seccomp"] if wall.filtered else ["rlimits"]
    missing |= {} if wall.filtered else {"seccomp": "the call filter does not hold"}
    _forget_ourselves(settings["package_paths"])
    gc.freeze()  # what is here now is no child's to collect: to look at it would copy it
    sockets[0].send(json.dumps({"layers": layers, "held": held, "missing": refused | missing}).encode())
    return wall, known, "pid" in namespaces


def _shift_addresses(seed: int) -> None:
    """Keeps objects of every small size, so many as the seed says, so that the next ones lie elsewhere.

    The kernel chooses the first digits of an address; the last five would be the same in every zygote.
    """
    draw = random.Random(f"addresses {seed}").randrange
    for size in range(16, 513, 16):
        make = object if size == 16 else float if size == 32 else functools.partial(bytes, size - 33)
        _KEPT.extend(make() for _ in range(draw(4 * 16_384 // size)))  # up to four of the allocator's pools


def _become_init(sockets: tuple[socket.socket, ...]) -> None:
    """A pid namespace begins with the next child: go on as that child; the one before only waits for it."""
    inner = os.fork()
    if inner == 0:
        jail.die_with_parent()
        return
    for sock in sockets:
        sock.close()
    _, status = os.waitpid(inner, 0)
    os._exit(0 if status == 0 else 1)


def _forget_ourselves(package_paths: list[str]) -> None:
    """Programs find neither these modules by name nor a path to them."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "azr_jax"]:
        del sys.modules[name]
    beside = {str(Path(path).parent) for path in package_paths}
    ours = str(Path(__file__).resolve().parents[2])  # of an installed package: the folder of all that is installed
    library = (sys.base_prefix, sys.base_exec_prefix)
    sys.path[:] = [p for p in sys.path if (p.startswith(library) and p != ours) or p in beside]
    sys.argv[:] = ["program"]
    os.environ.clear()


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    reader: int  # the end of its pipe that the parent is handed
    end: int  # a descriptor that says when it has ended; without `pidfd_open` the pipe, which says when it let go

    def state(self) -> int:
        """How it ended, or that it is stopped; 0 while it runs. (To ask about stops alone fails once it has ended.)"""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return 0 if found is None else found.si_code

    def close(self) -> None:
        for descriptor in {self.reader, self.end}:
            os.close(descriptor)


@dataclass(slots=True)
class _Turn:
    """What the zygote knows of its request and its children. A child is to know nothing of it: times, numbers and how
    busy the machine is would tell it of chance, by way of the frames that it runs in.
    """

    number: int = 0
    began: float = 0.0
    deadline: float = 0.0
    ahead: bool = False  # the next child is to be forked while this one runs
    running: _Child | None = None
    waiting: _Child | None = None  # forked ahead

    def forget(self) -> None:
        """In a child: it lets go of what belongs to the one that runs already."""
        if self.running is not None:
            self.running.close()
        self.number, self.began, self.deadline, self.ahead, self.running, self.waiting = 0, 0.0, 0.0, False, None, None


@dataclass(frozen=True, slots=True)
class _Nursery:
    """Where children come from, all of them copies of this process as it is now."""

    control: socket.socket
    requests: socket.socket
    wall: jail.ChildJail
    known: dict[str, Any]
    body: child.Body
    turn: _Turn

    def fork(self) -> _Child:
        """A child that waits for a request."""
        reader, writer, pipe = _channel()
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        if pid == 0:
            os.close(reader)
            self.turn.forget()
            self.control.close()
            self.wall.wait(zygote)
            os.dup2(writer, child.OUTCOMES, inheritable=False)  # a number that a program sees, hence always the same
            os.close(writer)
            del reader, writer, zygote, pid
            self.body(self.wall, self.requests, pipe, self.known)
        os.close(writer)
        return _Child(pid, reader, _watched(pid, reader))

    def begin(self) -> None:
        """Waits for the word on the next request. Ends with the trainer."""
        try:
            head = self.control.recv(child.HEADER.size)
        except OSError:
            os._exit(0)
        if len(head) < child.HEADER.size:
            os._exit(0)  # the trainer is gone
        turn = self.turn
        turn.number, milliseconds, _, how = child.HEADER.unpack(head)
        turn.began, turn.ahead = _now_s(), bool(how & child.AHEAD)
        turn.deadline = turn.began + milliseconds / 1000

    def taken(self) -> bool:
        """Whether the running child has its request by now, so that the next one cannot take it."""
        looks = 0
        while self.unread():
            looks += 1
            if looks > _YIELDS:
                return False
            os.sched_yield()
        return True

    def fits(self) -> bool:
        """Not if the one that waits was killed or stopped before it had a request; it may also have ended already."""
        waiting = self.turn.waiting
        if waiting is None:
            return False
        if not (waiting.state() and self.unread()):
            return True
        self.drop(waiting)
        return False

    def unread(self) -> bool:
        """Whether nobody has taken the request."""
        try:
            head = self.requests.recv(child.HEADER.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return len(head) == child.HEADER.size and child.HEADER.unpack(head)[0] == self.turn.number

    @staticmethod
    def drop(waiting: _Child) -> None:
        os.kill(waiting.pid, signal.SIGKILL)
        os.waitpid(waiting.pid, 0)
        waiting.close()


def _channel() -> tuple[int, int, child.Pipe]:
    """What a child's lines go through: the end to read, the end to write, and who writes there.

    A user without CAP_SYS_RESOURCE has 16,384 pages of pipes, the share of some sixty zygotes, and a page or two in
    each one beyond: then it is a pair of sockets, which are counted elsewhere. They are dearer by 8 us.
    """
    reader, writer = os.pipe()
    try:
        room = fcntl.fcntl(writer, _SET_PIPE_SIZE, child.PIPE_BYTES)
        return reader, writer, child.Pipe(child.OUTCOMES, room)
    except OSError:
        os.close(reader)
        os.close(writer)
    end, other = socket.socketpair()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, child.PIPE_BYTES // 2)  # the kernel doubles it
    room = other.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return end.detach(), other.detach(), child.Sockets(child.OUTCOMES, room)


def _watched(pid: int, reader: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # some containers refuse it
        return reader


def _serve(nursery: _Nursery, *, alone: bool, early: bool) -> NoReturn:
    turn = nursery.turn
    while True:
        if early and turn.waiting is None:
            turn.waiting = nursery.fork()
        nursery.begin()
        # Every child is forked from here: one made a call deeper would have a frame less until RecursionError.
        turn.running = turn.waiting if nursery.fits() else nursery.fork()
        turn.waiting = None
        with contextlib.suppress(OSError):  # no room for another process
            turn.waiting = nursery.fork() if early and turn.ahead and nursery.taken() else None
        _end(nursery, alone=alone)


def _end(nursery: _Nursery, *, alone: bool) -> None:
    """Waits for the child's end and tells the trainer of it."""
    turn, running = nursery.turn, nursery.turn.running
    assert running is not None
    if alone and turn.waiting is not None and turn.waiting.pid > running.pid + 1:
        os.kill(-1, signal.SIGKILL)  # a number is missing: somebody else has forked in here, and nobody may
    ended = _await(nursery.control, running, turn.deadline)
    _, status, usage = os.wait4(running.pid, 0)
    if turn.waiting is None or status != 0:
        if turn.waiting is not None:
            nursery.drop(turn.waiting)
            turn.waiting = None
        _sweep(alone)
    wall_us = int((_now_s() - turn.began) * 1e6)
    if nursery.unread():
        ended = LOST  # it died before it took its message: drop that
        nursery.requests.recv(1)
    cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
    reply = REPLY.pack(turn.number, ended, os.waitstatus_to_exitcode(status), wall_us, cpu_us, usage.ru_maxrss)
    try:
        handed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(running.reader))]
        nursery.control.sendmsg([reply], handed)
    except OSError:
        os._exit(0)
    running.close()
    turn.running = None


def _await(control: socket.socket, running: _Child, deadline: float) -> int:
    """Waits for the child's end; kills it at the deadline, and everything if the trainer has gone.

    Where only the end of its pipe can be watched, the program may have closed that itself: then it is asked for now
    and then.
    """
    poll = select.poll()
    poll.register(running.end, select.POLLIN if running.end != running.reader else 0)  # 0: nobody writes any more
    poll.register(control, 0)  # only that the other side hung up
    looks = 0
    while True:
        left = deadline - _now_s()
        if left <= 0:
            found = running.state()
            if found == os.CLD_STOPPED or not found:
                os.kill(running.pid, signal.SIGKILL)
            return ENDED if found not in (0, os.CLD_STOPPED) else STOPPED if found else TIMED_OUT
        if 0 < looks < _YIELDS:
            os.sched_yield()
            events = []
        else:
            events = poll.poll(1000 * (min(left, _LOOK_S) if looks else min(left, _LONGEST_LOOK_S)))
        if any(descriptor != running.end for descriptor, _ in events):
            os.kill(running.pid, signal.SIGKILL)
            os._exit(0)
        if events and running.end != running.reader:
            return ENDED
        if events:
            poll.unregister(running.end)
        if events or looks:
            looks += 1
            if running.state() not in (0, os.CLD_STOPPED):
                return ENDED


def _sweep(alone: bool) -> None:
    """Whatever the child left behind (nothing, while the call filter holds) dies too."""
    if alone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # the first process of a pid namespace reaches all others, and only them
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if alone else os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
