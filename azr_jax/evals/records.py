"""What an evaluation leaves on disk: one settings file, and one JSON line per judged sample and suite.

An interrupted evaluation goes on from these lines. Several processes may share a folder, each with the rows of its own
shard and files of its own; whoever reads, reads all of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from azr_jax.monitor.jsonl import JsonLines, read
from azr_jax.storage.bucket import is_bucket, open_bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.lease import BucketLease, Taken
from azr_jax.storage.mirror import Mirror

JUDGE_FAILED = "judge failed"  # nothing is known of the sample: it is judged again when the command is run again


class OtherSettings(ValueError):
    """The folder holds results that were made in another way."""


SEND_EVERY_S = 10.0


@dataclass
class Results:
    """`Results.at(...)` also takes a gs:// address: the folder is then this process's own, which the bucket follows."""

    folder: Path
    shard: tuple[int, int] = (0, 1)  # this process's number, and how many there are
    done: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # of each suite: (row, sample)
    place: str = ""  # where they are, for people
    _lock: IO[str] | None = None
    _mirror: Mirror | None = None
    _lease: BucketLease | None = None
    _sent_s: float = 0.0

    @classmethod
    def at(cls, place: str, shard: tuple[int, int]) -> Results:
        """Raises StorageError, or OtherSettings where another process has this shard there."""
        if not is_bucket(place):
            return cls(Path(place), shard, place=place)
        bucket, (number, count) = open_bucket(place), shard
        try:
            lease = BucketLease(bucket, name=f"locks/{number}of{count}")
        except Taken as error:
            raise OtherSettings(f"--out={place}: another process is at work on shard {number}/{count}") from error
        mirror = Mirror(bucket, term=lease.term, may_write=lease.check, grows=lambda name: name.endswith(".jsonl"))
        mirror.pull()
        return cls(mirror.folder, shard, place=place, _mirror=mirror, _lease=lease)

    def send(self, *, at_least_s: float = 0.0) -> None:
        """What is new, into the bucket, where it is one; and what other shards have sent, from it."""
        if self._mirror is not None and time.monotonic() - self._sent_s >= at_least_s:
            self._mirror.publish()
            if not at_least_s:
                self._mirror.pull()
            self._sent_s = time.monotonic()

    def open(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder, or checks that what it holds was made with the same settings."""
        path = self.folder / "settings.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        number, count = self.shard
        self._lock = (self.folder / f"{number}of{count}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OtherSettings(
                f"--out={self.place or self.folder}: another process is at work on shard {number}/{count}"
            ) from None
        if any(each.stat().st_size for each in self.folder.glob("*.jsonl")) and path.exists():
            before = self._json(path)
            changed = [
                f"{name}: {before.get(name)!r} there, {settings.get(name)!r} asked for"
                for name in sorted({*before, *settings})
                if before.get(name) != settings.get(name)
            ]
            if changed:
                raise OtherSettings(
                    f"--out={self.place or self.folder}: holds other results ({'; '.join(changed)}); give another --out"
                )
            return
        part = path.with_name(f"settings.{os.getpid()}.part")
        part.write_text(json.dumps(dict(settings), indent=1) + "\n")
        part.replace(path)

    def open_suite(self, suite: str, digest: str) -> None:
        """Reads what is done of a suite; a line that was cut off in the middle is taken away and done again."""
        own = self._own(suite)
        if own.path.exists():
            own.cut(own.path.read_bytes().rfind(b"\n") + 1)
        self.done[suite] = set()
        for line in self.lines(suite):
            if line["data"] != digest:
                raise OtherSettings(f"{self.folder}: {suite} was measured on other data ({line['data']}, now {digest})")
            if line["reason"] != JUDGE_FAILED:
                self.done[suite].add((line["id"], line["sample"]))

    def add(self, suite: str, line: Mapping[str, Any]) -> None:
        key = (line["id"], line["sample"])
        if key not in self.done[suite]:
            self.done[suite].add(key)
            self._own(suite).append(line)
            self.send(at_least_s=SEND_EVERY_S)

    def lines(self, suite: str) -> list[dict[str, Any]]:
        """Of all shards, each sample once; what could not be judged gives way to a later verdict."""
        found = {}
        for path in sorted(self.folder.glob(f"{suite}.*of*.jsonl")):
            try:
                for line in read(path):
                    key = (line["id"], line["sample"])
                    if key not in found or found[key]["reason"] == JUDGE_FAILED:
                        found[key] = line
            except (ValueError, KeyError, TypeError) as error:
                raise OtherSettings(f"{path}: holds what is no result ({error!r}); take that away") from error
        return list(found.values())

    def close(self) -> None:
        """Another process may have this shard now."""
        if self._lock is not None:
            self._lock.close()
        with contextlib.suppress(StorageError):  # what could not be sent has been told; the rest is sampled again
            self.send()
        if self._lease is not None:
            self._lease.release()
        if self._mirror is not None:
            self._mirror.close()

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise OtherSettings(f"{path}: cannot be read ({error}); give another --out, or take it away") from error

    def _own(self, suite: str) -> JsonLines:
        number, count = self.shard
        return JsonLines(self.folder / f"{suite}.{number}of{count}.jsonl")
