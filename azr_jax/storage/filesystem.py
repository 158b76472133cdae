"""gs:// for Orbax and for JAX's compilation cache, which read and write through etils.epath, and that through fsspec.

The same client, retries and errors as for everything else, and no remembered listings: a process must see what another
one has just written. Arrays do not come this way: TensorStore speaks to the bucket itself (TENSORSTORE_GCS_HTTP_URL
names another server). A bucket has no folders; one is there as soon as an object is below it.
"""

from __future__ import annotations

import functools
import io
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from azr_jax.storage.bucket import SCHEME, Bucket, Object


class BucketFiles(AbstractFileSystem):
    protocol = ("gs", "gcs")

    def ls(self, path: str, detail: bool = True, **_: object) -> list[Any]:
        bucket, name = _parts(path)
        found = self._below(bucket, name)
        if not found:
            raise FileNotFoundError(path)
        return found if detail else [each["name"] for each in found]

    def info(self, path: str, **_: object) -> dict[str, Any]:
        bucket, name = _parts(path)
        if name and (there := _bucket(bucket).stat(name)) is not None:
            return _file(bucket, there)
        if self._below(bucket, name):
            return _folder(f"{bucket}/{name}")
        raise FileNotFoundError(path)

    def exists(self, path: str, **_: object) -> bool:
        """Not fsspec's own, which says no to every error: a run whose checkpoints are not there begins anew."""
        return self._type(path) != ""

    def isfile(self, path: str) -> bool:
        return self._type(path) == "file"

    def _type(self, path: str) -> str:
        try:
            return self.info(path)["type"]
        except FileNotFoundError:
            return ""

    def _below(self, bucket: str, name: str) -> list[dict[str, Any]]:
        prefix = f"{name}/" if name else ""
        objects, folders = _bucket(bucket).list(prefix, deep=False)
        files = [_file(bucket, each) for each in objects if each.name != prefix]
        return files + [_folder(f"{bucket}/{each.rstrip('/')}") for each in folders]

    def _open(self, path: str, mode: str = "rb", *_: object, **__: object) -> Any:
        bucket, name = _parts(path)
        if mode == "wb":
            return _Writing(bucket, name)
        if mode != "rb":
            raise ValueError(f"{path}: an object is read, or written whole; mode={mode} is neither")
        data = _bucket(bucket).read(name)
        if data is None:
            raise FileNotFoundError(path)
        return io.BytesIO(data)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        bucket, name = _parts(path)
        below = [each.name for each in _bucket(bucket).list(f"{name}/")[0]] if recursive else []
        # What says that a checkpoint is whole goes first: half of one is none.
        _bucket(bucket).delete([each for each in below if each.endswith("commit_success.txt")])
        _bucket(bucket).delete([name, *below])

    def rm_file(self, path: str) -> None:
        self.rm(path)

    def mkdir(self, path: str, create_parents: bool = True, **_: object) -> None:
        return

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        return

    def rmdir(self, path: str) -> None:
        return


class _Writing(io.BytesIO):
    """An object is written when it is closed; not where that is because of an error."""

    def __init__(self, bucket: str, name: str) -> None:
        super().__init__()
        self._where = bucket, name

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            _bucket(self._where[0]).write(self._where[1], data)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            super().close()


def install() -> None:
    """From now on paths with gs:// are read and written by this."""
    for name in BucketFiles.protocol:
        fsspec.register_implementation(name, BucketFiles, clobber=True)


@functools.cache
def _bucket(name: str) -> Bucket:
    return Bucket(SCHEME + name)


def _parts(path: str) -> tuple[str, str]:
    """Bucket and name; fsspec asks with and without gs://."""
    bucket, _, name = str(path).removeprefix(SCHEME).partition("/")
    return bucket, name.rstrip("/")


def _file(bucket: str, there: Object) -> dict[str, Any]:
    updated = datetime.fromtimestamp(there.updated_s, UTC)
    return {"name": f"{bucket}/{there.name}", "size": there.size, "type": "file", "mtime": updated}


def _folder(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}
