"""What an evaluation leaves on disk: one settings file, and one JSON line per judged sample and suite.

An interrupted evaluation goes on from these lines. Several processes may share a folder, each with the rows of its own
shard and files of its own; whoever reads, reads all of them.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from azr_jax.monitor.jsonl import JsonLines, read

JUDGE_FAILED = "judge failed"  # nothing is known of the sample: it is judged again when the command is run again


class OtherSettings(ValueError):
    """The folder holds results that were made in another way."""


@dataclass
class Results:
    folder: Path
    shard: tuple[int, int] = (0, 1)  # this process's number, and how many there are
    done: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # of each suite: (row, sample)
    _lock: IO[str] | None = None

    def open(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder, or checks that what it holds was made with the same settings."""
        path = self.folder / "settings.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        number, count = self.shard
        self._lock = (self.folder / f"{number}of{count}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OtherSettings(f"--out={self.folder}: another process is at work on shard {number}/{count}") from None
        if any(each.stat().st_size for each in self.folder.glob("*.jsonl")) and path.exists():
            before = self._json(path)
            changed = [
                f"{name}: {before.get(name)!r} there, {settings.get(name)!r} asked for"
                for name in sorted({*before, *settings})
                if before.get(name) != settings.get(name)
            ]
            if changed:
                raise OtherSettings(
                    f"--out={self.folder}: holds other results ({'; '.join(changed)}); give another --out"
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

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise OtherSettings(f"{path}: cannot be read ({error}); give another --out, or take it away") from error

    def _own(self, suite: str) -> JsonLines:
        number, count = self.shard
        return JsonLines(self.folder / f"{suite}.{number}of{count}.jsonl")
