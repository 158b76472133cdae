"""Objects of a Google Cloud Storage bucket under one address: read, written whole, listed, deleted.

    bucket = open_bucket("gs://my-bucket/runs/first")
    bucket.write("config.json", b"...")                 # whole or not at all
    bucket.write("owner.json", b"...", generation=0)    # only where there is none: Changed otherwise

Requests that fail because the server is busy or the connection broke are made again, each time after a longer wait,
for up to PATIENCE_S after the first failure. What no waiting helps is one line (errors.py). STORAGE_EMULATOR_HOST names
another server. Nothing is kept: a listing is asked of the server each time, where it is consistent.
"""

from __future__ import annotations

import functools
import random
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from azr_jax.storage import errors
from azr_jax.storage.errors import Changed, StorageError

GcsClient: TypeAlias = Any  # of google-cloud-storage, which need not be there; and its blobs

SCHEME = "gs://"
# Also gs:/bucket, gs:bucket and gs//bucket, which would be folders here.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|gs:|gs//")
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")  # of a bucket
PATIENCE_S = 300.0
Timeout = float | tuple[float, float]
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two bytes of an answer
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
AT_ONCE = 8  # requests of one call side by side
PART = 64 * 2**20  # a file is read and written in parts of so many bytes
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Object:
    name: str  # below the address
    size: int
    generation: int
    updated_s: float
    crc32c: str = ""  # as the server writes it


class Bucket:
    def __init__(
        self, url: str, client: GcsClient = None, *, patience_s: float = PATIENCE_S, timeout_s: Timeout = TIMEOUT_S
    ):
        """`client` is a google.cloud.storage.Client; by default one with the credentials of this machine."""
        name, _, path = url.removeprefix(SCHEME).partition("/")
        # As Orbax's paths take it, or checkpoints would lie elsewhere: a bucket knows a folder of no name, and one of a
        # point.
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not url.isprintable():
            raise StorageError(f"{url!a}: holds a character that nobody can see; should be gs://<bucket>/<folder>")
        if not url.startswith(SCHEME) or not NAME.fullmatch(name) or ".." in parts:
            raise StorageError(
                f"{url}: should be gs://<bucket>/<folder>, of a bucket whose name is small letters, digits, and - _ . "
                "between them"
            )
        self.url, self._prefix = SCHEME + "/".join([name, *parts]), "".join(f"{part}/" for part in parts)
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._client = client or _client()
        self._objects = self._client.bucket(name)

    def check(self) -> None:
        """The bucket is there and may be looked at; StorageError otherwise."""
        self._ask("open the bucket", lambda: self._objects.reload(timeout=self._timeout_s, retry=None))

    def read(self, name: str, start: int = 0, end: int | None = None, generation: int | None = None) -> bytes | None:
        """The bytes from `start` up to `end`; None where there is no such object, or not that `generation` of it any
        more.
        """
        last = None if end is None else end - 1
        how = {"start": start or None, "end": last, "timeout": self._timeout_s, "retry": None}
        blob = self._objects.blob(self._prefix + name, generation=generation)
        return self._ask(f"read {name}", lambda: blob.download_as_bytes(**how), absent=True)

    def stat(self, name: str) -> Object | None:
        blob = self._blob(name)
        how = {"timeout": self._timeout_s, "retry": None}
        found = self._ask(f"look up {name}", lambda: blob.reload(**how) or blob, absent=True)
        return None if found is None else self._found(found)

    def exists(self, name: str) -> bool:
        return self.stat(name) is not None

    def write(self, name: str, data: bytes, *, generation: int | None = None) -> int:
        """Gives the object's generation. `generation`: only over that one, 0: only where there is none."""

        def put() -> int:
            blob = self._blob(name)
            blob.upload_from_string(data, if_generation_match=generation, timeout=self._timeout_s, retry=None)
            return int(blob.generation or 0)

        tries = [0]

        def counted() -> int:
            tries[0] += 1
            return put()

        try:
            return self._ask(f"write {name}", counted)
        except Changed:
            # A write whose answer was lost is made again, and meets itself.
            if tries[0] > 1 and self.read(name) == data and (there := self.stat(name)):
                return there.generation
            raise

    def list(self, prefix: str = "", *, deep: bool = True) -> tuple[list[Object], list[str]]:
        """The objects below, by name; not `deep`: only those of this folder, and its folders' names with a slash."""

        def ask() -> tuple[list[Object], list[str]]:
            how = {"prefix": self._prefix + prefix, "delimiter": None if deep else "/"}
            pages = self._client.list_blobs(self._objects, **how, timeout=self._timeout_s, retry=None)
            found = [self._found(blob) for blob in pages]
            return found, sorted(name.removeprefix(self._prefix) for name in pages.prefixes)

        return self._ask(f"list {prefix or 'it'}", ask)

    def delete(self, names: Iterable[str], *, generation: int | None = None) -> None:
        """Those that are there; in the given order where it is a list of one, else side by side. `generation`: only
        that one.
        """

        def one(name: str) -> None:
            how = {"timeout": self._timeout_s, "retry": None, "if_generation_match": generation}
            self._ask(f"delete {name}", lambda: self._blob(name).delete(**how), absent=True)

        together(one, names)

    def fetch(self, name: str, file: Path) -> None:
        """Into a file, part by part: what broke off is not read from the beginning."""
        there = self.stat(name)
        if there is None:
            raise StorageError(f"{self.url}/{name}: is not there")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as out:
            for start in range(0, there.size, PART):
                out.write(self.read(name, start, min(start + PART, there.size)) or b"")
        if file.stat().st_size != there.size:
            raise StorageError(f"{self.url}/{name}: {file.stat().st_size} bytes came of {there.size}", passing=True)

    def send(self, file: Path, name: str) -> int:
        """A file; gives the object's generation."""

        def put() -> int:
            blob = self._blob(name)
            if file.stat().st_size > PART:
                blob.chunk_size = PART
            blob.upload_from_filename(str(file), timeout=self._timeout_s, retry=None)
            return int(blob.generation or 0)

        return self._ask(f"write {name}", put)

    def _blob(self, name: str) -> GcsClient:
        return self._objects.blob(self._prefix + name)

    def _found(self, blob: GcsClient) -> Object:
        name, updated = blob.name.removeprefix(self._prefix), blob.updated
        when = updated.timestamp() if updated else 0.0
        return Object(name, int(blob.size), int(blob.generation), when, blob.crc32c or "")

    def _ask(self, doing: str, request: Callable[[], Answer], *, absent: bool = False) -> Answer | Any:
        """`absent`: None where the server knows no such object."""
        began, wait_s, tries = time.monotonic(), FIRST_WAIT_S, 0
        failing_since = 0.0  # what came slowly, and broke off, is no time in which nothing came
        while True:
            tries += 1
            try:
                return request()
            except Exception as error:  # three libraries lie below, each with exceptions of its own
                if absent and errors.status(error) == 404:
                    return None
                if not errors.passes(error):
                    errors.tell(self.url, doing, error)
                failing_since = failing_since or time.monotonic()
                if time.monotonic() + wait_s - failing_since > self._patience_s:
                    errors.give_up(self.url, doing, error, tries, time.monotonic() - began)
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # many processes must not come back in step
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def together(what: Callable[[Any], Answer], each: Iterable[Any]) -> list[Answer]:
    """Some requests side by side; the first failure is raised when all have ended."""
    each = list(each)
    if len(each) < 2:
        return [what(one) for one in each]
    with ThreadPoolExecutor(min(AT_ONCE, len(each))) as pool:
        return list(pool.map(what, each))


def is_bucket(path: str) -> bool:
    """Whether an address is one of a bucket; StorageError where it is an address of something else."""
    if ("://" in path or ADDRESS.match(path)) and not path.startswith(SCHEME):
        raise StorageError(f"{path}: should be a folder, or gs://<bucket>/<folder>")
    return path.startswith(SCHEME)


def open_bucket(url: str) -> Bucket:
    """StorageError where the bucket cannot be looked at."""
    bucket = Bucket(url)
    bucket.check()
    return bucket


@functools.cache
def _client() -> GcsClient:
    """One for the process: its connections are used again."""
    try:
        from google.cloud import storage
    except ImportError:
        raise StorageError(
            "gs:// addresses need the package google-cloud-storage, which is not installed: pip install -r "
            "requirements.txt, or pip install google-cloud-storage"
        ) from None
    try:
        return storage.Client(project=None)
    except Exception as error:  # credentials that are missing, or cannot be read
        errors.tell(SCHEME, "log in", error)
