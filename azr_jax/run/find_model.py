"""The model of a run: found and looked through by the first process, known to all, its weights read by whoever can.

Of several processes the first one alone asks the hub or opens the bucket. It tells the others what it found: the table
of tensors, what is small (config and tokenizer, over the network of the devices), and where the weights lie. Then
everyone says whether it can read them: in a bucket all can, each by itself; of a folder on a disk those that see the
same one, or have a copy. hf.py has every row read by one of these. Nobody but the first needs a disk for the weights,
and it neither where they lie in a bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from azr_jax.config.schema import Config, ConfigError
from azr_jax.models import source
from azr_jax.models.fields import UnsupportedModel
from azr_jax.models.folder import BadFolder, ModelFolder, open_folder, sample
from azr_jax.models.hf import WEIGHT_FILES
from azr_jax.models.source import SMALL, ModelNotFound, default_cache, in_bucket, resolve
from azr_jax.models.tensors import NAMES, READ_BYTES, TYPES, BadWeights, LocalFile, Tensor, WeightFile
from azr_jax.parallel.exchange import exchanged
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.process_checks import together
from azr_jax.storage.bucket import SCHEME, Object, open_bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.ranges import RemoteFile

Told = dict[str, Any]  # what the first process tells of what it found


def find_model(config: Config, hosts: Hosts | None = None) -> ModelFolder:
    """The model's folder, looked through before any weight is read. Called by all."""
    hosts, name = hosts or Hosts(), config.model.name
    if hosts.count == 1:
        with telling_of(name):
            return _looked_through(config, hosts)
    model = None
    with together(hosts), telling_of(name):
        if hosts.first:
            model = _looked_through(config, hosts)
    return _with_all(config, hosts, model)


@contextmanager
def telling_of(name: str) -> Iterator[None]:
    """What is wrong with the model is a ConfigError, one line; what may pass by itself stays what it is."""
    try:
        yield
    except (ModelNotFound, BadFolder, BadWeights, UnsupportedModel, OSError, StorageError) as error:
        if getattr(error, "passing", False):
            raise
        raise ConfigError([f"model.name={name}: {error}"]) from error


def _looked_through(config: Config, hosts: Hosts) -> ModelFolder:
    name, cache_dir = config.model.name, config.model.cache_dir or None
    if name.startswith(SCHEME) and hosts.count > 1:
        folder, weights = in_bucket(name, cache_dir)
        model = open_folder(folder, elsewhere=weights)
    else:
        model = open_folder(resolve(name, cache_dir=cache_dir))
    style = config.tasks.prompt_style
    if style in ("chat", "think_chat") and not model.tokenizer.chat_template:
        raise ConfigError(
            [
                f"tasks.prompt_style={style}: the tokenizer of {config.model.name} has no chat template; should be "
                "completion, or think for a large model"
            ]
        )
    return model


# --- several processes


def _with_all(config: Config, hosts: Hosts, model: ModelFolder | None) -> ModelFolder:
    """`model`: of the first process."""
    told: Told = hosts.from_first(lambda: _telling(model))
    cache = Path(config.model.cache_dir) if config.model.cache_dir else default_cache()
    received = cache / "received" / told["small_digest"]
    folder: Path | None = None
    files: Mapping[str, WeightFile] | None = None
    with together(hosts), telling_of(config.model.name):
        if model is not None:
            folder, files = model.path, {tensor.file.name: tensor.file for tensor in model.tensors.values()}
        elif told["bucket"]:
            bucket = open_bucket(told["bucket"])
            files = {each["name"]: RemoteFile(bucket, Object(**each)) for each in told["objects"]}
        else:
            folder = _same_here(config, told)
            files = {name: LocalFile(folder / name) for name in told["files"]} if folder else None
    if folder is None and received.is_dir():
        folder = received
    readers = tuple(index for index, reads in enumerate(hosts.gather(files is not None)) if reads)
    if any(hosts.gather(folder is None)):
        data = _handed_on(told, model)
        with together(hosts), telling_of(config.model.name):
            if folder is None:
                folder = _written(received, told, data)
    with together(hosts), telling_of(config.model.name):
        if model is None:
            assert folder is not None
            files = files or {name: LocalFile(received / name) for name in told["files"]}  # which nobody will read
            model = open_folder(folder, tensors=_table(told, files))
    assert model is not None
    return replace(model, readers=readers)


def _same_here(config: Config, told: Told) -> Path | None:
    """This process's own way to the first one's folder, or its copy of it."""
    with contextlib.suppress(OSError):
        folder = source.here(config.model.name, config.model.cache_dir or None)
        if folder is not None and _digest(folder) == told["digest"]:
            return folder
    return None


def _telling(model: ModelFolder | None) -> Told:
    assert model is not None
    files = {tensor.file.name: tensor.file for tensor in model.tensors.values()}
    remote = [file for file in files.values() if isinstance(file, RemoteFile)]
    return {
        "small": [[path.name, path.stat().st_size] for path in _small(model.path)],
        "small_digest": _digest(model.path, weights=False),
        "digest": "" if remote else _digest(model.path),
        "files": list(files),
        "bucket": remote[0].bucket.url if remote else "",
        "objects": [asdict(file.there) for file in remote],
        "tensors": {
            name: [tensor.file.name, NAMES[tensor.dtype], tensor.shape, tensor.start]
            for name, tensor in model.tensors.items()
        },
    }


def _table(told: Told, files: Mapping[str, WeightFile]) -> dict[str, Tensor]:
    return {
        name: Tensor(files[file], TYPES[dtype], tuple(shape), start)
        for name, (file, dtype, shape, start) in told["tensors"].items()
    }


def _small(folder: Path) -> list[Path]:
    """What is not weights, of the files that belong to a model."""
    return [
        path
        for path in sorted(folder.iterdir())
        if any(fnmatch(path.name, pattern) for pattern in SMALL)
        and not path.name.endswith(WEIGHT_FILES)
        and path.is_file()
    ]


def _digest(folder: Path, *, weights: bool = True) -> str:
    """Two folders with one digest hold the same model, or tell the same of it."""
    mark = hashlib.sha256()
    for path in _small(folder):
        mark.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    for path in sorted(folder.glob(source.WEIGHTS)) if weights else ():
        sample(mark, path.name, path)
    return mark.hexdigest()[:32]


@dataclass(frozen=True)
class SmallPart:
    """Of the small files, one behind the other; only the first process has them."""

    whole: np.ndarray
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return self.stop - self.start

    def read(self) -> np.ndarray:
        return self.whole[self.start : self.stop]


def _handed_on(told: Told, model: ModelFolder | None) -> bytes:
    """The small files of the first process, in all. Called by all."""
    total = sum(size for _, size in told["small"])
    contents = b"".join((model.path / name).read_bytes() for name, _ in told["small"]) if model else b""
    whole = np.frombuffer(contents, np.uint8)
    parts = [SmallPart(whole, start, min(start + READ_BYTES, total)) for start in range(0, total, READ_BYTES)]
    return b"".join(data.tobytes() for _, data in exchanged(parts, readers=(0,)))


def _written(folder: Path, told: Told, data: bytes) -> Path:
    """Whole or not at all; another process of this machine may be faster."""
    building, at = folder.with_name(f".{folder.name}.writing-{os.getpid()}"), 0
    try:
        building.mkdir(parents=True)
        for name, size in told["small"]:
            (building / name).write_bytes(data[at : at + size])
            at += size
        if not folder.is_dir():
            building.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder
