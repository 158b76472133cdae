"""The trainer's end of one zygote: start it, send it a request, take a result, kill it."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from azr_jax.executor import zygote
from azr_jax.executor.cases import ChildRequest, Result, read_lines
from azr_jax.executor.child import AHEAD, HEADER, NOT_ITS_FAULT, PIPE_BYTES, REAL_TIME, REQUEST_BYTES
from azr_jax.executor.installed import ONE_THREAD
from azr_jax.executor.jail import interpreter

# Without the C module, `datetime` is plain Python and goes by the zygote's shifted clock; and so must `zoneinfo` be.
# `random` wants to be told of forks, to draw a new state in each child: there are enough of those as it is.
_BOOT = (
    "import os, sys; os.register_at_fork = lambda **_: None; sys.path.insert(0, {root!r}); "
    "sys.modules['_datetime'] = sys.modules['_zoneinfo'] = None; "
    "from azr_jax.executor.zygote import main; main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])
_GRACE_S = 5.0  # beyond the time limit, before a zygote that does not answer counts as dead
_START_S = 60.0
_ONE_DESCRIPTOR = socket.CMSG_SPACE(array.array("i").itemsize)
_READ_BYTES = 1 << 14  # more than most children write; a larger buffer is mapped and unmapped for every read


@dataclass(frozen=True, slots=True)
class ZygoteSettings:
    memory_mb: int = 512  # of one program, beyond the interpreter's own
    namespaces: bool = True
    packages: tuple[str, ...] = ()  # that programs may import beside the standard library
    package_paths: tuple[str, ...] = ()  # their files
    empty: bool = False  # children that do nothing: what benchmarks measure the rest against


class Lost(Exception):
    """The zygote is gone or does not speak as it should; it has to be replaced."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A result, and what it cost."""

    result: Result
    cpu_s: float


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended, and the pipe with its lines: read apart, so that the zygote can have its next request."""

    descriptor: int
    most_lines: int
    ended: int
    status: int
    wall_us: int
    cpu_us: int
    peak_kb: int

    def read(self) -> Reply:
        """To be called once: closes the pipe."""
        try:
            data = _drain(self.descriptor)
        finally:
            os.close(self.descriptor)
        lines, closed = read_lines(data, self.most_lines + 1)
        begun = bool(lines) and lines[0][0] == "begun"
        lines, end, detail = lines[begun:], "done", ""
        if self.ended == zygote.TIMED_OUT or self.status == -signal.SIGXCPU:
            end = "timeout"
        elif self.ended in (zygote.LOST, zygote.STOPPED) or self.status == -signal.SIGKILL:
            end, detail = "killed", "from outside"  # a program can do neither to itself
        elif self.status == NOT_ITS_FAULT and not begun:
            end, detail = "starved", "no memory to begin with"
        elif self.status != 0 or not closed:
            end, detail = "crashed", f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"
        result = Result(end, lines, detail, self.wall_us / 1e6, size=len(data))
        return Reply(result, self.cpu_us / 1e6)


class Link:
    """One zygote process. Not thread-safe: the pool's thread owns it."""

    def __init__(self, seed: int, settings: ZygoteSettings) -> None:
        self.seed = seed
        self.greeted = False  # has said what walls it has
        self.layers: list[str] = []
        self.held: list[str] = []  # what the probe still managed to do
        self.missing: dict[str, str] = {}  # layers that are not in force, and why
        self.ready = False  # has run a first program too: set by its owner
        self._inner = 0  # the process that forks, where that is a child of the one started here
        self._number = 0
        self._most_lines = 0
        self._due = time.monotonic() + _START_S
        self.sock, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * REQUEST_BYTES)
        theirs = (control.fileno(), requests.fileno())
        outside = next((p for p in ("/etc/passwd", "/etc/hosts", "/etc/group") if Path(p).is_file()), __file__)
        told = json.dumps({"seed": seed, "outside": outside, **asdict(settings)})
        command = [*interpreter(), "-c", _BOOT.format(root=_ROOT), *map(str, theirs), told]
        environment = {"PYTHONHASHSEED": str(seed), "PYTHONUTF8": "1", **(ONE_THREAD if settings.packages else {})}
        try:
            with control, requests:
                self.process = subprocess.Popen(
                    command,
                    env=environment,
                    cwd="/",
                    pass_fds=theirs,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except BaseException:
            self.sock.close()
            self._requests.close()
            raise

    def send(self, request: ChildRequest, seconds: float, *, ahead: bool = True) -> None:
        """The request, how long it may take this time, and whether the next child is to be forked meanwhile."""
        self._number += 1
        self._due = time.monotonic() + seconds + _GRACE_S
        self._most_lines = request.lines
        how = (REAL_TIME if request.real_time else 0) | (AHEAD if ahead else 0)
        head = HEADER.pack(self._number, int(seconds * 1000), int(request.timeout_s * 1000), how)
        try:
            if len(request.body) <= REQUEST_BYTES:
                self._requests.send(head + request.body, socket.MSG_DONTWAIT)
            else:
                self._send_as_file(head, request.body)
            self.sock.send(head, socket.MSG_DONTWAIT)
        except OSError as error:
            raise Lost(str(error)) from None

    def _send_as_file(self, head: bytes, body: bytes) -> None:
        """More than a message holds: the message is the head alone, with a file in memory that the child reads."""
        descriptor = os.memfd_create("request", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            file.seek(0)
            handed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            self._requests.sendmsg([head], handed, socket.MSG_DONTWAIT)

    def receive(self) -> ChildEnd | None:
        """The answer that has arrived; None when it was the zygote's word on its walls."""
        if not self.greeted:
            self._greet()
            return None
        try:
            data, ancillary, _, _ = self.sock.recvmsg(zygote.REPLY.size, _ONE_DESCRIPTOR)
        except OSError as error:
            raise Lost(str(error)) from None
        descriptors = array.array("i")
        for _, _, sent in ancillary:
            descriptors.frombytes(sent[: len(sent) - len(sent) % descriptors.itemsize])
        try:
            number, *ending = zygote.REPLY.unpack(data)
            if number != self._number or len(descriptors) != 1:
                raise Lost("the zygote answered out of turn")
            return ChildEnd(descriptors.pop(), self._most_lines, *ending)
        except struct.error:
            raise Lost("the zygote ended") from None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _greet(self) -> None:
        try:
            word = json.loads(self.sock.recv(65_536))
            if "failed" in word:
                raise Lost(f"the zygote did not start: {word['failed']}")
            self.layers, self.held, self.missing = word["layers"], word["held"], word["missing"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Lost(f"the zygote did not start: {error}") from None
        self.greeted = True

    def stopped(self) -> bool:
        """Whether somebody has stopped the process: then no deadline of its own ends what it runs."""
        if "pid" in self.layers:  # else its children are those that run programs
            self._inner = self._inner or _child_of(self.process.pid)
        return any(_state(process) in "Tt" for process in (self.process.pid, self._inner) if process)

    @property
    def overdue(self) -> bool:
        return time.monotonic() > self._due

    def rest(self) -> None:
        """Nothing is asked of it now, so nothing is due."""
        self._due = float("inf")

    def kill(self) -> None:
        """The zygote and, by its pid namespace or the parent-death signal, everything below it."""
        self.sock.close()
        self._requests.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _child_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def _state(process: int) -> str:
    """One letter; a blank where it cannot be known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return " "


def _drain(descriptor: int) -> bytes:
    """What the child left in its pipe. Never waits: a writer that still lives is none of ours."""
    os.set_blocking(descriptor, False)
    parts: list[bytes] = []
    left = PIPE_BYTES
    while left > 0:
        try:
            part = os.read(descriptor, min(left, _READ_BYTES))
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
