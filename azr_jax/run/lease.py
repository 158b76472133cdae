"""Who writes into a workdir: one process at a time, known by name.

The owner holds a lock on `owner.json` and writes there every few seconds that it is alive. A second start learns who it
is and is refused. The lock ends with its process, so on one machine a run that was killed can go on at once. Other
machines may not see the lock: an owner there is dead once it has not written for DEAD_AFTER_S, by the clock of whoever
waits, so clocks need not agree. An owner that was only stopped for so long finds another name in the file before it
writes the next time, and ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from azr_jax.config.schema import ConfigError
from azr_jax.storage import owner
from azr_jax.storage.lease import Taken

FILE = "owner.json"
ALIVE_EVERY_S = 5.0
DEAD_AFTER_S = 30.0
_LENGTH = 512  # every state of the file is so long: one write, never half old and half new


class Lease:
    """`with Lease(folder) as lease:` ... `lease.check()` before something is written.

    Raises ConfigError where another process is the owner, and Taken, in this process alone, where one has become it.
    """

    def __init__(
        self, folder: Path, *, alive_every_s: float = ALIVE_EVERY_S, dead_after_s: float = DEAD_AFTER_S
    ) -> None:
        self.folder, self._alive_every_s = folder, alive_every_s
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._done = threading.Event()
        self._me = owner.myself() | {"machine": _machine()}
        try:
            self._take(dead_after_s)
        except BaseException:
            os.close(self._file)
            raise
        self._thread = threading.Thread(target=self._stay, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self, *, forget: bool = False) -> None:
        """The workdir is free; `forget`: as if nobody had ever been there. The file of an owner that came after is left
        as it is.
        """
        self._done.set()
        self._thread.join()
        if _read(self._file).get("token") == self._me["token"]:
            if forget:
                (self.folder / FILE).unlink(missing_ok=True)
            else:
                os.pwrite(self._file, b"\n".rjust(_LENGTH), 0)
        os.close(self._file)

    def check(self) -> None:
        now = _read(self._file)
        if now.get("token") != self._me["token"]:
            raise Taken(owner.taken_over(self.folder, now))

    def _take(self, dead_after_s: float) -> None:
        locks = True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(_read(self._file)) from None
        except OSError:  # a file system without locks
            locks = False
        if not os.fstat(self._file).st_nlink:  # whoever was refused here took it away a moment ago
            raise self._refusal({})
        before = _read(self._file)
        # Of this machine, and without its lock: it is gone. Of another: does it still write?
        if before and not (locks and before.get("machine") == self._me["machine"]):
            until = time.monotonic() + dead_after_s
            while time.monotonic() < until and (now := _read(self._file)):
                if now != before:
                    raise self._refusal(now)
                time.sleep(min(0.2, dead_after_s / 10))
        self._write(0)

    def _refusal(self, now: dict[str, Any]) -> ConfigError:
        return ConfigError([owner.refusal(self.folder, now, DEAD_AFTER_S)])

    def _write(self, signs_of_life: int) -> None:
        text = json.dumps(self._me | {"signs_of_life": signs_of_life})
        os.pwrite(self._file, text.ljust(_LENGTH - 1).encode() + b"\n", 0)

    def _stay(self) -> None:
        signs_of_life = 0
        while not self._done.wait(self._alive_every_s):
            with contextlib.suppress(OSError):  # a disk that is away for a moment
                if _read(self._file).get("token") != self._me["token"]:
                    return
                signs_of_life += 1
                self._write(signs_of_life)


def _read(file: int) -> dict[str, Any]:
    """Empty where nobody is the owner."""
    try:
        found = json.loads(os.pread(file, _LENGTH, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """The same for all processes that see each other's locks: containers of one kernel do."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()
