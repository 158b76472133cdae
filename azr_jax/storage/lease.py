"""One owner of a workdir in a bucket: an object that says who it is, rewritten every few seconds.

Each write names the generation it replaces, so of two processes that want the workdir one gets it. An owner is dead
when the object has not changed for DEAD_AFTER_S by the clock of whoever waits: clocks need not agree. On the owner's
own machine it is dead as soon as its process is. An owner that was only stopped for so long finds another name in the
object before it writes the next time, and ends. Each owner has a term, one more than the last one's (spans.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from azr_jax.storage import owner, spans
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import Changed, StorageError

NAME = "owner.json"
ALIVE_EVERY_S = 10.0
DEAD_AFTER_S = 60.0


class Taken(StorageError):
    """Another process is the owner, or has become it."""


class BucketLease:
    """`with BucketLease(bucket) as lease:` ... `lease.check()` before something is written."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        name: str = NAME,
        alive_every_s: float = ALIVE_EVERY_S,
        dead_after_s: float = DEAD_AFTER_S,
    ):
        """`name` is the object's."""
        self._name = name
        self._bucket, self._alive_every_s, self._dead_after_s = bucket, alive_every_s, dead_after_s
        self._done = threading.Event()
        self._lock = threading.Lock()  # of the generation: two threads write the object
        self._me = owner.myself() | {"began": _began(os.getpid()), "machine": _machine()}
        self.term, self._generation = self._take()
        self._thread = threading.Thread(target=self._stay, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> BucketLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self, *, forget: bool = False) -> None:
        """The workdir is free. The object stays, for the term, but `forget`: as if nobody had ever been there. That of
        an owner that came after is left as it is.
        """
        self._done.set()
        self._thread.join()
        with contextlib.suppress(StorageError):
            self._write({"term": self.term})
            if forget:
                self._bucket.delete([self._name], generation=self._generation)

    def check(self) -> None:
        """Asks the bucket: Taken where another process owns the workdir by now."""
        now = _read(self._bucket, self._name)[0]
        if now.get("token") != self._me["token"]:
            raise Taken(owner.taken_over(self._bucket.url, now))

    def _take(self) -> tuple[int, int]:
        """(term, generation)"""
        before, generation = _read(self._bucket, self._name)
        if before.get("token") and not self._is_dead_here(before):
            until = time.monotonic() + self._dead_after_s
            while time.monotonic() < until:
                time.sleep(min(1.0, self._dead_after_s / 10))
                now, now_generation = _read(self._bucket, self._name)
                if not now.get("token"):
                    break
                if now_generation != generation:
                    raise self._refusal(now)
            before, generation = _read(self._bucket, self._name)
        term = self._last_term(before) + 1
        try:
            return term, self._bucket.write(self._name, self._text({"term": term} | self._me), generation=generation)
        except Changed:  # another one was faster
            raise self._refusal(_read(self._bucket, self._name)[0]) from None

    def _last_term(self, before: dict[str, Any]) -> int:
        """Where the object was deleted or damaged by hand, the highest that anything was written with: what is written
        with a lower one is passed over.
        """
        if isinstance(before.get("term"), int):
            return before["term"]
        written = (spans.parse(each.name) for each in self._bucket.list()[0])
        return max((span.term for span in written if span), default=0)

    def _is_dead_here(self, other: dict[str, Any]) -> bool:
        return other.get("machine") == self._me["machine"] and other.get("began") != _began(other.get("process"))

    def _refusal(self, now: dict[str, Any]) -> Taken:
        return Taken(owner.refusal(self._bucket.url, now, DEAD_AFTER_S))

    def _text(self, state: dict[str, Any]) -> bytes:
        return json.dumps(state).encode()

    def _write(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._generation = self._bucket.write(self._name, self._text(state), generation=self._generation)

    def _stay(self) -> None:
        signs_of_life = 0
        while not self._done.wait(self._alive_every_s):
            signs_of_life += 1
            try:
                self._write({"term": self.term} | self._me | {"signs_of_life": signs_of_life})
            except Changed:
                if not self._is_mine():  # check() says so
                    return
            except StorageError:  # a bucket that is away for a moment
                continue

    def _is_mine(self) -> bool:
        """Of an object that is not as it was left: it is, where the answer to the last write never came."""
        try:
            now, generation = _read(self._bucket, self._name)
        except StorageError:
            return True  # it is looked at again
        mine = now.get("token") == self._me["token"]
        with self._lock:
            self._generation = generation if mine else self._generation
        return mine


def _read(bucket: Bucket, name: str) -> tuple[dict[str, Any], int]:
    """What the object says, and its generation; nothing and 0 where there is none."""
    there = bucket.stat(name)
    text = None if there is None else bucket.read(name)
    if there is None or text is None:
        return {}, 0
    try:
        found = json.loads(text)
    except ValueError:
        found = {}
    return (found if isinstance(found, dict) else {}), there.generation


def _machine() -> str:
    """The same for all processes that see each other by number: one kernel, and one container of it."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return secrets.token_hex(8)


def _began(process: object) -> str:
    """When a process of this machine began; a number alone may be another's by now. Empty where there is none."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    return ""
