"""A file that grows, in a bucket: one object for each stretch of its bytes, never written again.

An object's name says which bytes it holds and whose they are: <file>/<first byte>-<behind the last>.<term>, each number
with leading zeros so that the order of names is the order of bytes, and `gcloud storage cat <file>/*` is the file. The
term is the lease's (lease.py), higher with each owner. A file is cut back by deleting objects; what a former owner
still writes afterwards has a lower term, and is passed over. TensorBoard wants its name in the object's own:
tensorboard/<file>.<first byte>-..., each of which it reads as a file of events.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from azr_jax.storage.bucket import Bucket, Object, together
from azr_jax.storage.errors import StorageError

NAME = re.compile(r"(?P<file>.+?)[/.](?P<start>\d{15})-(?P<end>\d{15})\.(?P<term>\d{6})")


class Torn(StorageError):
    """Bytes in the middle of a file are missing."""


@dataclass(frozen=True)
class Span:
    file: str
    start: int
    end: int
    term: int
    checksum: int | None = None  # of its bytes, once seen

    @property
    def name(self) -> str:
        between = "." if self.file.startswith("tensorboard/") else "/"
        return f"{self.file}{between}{self.start:015d}-{self.end:015d}.{self.term:06d}"


def parse(name: str) -> Span | None:
    found = NAME.fullmatch(name)
    return Span(found["file"], *(int(found[key]) for key in ("start", "end", "term"))) if found else None


def files_in(objects: Iterable[Object]) -> dict[str, list[Span]]:
    """The spans that make each file, in order."""
    found: dict[str, list[Span]] = {}
    for each in objects:
        if span := parse(each.name):
            if span.end - span.start != each.size:
                raise Torn(f"{each.name}: is {each.size} bytes long")
            found.setdefault(span.file, []).append(span)
    return {file: chain(spans) for file, spans in found.items()}


def chain(spans: Iterable[Span]) -> list[Span]:
    """From the first byte on: at each place that of the latest owner; of one owner's two the one it was cut back to.

    Terms never fall along a file, so what a later owner has cut away does not come back.
    """
    left = sorted(spans, key=lambda span: (span.start, -span.term, span.end))
    joined: list[Span] = []
    at, term = 0, 0
    for span in left:
        if span.start == at and span.term >= term and span.end > span.start:
            joined.append(span)
            at, term = span.end, span.term
    behind = [span for span in left if span.start > at and span.term >= term]
    if behind:
        raise Torn(f"{behind[0].file}: its bytes from {at} to {behind[0].start} are missing")
    return joined


class SpanFile:
    """One file, as its owner writes it. What it holds is known from `spans`, read once; nothing is listed again."""

    def __init__(self, bucket: Bucket, file: str, term: int, spans: Sequence[Span] = ()):
        self._bucket, self.file, self._term = bucket, file, term
        self.spans = list(spans)

    @property
    def end(self) -> int:
        return self.spans[-1].end if self.spans else 0

    def append(self, data: bytes) -> None:
        if data:
            span = Span(self.file, self.end, self.end + len(data), self._term, zlib.crc32(data))
            self._bucket.write(span.name, data)
            self.spans.append(span)

    def cut(self, position: int) -> None:
        """Drops the bytes from `position` on, the last first: a run that dies meanwhile leaves no hole."""
        while self.spans and self.spans[-1].start >= position:
            self._bucket.delete([self.spans[-1].name])
            self.spans.pop()
        if self.end > position:
            last = self.spans.pop()
            data = self._bucket.read(last.name, 0, position - last.start)
            if data is None:
                raise Torn(f"{self._bucket.url}/{last.name}: is not there any more")
            self.append(data)
            self._bucket.delete([last.name])


def read(bucket: Bucket, spans: Sequence[Span]) -> list[bytes]:
    """What they hold, in order; each is as long as its name says."""
    found = together(lambda span: bucket.read(span.name), spans)
    for span, data in zip(spans, found, strict=True):
        if data is None or len(data) != span.end - span.start:
            what = "is not there any more" if data is None else f"holds {len(data)} bytes"
            raise Torn(f"{bucket.url}/{span.name}: {what}")
    return [data for data in found if data is not None]
