"""An append-only file of JSON records, one a line, each with the running checksum of everything up to it.

A line is {"sum":"<8 hex digits>","record":{...}}. Because the checksum runs on from line to line, a line that was
changed, lost or moved is found, and `Position` (bytes and checksum) names one state of the file exactly: reading with
a position cuts away whatever was written after it. Appending costs what the new record costs, however long the file.

It guards against accidents (a killed process, a full disk, a stray editor), not against forgery.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

HEAD, MIDDLE, TAIL = b'{"sum":"', b'","record":', b"}\n"
RECORD_AT = len(HEAD) + 8 + len(MIDDLE)


class DamagedJournal(ValueError):
    """A journal does not hold what was written; the message names the file and the line."""


@dataclass(frozen=True)
class Position:
    """One state of the file: its length, and the running checksum at that length."""

    bytes: int = 0
    checksum: int = 0


class Journal:
    """With `writes=False` it only follows: it knows where the file that another process writes will end."""

    def __init__(self, path: Path, *, writes: bool = True):
        self.path, self._writes = path, writes
        self._end = Position()
        self._file: BinaryIO | None = None
        self._unwritten: list[bytes] = []

    def append(self, record: dict[str, Any]) -> None:
        if self._writes and self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
            if self._file.tell() != self._end.bytes:
                raise DamagedJournal(
                    f"{self.path}: is {self._file.tell()} bytes long, not the {self._end.bytes} this run knows of; "
                    "read it first, or choose another folder"
                )
        body = json.dumps(record, separators=(",", ":")).encode()  # ASCII: any string survives, lone surrogates too
        checksum = zlib.crc32(body, self._end.checksum)
        line = HEAD + b"%08x" % checksum + MIDDLE + body + TAIL
        if self._writes:
            self._unwritten.append(line)
        self._end = Position(self._end.bytes + len(line), checksum)

    @property
    def end(self) -> Position:
        """Behind what was appended last, whether or not it is in the file yet."""
        return self._end

    def flush(self) -> None:
        """Everything appended is on disk when this returns; before, nothing of it is in the file."""
        if self._file is not None:
            lines, self._unwritten = self._unwritten, []
            self._file.write(b"".join(lines))
            self._file.flush()
            os.fsync(self._file.fileno())

    def read(self, until: Position | None = None) -> Iterator[dict[str, Any]]:
        """The records up to `until`, or all of them; then the file ends there, and appending goes on from there.

        A torn last line is dropped with a warning. Exhaust the iterator: the cut happens at its end.
        """
        self.close()
        self._end = Position()
        self._unwritten = []
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from self._records(file, until)
        if until is not None and self._end != until:
            raise DamagedJournal(
                f"{self.path}: ends at byte {self._end.bytes}, checksum {self._end.checksum:08x}; the checkpoint "
                f"knows byte {until.bytes}, checksum {until.checksum:08x}: this is not the file it was made with"
            )
        if self._writes and self.path.exists() and self.path.stat().st_size > self._end.bytes:
            os.truncate(self.path, self._end.bytes)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _records(self, file: BinaryIO, until: Position | None) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(file, start=1):
            if until is not None and self._end.bytes >= until.bytes:
                return
            if not line.endswith(b"\n"):
                warnings.warn(f"{self.path}: line {number} was torn off in writing and is dropped", stacklevel=2)
                return
            body = line[RECORD_AT : -len(TAIL)]
            checksum = zlib.crc32(body, self._end.checksum)
            if line != HEAD + b"%08x" % checksum + MIDDLE + body + TAIL:
                raise DamagedJournal(f"{self.path}: line {number} is damaged: its checksum does not fit its content")
            yield json.loads(body)
            self._end = Position(self._end.bytes + len(line), checksum)
