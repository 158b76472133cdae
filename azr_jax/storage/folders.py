"""Folders that travel whole: a model from a bucket into a cache on this machine, an export into a bucket.

What came is checked against the server's checksum, file by file, and comes again only where it has changed there.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from azr_jax.storage.bucket import Bucket, Object, open_bucket, together
from azr_jax.storage.errors import StorageError

STATE = ".objects.json"  # which object each file of a copy is
READ = 8 * 2**20
TRIES = 3  # of a file that does not have the checksum it should have


def fetched(url: str, cache: Path, wanted: Callable[[str], bool]) -> Path:
    """The folder below `cache` that holds the files of this one. Raises StorageError, or OSError of the disk."""
    bucket = open_bucket(url)
    there = [each for each in bucket.list(deep=False)[0] if each.name and wanted(each.name)]
    if not there:
        raise StorageError(f"{bucket.url}: holds no files of a model")
    name, number = re.sub(r"[^\w.-]+", "_", bucket.url.removeprefix("gs://")), hashlib.sha256(bucket.url.encode())
    folder = cache / "buckets" / f"{name}-{number.hexdigest()[:8]}"  # models/a and models_a are two
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        names, known, one_at_a_time = {each.name for each in there}, _known(folder), threading.Lock()
        for path in folder.iterdir():  # also what nothing is known of, since its copy was broken off
            if path.name not in names | {STATE} and path.is_file():
                path.unlink()

        def fetch(each: Object) -> None:
            _fetch(bucket, each, folder / each.name)
            with one_at_a_time:  # at once: what came need not come again, whatever becomes of the rest
                known[each.name] = _mark(each)
                _remember(folder, known)

        missing = [each for each in there if known.get(each.name) != _mark(each) or not (folder / each.name).is_file()]
        together(fetch, missing)
    return folder


def check_free(url: str, mark: str, overwrite: bool) -> Bucket:
    """Refuses a place where something stands that is not ours to replace: a folder without the file `mark`, or with
    folders in it. A run has a config.json, too.
    """
    bucket = open_bucket(url)
    objects, folders = bucket.list(deep=False)
    names = {each.name for each in objects if each.name} | set(folders)  # of no name: made by the console for a folder
    if names and not overwrite:
        raise StorageError(f"{bucket.url}: is not empty: give another folder, or --overwrite")
    if names and mark not in names:
        raise StorageError(f"{bucket.url}: holds no {mark}, so it is no model to overwrite: give another folder")
    if within := [name for name in sorted(names) if name.endswith("/") or name == "owner.json"]:
        raise StorageError(f"{bucket.url}: holds {within[0]}, which no export does, a run may: give another folder")
    return bucket


def send(folder: Path, bucket: Bucket, mark: str) -> int:
    """All files of a folder in the place of what is there; gives their bytes. `mark` goes first and comes last: without
    it a folder is no model, and so there is never half of one.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    bucket.delete([mark])
    bucket.delete(each.name for each in bucket.list(deep=False)[0])
    together(lambda path: bucket.send(path, path.name), [path for path in files if path.name != mark])
    bucket.send(folder / mark, mark)
    return sum(path.stat().st_size for path in files)


def _fetch(bucket: Bucket, there: Object, path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    for _ in range(TRIES):
        bucket.fetch(there.name, part)
        if there.crc32c in ("", _checksum(part)):
            part.replace(path)
            return
    part.unlink()
    raise StorageError(f"{bucket.url}/{there.name}: what came has not the checksum it should have", passing=True)


def _checksum(path: Path) -> str:
    """As Cloud Storage writes it."""
    import google_crc32c

    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(READ):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def _mark(there: Object) -> str:
    return f"{there.generation} {there.size} {there.crc32c}"


def _known(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(folder: Path, known: dict[str, str]) -> None:
    state = folder / f"{STATE}.part"
    state.write_text(json.dumps(known))
    state.replace(folder / STATE)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of several processes of a machine one fetches, and the others find what came."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
