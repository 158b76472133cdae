"""Ends this process, with a message that names the culprit, when another process of the run is gone.

A collective that one process never joins waits for ever, and the runtime's own errors speak of sockets. So each
process says every second that it is alive, and looks when the others last did; who has been silent for too long, or
said that it failed, is named, and this process ends with a code for which a supervisor may start it again.

One case is not ours: the first process keeps the coordination service, and when that goes, the runtime aborts the
others within milliseconds. `LastWords` says then what that means.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import threading
import time
import traceback
from typing import Any

import jax

from azr_jax.monitor.watchdog import EXIT_CODE

log = logging.getLogger(__name__)
BEAT_S = 1.0
REFUSED = 2  # a code that says: not again like this
LEFT, OVER = "left", "over"
PLACE = "azr_jax/heartbeat"
GO_ON = "This process ends too; the same command, in all processes, goes on from the last checkpoint."


class Heartbeat:
    def __init__(self, store: Any, index: int, names: list[str], dead_after_s: float):
        self._store, self._index, self._names, self._dead_after_s = store, index, names, dead_after_s
        self._beat_s = min(BEAT_S, dead_after_s / 4)
        self._heard = {who: ("", time.monotonic()) for who in range(len(names)) if who != index}
        self._leaving, self._ending = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """The run is over for this process, and nobody should mind."""
        self._leaving.set()
        self._thread.join()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._store.key_value_set(f"{PLACE}/{self._index}", LEFT, allow_overwrite=True)

    def end_with(self, error: BaseException, code: int | None = None) -> None:
        """Ends this process because of an exception, and tells the others; does not return. With a `code` it is one
        that a user is told in one line.
        """
        if code is not None:
            self._end(f"{self._names[self._index]}: {error}", code=code)
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Perhaps only because somebody else is gone, whom the thread will name.
            time.sleep(self._dead_after_s + 4 * self._beat_s)
        traceback.print_exception(error)
        lines = str(error).strip().splitlines() or [""]
        self._end(f"{self._names[self._index]} failed: {type(error).__name__}: {lines[0][:300]}", code=1)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._leaving.wait(self._beat_s):
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # if the service is gone, so is this process at once
                self._store.key_value_set(f"{PLACE}/{self._index}", str(time.monotonic()), allow_overwrite=True)
                said = {key.rpartition("/")[2]: text for key, text in self._store.key_value_dir_get(f"{PLACE}/")}
                if time.monotonic() - looked > self._dead_after_s / 2:
                    # It was this process that stood still, and it cannot blame anybody for that time.
                    self._heard = {who: (text, time.monotonic()) for who, (text, _) in self._heard.items()}
                looked = time.monotonic()
                self._judge(said)

    def _judge(self, said: dict[str, str]) -> None:
        if OVER in said and not self._ending:  # else it is this process that says it
            code, _, why = said[OVER].partition(" ")
            self._end(why, code=int(code))
        now = time.monotonic()
        for who, (before, since) in list(self._heard.items()):
            text = said.get(str(who), "")
            if text == LEFT:
                del self._heard[who]
            elif text != before:
                self._heard[who] = (text, now)
            elif now - since > self._dead_after_s:
                silent = f"{now - since:.1f} s without a sign of life (watchdog.process_s={self._dead_after_s:g})"
                self._end(f"{self._names[who]} is dead: {silent}", code=EXIT_CODE)

    def _end(self, why: str, *, code: int) -> None:
        self._ending = True
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # somebody was faster, and says it for all
            self._store.key_value_set(f"{PLACE}/{OVER}", f"{code} {why}")
        log.error("%s", why)
        _say(f"error: {why}" if code == REFUSED else f"error: {why}. {GO_ON}")
        if self._index == 0:  # with it goes what the others read the reason from
            time.sleep(4 * self._beat_s)
        # The main thread may wait for a collective that never comes: no cleanup could be waited for.
        os._exit(code)


class LastWords:
    """What is said when the runtime aborts this process because it has lost the coordination service.

    It does that from a thread of its own, by a signal. Python's own handlers run in the main thread, too late; one set
    through C runs in that very thread, before it dies. Aborts for other reasons go on as they would have.
    """

    def __init__(self, address: str, waited: str):
        self._address, self._waited, self._first = address, waited, ""
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        self._set = ctypes.CDLL(None).signal
        self._set.restype = None
        self._set(signal.SIGABRT, self._handler)

    def joined(self, address: str, first: str) -> None:
        """From here on; `first` names the process that keeps the service."""
        self._address, self._first = address, first

    def withdraw(self) -> None:
        self._set(signal.SIGABRT, None)

    def _aborted(self, number: int) -> None:
        answers = self._answers()
        if not self._first and answers:
            _say(f"error: not all processes came {self._waited}; start the same command in every one of them")
        elif not self._first:
            where = f"at --coordinator={self._address}" if self._address else "where the TPU slice says it is"
            _say(f"error: process 0 never answered {where} {self._waited}")
        elif not answers:
            _say(f"error: {self._first} is dead: nothing answers at {self._address}, its coordination service. {GO_ON}")
        else:
            return
        os._exit(EXIT_CODE)

    def _answers(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=2.0).close()
        except (OSError, ValueError):
            return False
        return True


def _say(line: str) -> None:
    os.write(2, f"\n{line}\n".encode(errors="backslashreplace"))
