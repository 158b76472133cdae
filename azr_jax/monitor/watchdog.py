"""Watches a run from a thread of its own: when a stage takes longer than its deadline, it says what is waited for.

    watchdog = Watchdog(workdir, on_expiry="continue")
    watchdog.waiting_for("executor", executor.pending)     # who can name what is under way
    watchdog.expect_alive("sandbox", lambda: processes.alive(pid))   # who must not die
    watchdog.watch_children(60.0)                          # how long a dead process of ours may go unnoticed
    with watchdog.stage("play", deadline_s=1800): ...

On expiry, on a death, and on SIGUSR1 it writes the stacks of all threads, the stages under way and everything that is
being waited for to <workdir>/watchdog.txt and to stderr. It works while the main thread hangs in a lock or in C code
that lets other threads run; for a hang that does not (one that holds the interpreter's lock) faulthandler, which needs
no interpreter, writes the stacks a little later. It does not look into other machines: each process has its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from azr_jax.monitor import processes

POLL_S = 0.5  # how soon after its deadline a stage is named, at the latest
GRACE_S = 30.0  # after the deadline, before faulthandler writes what this thread could not
EXIT_CODE = 86  # of a process ended by its watchdog, so that a supervisor can tell and start it again
ITEMS_SHOWN = 50
ON_EXPIRY = ("continue", "end")


@dataclass(eq=False)
class WatchedStage:
    name: str
    deadline_s: float
    began: float = field(default_factory=time.monotonic)
    told: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Watchdog:
    """`on_expiry`: continue (say it once per stage and go on waiting) | end (say it, then end this process)."""

    def __init__(self, workdir: Path, process: int = 0, *, on_expiry: str = "continue", poll_s: float = POLL_S):
        if on_expiry not in ON_EXPIRY:
            raise ValueError(f"watchdog.on_expiry={on_expiry!r}: should be one of {' | '.join(ON_EXPIRY)}")
        self.path = workdir / (f"watchdog_{process}.txt" if process else "watchdog.txt")
        self._on_expiry, self._poll_s = on_expiry, poll_s
        self._stages: list[WatchedStage] = []
        self._waiting: dict[str, Callable[[], Sequence[str]]] = {}
        self._alive: dict[str, Callable[[], bool]] = {}
        self._dead: set[str] = set()
        self._children_s = float("inf")
        self._next_look = float("inf")  # at the children
        self._died: dict[int, float] = {}  # children seen dead, and when first; infinite once told about
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace")
        # Signals are passed on as bytes through this pair by the interpreter's C code, even when the main thread hangs.
        self._wake, self._signalled = socket.socketpair()
        self._wake.setblocking(False)
        self._signalled.settimeout(poll_s)
        self._before: tuple[int, object] | None = None
        self._closing = False
        self._arming = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    # --- what to watch

    @contextlib.contextmanager
    def stage(self, name: str, deadline_s: float) -> Iterator[None]:
        """Stages may lie within each other; each has its own deadline."""
        stage = WatchedStage(name, deadline_s)
        self._stages.append(stage)
        self._arm()
        try:
            yield
        finally:
            self._stages.remove(stage)
            self._arm()

    def waiting_for(self, name: str, pending: Callable[[], Sequence[str]]) -> None:
        """`pending` names what is under way; called from the watchdog's thread, it must not take locks for long."""
        self._waiting[name] = pending

    def expect_alive(self, name: str, alive: Callable[[], bool]) -> None:
        """`alive` turns False when something that the run needs has died; it is asked every `poll_s`."""
        self._alive[name] = alive

    def watch_children(self, deadline_s: float) -> None:
        """Names a process started by this one that has been dead for so long without anybody waiting for it."""
        self._children_s, self._next_look = deadline_s, 0.0

    def listen(self) -> None:
        """SIGUSR1 writes the same report on demand. To be called from the main thread."""
        handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        self._before = (signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False), handler)

    def close(self) -> None:
        self._closing = True
        faulthandler.cancel_dump_traceback_later()
        if self._before is not None:
            signal.set_wakeup_fd(self._before[0])
            signal.signal(signal.SIGUSR1, self._before[1])  # type: ignore[arg-type]
        self._thread.join()
        self._wake.close()
        self._signalled.close()
        self._file.close()

    # --- the thread

    def _watch(self) -> None:
        while not self._closing:
            try:
                received = self._signalled.recv(64)
            except TimeoutError:
                received = b""
            if signal.SIGUSR1 in received:
                self.tell("asked for by SIGUSR1")
            for stage in [s for s in self._stages if s.seconds > s.deadline_s and not s.told]:
                stage.told = True
                self._expired(
                    f"stage {stage.name} has taken {stage.seconds:.1f} s, its deadline is {stage.deadline_s:g} s"
                )
            for name in [
                name for name, alive in list(self._alive.items()) if name not in self._dead and not _ask(alive)
            ]:
                self._dead.add(name)
                self._expired(f"process {name} is dead")
            if time.monotonic() >= self._next_look:
                self._look_at_children()

    def _look_at_children(self) -> None:
        now = time.monotonic()
        self._next_look = now + max(self._poll_s, self._children_s / 8)
        dead = {child.pid: child for child in processes.children() if child.dead}
        self._died = {pid: self._died.get(pid, now) for pid in dead}
        for pid, since in list(self._died.items()):
            if now - since > self._children_s:
                self._died[pid] = float("inf")
                self._expired(f"{dead[pid]}, and nobody has noticed for {now - since:.1f} s")

    def _expired(self, reason: str) -> None:
        self.tell(reason)
        if self._on_expiry == "end":
            # The main thread may never run again: no cleanup could be waited for.
            os._exit(EXIT_CODE)

    def tell(self, reason: str) -> str:
        """Writes the whole report and returns it."""
        text = "\n".join([f"==== watchdog {time.strftime('%Y-%m-%d %H:%M:%S')}: {reason}", *self._report(), ""])
        for file in (self._file, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a full disk or a closed stderr must not silence the other
                file.write(text if file is self._file else text.encode("ascii", "backslashreplace").decode())
                file.flush()
        return text

    def _report(self) -> Iterator[str]:
        for stage in list(self._stages):
            yield f"stage {stage.name}: {stage.seconds:.1f} s of {stage.deadline_s:g} s"
        for name, pending in list(self._waiting.items()):
            try:
                items = list(pending())
            except Exception as error:  # the report goes on without it: it is needed most when things are broken
                yield f"waiting for {name}: cannot be asked: {error!r}"
                continue
            yield f"waiting for {name}: {len(items) or 'nothing'}"
            yield from (f"  {_plain(item)}" for item in items[:ITEMS_SHOWN])
        yield from map(_plain, processes.children())
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident == threading.get_ident():
                continue
            yield f"thread {names.get(ident, ident)}:"
            yield from ("  " + line for part in traceback.format_stack(frame) for line in part.rstrip().splitlines())

    def _arm(self) -> None:
        """The last resort, for the stage that is due first among those not yet told about."""
        with self._arming:
            left = [stage.deadline_s - stage.seconds for stage in self._stages if not stage.told]
            if left:
                seconds = max(0.1, min(left) + GRACE_S)
                faulthandler.dump_traceback_later(seconds, exit=self._on_expiry == "end", file=self._file)
            else:
                faulthandler.cancel_dump_traceback_later()


def _ask(alive: Callable[[], bool]) -> bool:
    try:
        return alive()
    except Exception:  # what cannot answer any more is as good as dead
        return False


def _plain(item: object, chars: int = 300) -> str:
    """One printable line: programs and prompts of the model may be among what is waited for."""
    text = str(item)
    shown = "".join(c if c.isprintable() else " " for c in text[:chars])
    return shown if len(text) <= chars else f"{shown} ... ({len(text)} characters)"
