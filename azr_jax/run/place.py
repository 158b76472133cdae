"""Where a run lives, as one of its processes sees it: a folder, or a bucket and the folder here that it follows.

The run reads and writes files in `folder`. Checkpoints and compiled programs go to `home` by themselves. In a bucket
`publish()` is called wherever something is said to be done: after opening, restoring, each round of seeding, each
iteration, before its checkpoint, so that what a checkpoint speaks of is there before it. Of several processes the first
owns the bucket and writes; each other one has a folder of its own, a copy that it brings up to date where all read what
one wrote, and hands on its log.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from azr_jax.config.schema import Config, ConfigError
from azr_jax.monitor.console import stop_logging_to
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.lease import Lease
from azr_jax.run.process_checks import check_seen_by_all
from azr_jax.run.schedule import FILE as SCHEDULE
from azr_jax.run.workdir import (
    BEGUN,
    CHANGES,
    absent,
    check_is_run,
    go_on_with,
    has_begun,
    is_made_by_a_start,
    names_in,
    open_folder_of_run,
    open_workdir,
    take_back,
)
from azr_jax.storage import filesystem
from azr_jax.storage.bucket import SCHEME, Bucket, is_bucket, open_bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.lease import NAME as OWNER
from azr_jax.storage.lease import BucketLease
from azr_jax.storage.mirror import Mirror

# Of the bucket's files, what a run reads when it goes on. The rest it only adds to.
READ = (
    *BEGUN,
    CHANGES,
    "config.json",
    "config_diff.txt",
    "returns.json",
    "timings.jsonl",
    "records.jsonl",
    "heldout.jsonl",
    SCHEDULE,
    "buffers/",
    "logs/",
    "watchdog",
)
WILD = re.compile(r"[#?*\[\]]")  # under such a name a checkpoint cannot be read, or its writing does not end
LONGEST = 800  # of an address; what stands below it has names of up to two hundred bytes


@dataclass
class Place:
    folder: Path
    home: str
    lease: Lease | BucketLease | None = None  # of the first process
    mirror: Mirror | None = None  # where it is a bucket
    made: tuple[Path, ...] = ()  # folders that were not there before, the innermost first
    asked: tuple[Config, Config] = (Config(), Config())  # for this start, and what is usual

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: object = None, error: BaseException | None = None, trace: object = None) -> None:
        taken_back = isinstance(error, ConfigError) and self._take_back()
        if self.lease is not None:
            self.lease.release(forget=taken_back)
        for folder in self.made if taken_back else ():
            with contextlib.suppress(OSError):
                folder.rmdir()
        if self.mirror is not None:
            stop_logging_to(self.folder)  # what Orbax had begun is told until the process is gone
            self.mirror.close()

    def _take_back(self) -> bool:
        """A start that is refused before anything was played leaves nothing behind; says whether it is so."""
        if self.lease is None or has_begun(names_in(self.folder)):
            return False
        try:
            self.lease.check()
            if self.mirror is None:
                take_back(self.folder)
                return True
            bucket = self.mirror.bucket
            if has_begun(names_of(bucket)):
                return False
            names = [each.name for each in bucket.list()[0]]
            made = [name for name in names if is_made_by_a_start(name.partition("/")[0]) and name != OWNER]
            bucket.delete(made)
        except (ConfigError, StorageError, OSError):  # what it was refused for is more to the point
            return False
        return True

    def join(self, hosts: Hosts) -> None:
        """Called by all, once the first process has opened it: from here on they see the same files."""
        if self.mirror is None:
            check_seen_by_all(hosts, self.folder)
        elif hosts.count > 1:
            self.mirror.term = hosts.from_first(lambda: self.lease.term if isinstance(self.lease, BucketLease) else 0)
            if not hosts.first:
                self.mirror.pull(self.mirror.mine)  # its log, which it goes on with
            self.follow()

    def follow(self) -> None:
        """Where another process writes: what it has published."""
        if self.mirror is not None and self.lease is None:
            self.mirror.pull(lambda name: name.startswith(READ) and not name.startswith("logs/"))

    def going_on(self, first: int) -> None:
        """Called once nothing refuses this start any more: what it does otherwise is written down."""
        if self.lease is not None:
            go_on_with(self.home, self.folder, *self.asked, first)
            self.publish()

    def publish(self) -> None:
        if self.mirror is not None:
            self.mirror.publish()

    def check(self) -> None:
        """Raises Taken where another process is the owner by now."""
        if self.lease is not None:
            self.lease.check()

    def told(self, error: Exception, home: str = "") -> str:
        """What is wrong with a file, of which a bucket's is a copy here whose name says nothing to anybody."""
        return str(error).replace(str(self.folder), home or self.home)

    def copy_tasks(self, source: str) -> None:
        """The buffers of another run, into this one's."""
        if source.startswith(SCHEME):
            Mirror(Bucket(source), folder=self.folder).pull(lambda name: name.startswith("buffers/"))
        else:
            (self.folder / "buffers").mkdir(exist_ok=True)
            for file in (Path(source) / "buffers").glob("*.jsonl"):
                shutil.copy(file, self.folder / "buffers" / file.name)
        self.publish()


def settled(path: str) -> str:
    """An address that stays right wherever it is read: a bucket's, or a whole path."""
    if not _is_bucket(path, "--fork_from"):
        return str(Path(path).resolve())
    filesystem.install()
    try:
        return open_bucket(path).url
    except StorageError as error:
        raise ConfigError([f"--fork_from={error}"]) from error


def open_place(path: str, config: Config, base: Config, hosts: Hosts) -> Place:
    """Of several processes the first one opens it for all. Raises ConfigError, having written nothing, or StorageError
    where the same may well work later.
    """
    if not _is_bucket(path):
        folder = Path(path).resolve()
        if not hosts.first:
            return Place(folder, str(folder))
        made = absent(folder)
        return Place(folder, str(folder), open_workdir(path, config, base), made=made, asked=(config, base))
    try:
        bucket = open_bucket(path)
        filesystem.install()
        if not hosts.first:
            mine = (f"logs/process_{hosts.index}.log", f"watchdog_{hosts.index}.txt")
            mirror = Mirror(bucket, mine=lambda name: name in mine)
            return Place(mirror.folder, bucket.url, None, mirror)
        check_is_run(path, names_of(bucket))
        lease = BucketLease(bucket)
        place = Place(Path(), bucket.url, lease, asked=(config, base))
        try:
            place.mirror = mirror = Mirror(bucket, term=lease.term, may_write=lease.check)
            place.folder = mirror.folder
            mirror.pull(lambda name: name.startswith(READ))
            open_folder_of_run(path, mirror.folder, config, base)
            mirror.publish()
        except BaseException:
            place.__exit__()
            raise
    except StorageError as error:
        if error.passing:
            raise
        raise ConfigError([_about_workdir(path, error)]) from error
    except OSError as error:
        raise ConfigError([f"--workdir={path}: its files cannot be kept below TMPDIR: {error}"]) from error
    return place


def _is_bucket(path: str, flag: str = "--workdir") -> bool:
    try:
        found = is_bucket(path)
    except StorageError as error:
        raise ConfigError([f"{flag}={error}"]) from error
    if found and not path.isprintable():
        raise ConfigError([f"{flag}={path!a}: holds a character that nobody can see; should be gs://<bucket>/<folder>"])
    if found and WILD.search(path):
        raise ConfigError([f"{flag}={path}: should be without # ? * [ and ], which Orbax takes for more than a name"])
    if found and len(path.encode(errors="replace")) > LONGEST:
        raise ConfigError([f"{flag}={path}: should have {LONGEST} bytes at most: an object's name has 1024"])
    return found


def names_of(bucket: Bucket) -> list[str]:
    """What stands at its top."""
    files, folders = bucket.list(deep=False)
    return [*(each.name for each in files if each.name), *(folder.rstrip("/") for folder in folders)]


def _about_workdir(path: str, error: StorageError) -> str:
    said = str(error)
    return said if said.startswith("--workdir=") else f"--workdir={path}: {said.removeprefix(path + ': ')}"
