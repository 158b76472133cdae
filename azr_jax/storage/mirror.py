"""A folder on this machine that a bucket follows: a run writes files as ever, and hands on what is new.

    mirror = Mirror(bucket, term=lease.term, may_write=lease.check)
    mirror.pull(lambda name: True)      # what the bucket holds, as files
    ...                                 # the run appends, cuts back, replaces
    mirror.publish()                    # the bucket holds the same when this returns

Files that grow (LOGS) become objects of their new bytes alone (spans.py), so an iteration costs what it wrote; a file
that has become shorter, or other than what was handed on, is cut back in the bucket too. Other files are written whole
when they have changed, after the logs, which they may speak of. What is not in this folder is left alone in the bucket:
checkpoints and compiled programs go there by themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from azr_jax.storage import spans
from azr_jax.storage.bucket import Bucket, Object, together
from azr_jax.storage.spans import SpanFile, Torn

LOGS = (
    *("metrics.jsonl", "timings.jsonl", "records.jsonl", "heldout.jsonl", "schedule.jsonl"),
    *("buffers/", "logs/", "tensorboard/", "watchdog"),
)
ELSEWHERE = ("checkpoints/", "compiled/", "profile/", "locks/", "owner.json")  # not pulled
OF_THIS_MACHINE = (".tmp", ".lock", ".part")  # not handed on
LIST_AGAIN, LIST_WAIT_S = 5, 0.2  # where a listing has holes: what was just written may not be in it yet


class Mirror:
    def __init__(
        self,
        bucket: Bucket,
        *,
        term: int = 0,
        may_write: Callable[[], None] = lambda: None,
        folder: Path | None = None,
        grows: Callable[[str], bool] = lambda name: name.startswith(LOGS),
        mine: Callable[[str], bool] = lambda name: True,
    ):
        """`may_write` raises where this process must not write any more; `grows` says which files do, `mine` which are
        handed on.
        """
        self._grows, self.mine = grows, mine
        self._own = None if folder else _own_folder(bucket.url)
        name = bucket.url.rpartition("/")[2][:60]  # for people; a disk takes no such long ones as a bucket does
        self.bucket, self.folder = bucket, folder or Path(self._own or "") / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.term, self._may_write = term, may_write
        self._logs: dict[str, SpanFile] = {}
        self._whole: dict[str, tuple[int, int]] = {}  # size and time of what was handed on, or came
        self._generations: dict[str, int] = {}

    def pull(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Files as the bucket holds them; those that are here are brought up to date."""
        logs, objects = self._listed()
        names = [name for name in logs if wanted(name)]
        together(lambda name: self._pull_log(name, logs[name]), names)
        other = [each for each in objects.values() if self._generations.get(each.name) != each.generation]
        together(self._pull_whole, [each for each in other if wanted(each.name)])

    def publish(self) -> None:
        """Logs first: what the other files say of them is true once it can be read."""
        here = {name: path for path, name in self._files()}
        logs = [name for name in here if self._grows(name)]
        grown = [name for name in logs if self._log(name).end != here[name].stat().st_size or not self._agrees(name)]
        whole = [name for name in here if name not in logs and self._whole.get(name) != _state(here[name])]
        if grown or whole:
            self._may_write()
            together(lambda name: self._publish_log(name, here[name]), grown)
            together(lambda name: self._publish_whole(name, here[name]), whole)

    def close(self) -> None:
        """Takes its folder away, where it made one."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _log(self, name: str) -> SpanFile:
        return self._logs.setdefault(name, SpanFile(self.bucket, name, self.term))

    def _agrees(self, name: str) -> bool:
        """Whether the last span is still what the file holds in its place."""
        log = self._log(name)
        if not log.spans:
            return True
        last = log.spans[-1]
        with (self.folder / name).open("rb") as file:
            file.seek(last.start)
            data = file.read(last.end - last.start)
        return len(data) == last.end - last.start and zlib.crc32(data) == last.checksum

    def _publish_log(self, name: str, path: Path) -> None:
        log, size = self._log(name), path.stat().st_size
        if size < log.end:
            log.cut(size)
        while not self._agrees(name):  # it was cut back and has grown again
            log.cut(log.spans[-1].start)
        with path.open("rb") as file:
            file.seek(log.end)
            log.append(file.read(size - log.end))

    def _publish_whole(self, name: str, path: Path) -> None:
        self._whole[name] = _state(path)
        self._generations[name] = self.bucket.send(path, name)

    def _pull_log(self, name: str, wanted: Sequence[spans.Span]) -> None:
        path, log = self.folder / name, self._log(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        same = sum(1 for _ in _same(log.spans, wanted))
        if same == len(wanted) == len(log.spans) and path.exists():
            return  # not touched: who asks whether something is new looks at the file's time
        data = spans.read(self.bucket, wanted[same:])
        kept = log.spans[:same]
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(kept[-1].end if kept else 0)
            file.seek(0, os.SEEK_END)
            file.write(b"".join(data))
        seen = [spans.Span(s.file, s.start, s.end, s.term, zlib.crc32(d)) for s, d in zip(wanted[same:], data)]
        log.spans = [*kept, *seen]

    def _pull_whole(self, there: Object) -> None:
        path = self.folder / there.name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.bucket.read(there.name)
        if data is not None:  # it may go between two requests
            path.write_bytes(data)
            self._whole[there.name], self._generations[there.name] = _state(path), there.generation

    def _listed(self) -> tuple[dict[str, list[spans.Span]], dict[str, Object]]:
        for tries in range(LIST_AGAIN):
            objects = self._objects()
            try:
                logs = spans.files_in(objects)
            except Torn:
                if tries == LIST_AGAIN - 1:
                    raise
                time.sleep(LIST_WAIT_S * 2**tries)
                continue
            return logs, {each.name: each for each in objects if spans.parse(each.name) is None}
        raise AssertionError("the last try returns or raises")

    def _objects(self) -> list[Object]:
        """All but what is many and not for a mirror, and what the console makes for a folder, which is no file."""
        here, folders = self.bucket.list(deep=False)
        below = [each for each in folders if not each.startswith(ELSEWHERE)]
        found = together(lambda folder: self.bucket.list(folder)[0], below)
        names = [each for part in (here, *found) for each in part if each.name and not each.name.endswith("/")]
        return [each for each in names if each.name not in ELSEWHERE]

    def _files(self) -> Iterator[tuple[Path, str]]:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix not in OF_THIS_MACHINE:
                name = path.relative_to(self.folder).as_posix()
                if self.mine(name):
                    yield path, name


def _same(known: Sequence[spans.Span], wanted: Sequence[spans.Span]) -> Iterator[spans.Span]:
    for mine, other in zip(known, wanted):
        if mine.name != other.name:
            return
        yield mine


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _own_folder(url: str) -> Path:
    """This process's alone, below TMPDIR. Those of processes that were killed go."""
    mark = f"azr_jax-{hashlib.sha256(url.encode()).hexdigest()[:12]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{mark}*"):
        with contextlib.suppress(ValueError):
            if not Path(f"/proc/{int(left.name.removeprefix(mark).partition('-')[0])}").exists():
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{mark}{os.getpid()}-"))
