"""The benchmarks as TFDS datasets, built without TensorFlow from files that are fetched, or laid down by hand.

A row is kept as its source wrote it, as JSON text beside its id: the sources' fields differ, and their mixed lists fit
no feature type. The prepared files (ArrayRecord) stand in a cache under the checksum of what they were made of; the
source files are checked at every load, so a file that has changed is noticed also when its rows were prepared before.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from azr_jax.evals.sources import DATASETS, Dataset, File

FETCH_S = 30.0  # without a byte, before a source counts as out of reach
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "azr_jax" / "evals"


class DataProblem(ValueError):
    """A benchmark's file is missing, short or changed; the message says which and what would help."""


@dataclass
class _Config(tfds.core.BuilderConfig):
    dataset: Dataset | None = None
    lines: Callable[[], Iterator[bytes]] = lambda: iter(())


class AzrBenchmarks(tfds.core.GeneratorBasedBuilder):
    """One configuration per benchmark, one split, rows in the order of the source."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"id": text(), "row": text()}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Any]:
        return {"test": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, str]]]:
        config = self.builder_config
        assert isinstance(config, _Config) and config.dataset is not None
        key = config.dataset.key
        for number, line in enumerate(config.lines()):
            row = json.loads(line)
            yield number, {"id": str(row[key]) if key else str(number), "row": line.decode()}


@dataclass(frozen=True)
class Row:
    id: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    rows: tuple[Row, ...]
    digest: str  # of the files, for records of what was measured


def load(name: str, data_dir: str | Path | None = None, cache: Path = CACHE) -> Loaded:
    """The rows of a benchmark. `data_dir` holds its files; without one they are fetched into the cache."""
    dataset = DATASETS[name]
    texts = [_checked(file, path) for file, path in _find(dataset, data_dir, cache)]
    digest = hashlib.sha256(b"".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()[:16]
    config = _Config(name=name, dataset=dataset, lines=lambda: (line for text in texts for line in _lines(text)))
    try:
        with _alone(cache / f"{digest}.lock"):
            try:
                rows = _prepared(config, cache / digest)
            except Exception:  # what was prepared before may be damaged: once more from the source
                shutil.rmtree(cache / digest, ignore_errors=True)
                rows = _prepared(config, cache / digest)
    except Exception as error:
        where = ", ".join(file.local for file in dataset.choices[0])
        raise DataProblem(
            f"{name}: the rows of {where} cannot be kept in {cache / digest} ({type(error).__name__}: {error}); each "
            f"should be a line of JSON{f' with {dataset.key!r}' if dataset.key else ''}, and the folder writable"
        ) from error
    if len({row.id for row in rows}) != len(rows):
        raise DataProblem(f"{name}: two rows have the same {dataset.key}")
    return Loaded(rows, digest)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: shards of an evaluation start together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepared(config: _Config, folder: Path) -> tuple[Row, ...]:
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # its notes on where things are kept
    try:
        builder: Any = AzrBenchmarks(config=config, data_dir=folder, file_format="array_record")
        with contextlib.redirect_stdout(io.StringIO()):  # where it keeps what, in three lines
            builder.download_and_prepare()
        examples = builder.as_data_source(split="test")
        return tuple(Row(one["id"].decode(), json.loads(one["row"])) for one in examples)
    finally:
        logging.set_verbosity(verbosity)


def _find(dataset: Dataset, data_dir: str | Path | None, cache: Path) -> list[tuple[File, Path]]:
    folder = Path(data_dir) if data_dir else cache / "sources"
    for files in dataset.choices:
        paths = [_on_disk(folder / file.local) for file in files]
        if all(paths):
            return [(file, path) for file, path in zip(files, paths) if path]
    found = []
    for file in dataset.choices[0]:
        path = _on_disk(folder / file.local)
        found.append((file, path or _fetch(dataset, file, folder, fetch=not data_dir)))
    return found


def _on_disk(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(path.name + ".gz")) if each.is_file()), None)


def _fetch(dataset: Dataset, file: File, folder: Path, *, fetch: bool) -> Path:
    names = " or ".join(dict.fromkeys(f"{f.local}[.gz]" for files in dataset.choices for f in files))
    where = f"{dataset.name}: {folder} does not hold {names} (revision {file.revision}, {file.rows} rows)"
    if not fetch or not file.direct:
        raise DataProblem(f"{where}; the source is {file.url}; put the file there, or name its folder by --data_dir")
    try:
        with urllib.request.urlopen(file.url, timeout=FETCH_S) as answer:
            body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise DataProblem(
            f"{where}, and {file.url} cannot be reached ({error}); put the file there by hand, or name its folder by "
            "--data_dir"
        ) from error
    path = folder / file.local
    text = _right(file, body, f"what {file.url} answered")  # before it is kept, or it would be taken for the file
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(text)
    part.replace(path)
    return path


def _checked(file: File, path: Path) -> bytes:
    """The file's text, if it is what it should be."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise DataProblem(f"{path}: cannot be read ({error}); it should be {file.url}") from error
    return _right(file, body, str(path))


def _right(file: File, body: bytes, path: str) -> bytes:
    try:
        text = _plain(body)
    except (OSError, EOFError, zlib.error) as error:
        raise DataProblem(f"{path}: does not unpack ({error}); it should be {file.url}") from error
    rows, digest = sum(1 for _ in _lines(text)), hashlib.sha256(text).hexdigest()
    if rows != file.rows:
        raise DataProblem(f"{path}: {rows} rows, should be {file.rows}, those of {file.url} at {file.revision}")
    if file.sha256 and digest != file.sha256:
        raise DataProblem(
            f"{path}: changed: its text has sha256 {digest}, should be {file.sha256}, that of {file.url} at "
            f"{file.revision}"
        )
    return text


def _plain(body: bytes) -> bytes:
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


def _lines(text: bytes) -> Iterator[bytes]:
    return (line for line in text.split(b"\n") if line.strip())
