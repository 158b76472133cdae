"""What an evaluation leaves on disk: one settings file, and one JSON line per judged sample and suite.

An interrupted evaluation goes on from these lines. Several processes may share a folder, each with the rows of its own
shard and files of its own; whoever reads, reads all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azr_jax.monitor.jsonl import JsonLines, read


class OtherSettings(ValueError):
    """The folder holds results that were made in another way."""


@dataclass
class Results:
    folder: Path
    shard: tuple[int, int] = (0, 1)  # this process's number, and how many there are
    done: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # of each suite: (row, sample)

    def open(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder, or checks that what it holds was made with the same settings."""
        path = self.folder / "settings.json"
        if path.exists():
            before = json.loads(path.read_text())
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
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"settings.{os.getpid()}.part")
        part.write_text(json.dumps(dict(settings), indent=1) + "\n")
        part.replace(path)

    def open_suite(self, suite: str, digest: str) -> None:
        """Reads what is done of a suite; a line that was cut off in the middle is taken away and done again."""
        lines = self._own(suite)
        whole = sum(1 for _ in read(lines.path))
        if lines.path.exists():
            lines.cut(sum(len(line) for line in lines.path.read_bytes().splitlines(keepends=True)[:whole]))
        self.done[suite] = set()
        for line in self.lines(suite):
            if line["data"] != digest:
                raise OtherSettings(f"{self.folder}: {suite} was measured on other data ({line['data']}, now {digest})")
            self.done[suite].add((line["id"], line["sample"]))

    def add(self, suite: str, line: Mapping[str, Any]) -> None:
        key = (line["id"], line["sample"])
        if key not in self.done[suite]:
            self.done[suite].add(key)
            self._own(suite).append(line)

    def lines(self, suite: str) -> list[dict[str, Any]]:
        """Of all shards, each sample once."""
        found = {}
        for path in sorted(self.folder.glob(f"{suite}.*of*.jsonl")):
            for line in read(path):
                found.setdefault((line["id"], line["sample"]), line)
        return list(found.values())

    def _own(self, suite: str) -> JsonLines:
        number, count = self.shard
        return JsonLines(self.folder / f"{suite}.{number}of{count}.jsonl")
