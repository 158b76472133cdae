"""A file that stays in its bucket: of it is read what is asked for, side by side where that is much."""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.storage.bucket import Bucket, Object, together
from azr_jax.storage.errors import Changed

PART = 8 * 2**20  # of one request: a single connection is slower than the network


@dataclass(frozen=True)
class RemoteFile:
    bucket: Bucket
    there: Object

    def __str__(self) -> str:
        return f"{self.bucket.url}/{self.name}"

    @property
    def name(self) -> str:
        return self.there.name

    def size(self) -> int:
        return self.there.size

    def read(self, start: int, end: int) -> bytes:
        """Of this very object: StorageError where another one stands there by now."""
        end = min(end, self.there.size)
        parts = [(at, min(at + PART, end)) for at in range(start, end, PART)]
        return b"".join(together(lambda part: self._part(*part), parts))

    def _part(self, start: int, end: int) -> bytes:
        data = self.bucket.read(self.name, start, end, generation=self.there.generation)
        if data is None:
            raise Changed(f"{self}: was replaced or deleted while it was read")
        return data
