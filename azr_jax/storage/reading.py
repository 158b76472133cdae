"""A workdir wherever it is, read as a folder: one on disk is that folder, of one in a bucket this makes a copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from azr_jax.storage import filesystem
from azr_jax.storage.bucket import is_bucket, open_bucket
from azr_jax.storage.mirror import Mirror

LEFT_OUT = ("logs/", "tensorboard/", "watchdog")
FOLLOW_EVERY_S = 3.0


class Reader:
    """`with Reader(path) as read:` ... `read.folder`, and `read.follow()` where the run may have gone on.

    Raises StorageError. `wanted` chooses the files by name.
    """

    def __init__(self, path: str, wanted: Callable[[str], bool] = lambda name: not name.startswith(LEFT_OUT)):
        self._wanted, self._followed_s = wanted, 0.0
        self._mirror = Mirror(open_bucket(path)) if is_bucket(path) else None
        filesystem.install()
        self.folder = self._mirror.folder if self._mirror else Path(path)
        self.home = self._mirror.bucket.url if self._mirror else path  # where its checkpoints are

    def __enter__(self) -> Reader:
        try:
            self.follow()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._mirror:
            self._mirror.close()

    def follow(self) -> None:
        """Asks the bucket at most every FOLLOW_EVERY_S."""
        if self._mirror and time.monotonic() - self._followed_s > FOLLOW_EVERY_S:
            self._mirror.pull(self._wanted)
            self._followed_s = time.monotonic()

    def hand_back(self, name: str) -> None:
        """A file that was made in the folder is in the workdir."""
        if self._mirror:
            self._mirror.bucket.send(self.folder / name, name)
