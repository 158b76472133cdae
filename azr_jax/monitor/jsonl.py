"""Append-only JSON lines that can be cut back to a checkpoint: a position is a number of bytes.

Text is kept as ASCII escapes, so that null bytes, lone surrogates and line separators of a model's text can neither
break a line nor fail to be written. It does not index or rotate: readers scan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class Damaged(ValueError):
    """A file of a run says what no run writes, or lacks what one wrote; the message is one line."""


class JsonLines:
    """A file is opened for each call: a run writes to it a few times a minute and may be killed at any moment."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, *records: Mapping[str, Any]) -> None:
        self.extend(records)

    def extend(self, records: Iterable[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(record, ensure_ascii=True) + "\n" for record in records)
        with self.path.open("a", encoding="ascii") as file:
            file.write(text)

    def position(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, position: int) -> None:
        """Drops what was written after `position`. Less than that on disk means that something was lost."""
        there = self.position()
        if there < position:
            raise Damaged(f"{self.path}: has {there} bytes, the checkpoint was made at {position}: lines are lost")
        if there > position:
            with self.path.open("r+b") as file:
                file.truncate(position)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file that may be missing, or still be written to: a torn last line is left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Damaged(f"{path}: line {number} is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise Damaged(f"{path}: line {number} holds {str(record)[:100]!r}: should be an object, {{...}}")
            yield record
