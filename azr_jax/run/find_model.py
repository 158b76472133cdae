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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from azr_jax.config.schema import Config, ConfigError
from azr_jax.models import source
from azr_jax.models.fields import UnsupportedModel
from azr_jax.models.folder import BadFolder, ModelFolder, open_folder
from azr_jax.models.hf import WEIGHT_FILES, replace_folder
from azr_jax.models.source import SMALL, ModelNotFound, default_cache, in_bucket, resolve
from azr_jax.models.tensors import NAMES, READ_BYTES, TYPES, BadWeights, LocalFile, Tensor, WeightFile
from azr_jax.parallel.exchange import exchanged
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.process_checks import together
from azr_jax.storage.bucket import SCHEME, Object, open_bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.ranges import RemoteFile

Told = dict[str, Any]  # what the first process tells of what it found
PLACES, PLACE_BYTES = 4, 1024  # of a tensor, to tell two of them apart


def find_model(config: Config, hosts: Hosts | None = None) -> ModelFolder:
    """The model's folder, looked through before any weight is read. Called by all."""
    hosts, name = hosts or Hosts(), config.model.name
    if hosts.count == 1:
        with telling_of(name):
            return _looked_through(config, hosts)
    model, told, small = None, {}, {}
    with together(hosts), telling_of(name):
        if hosts.first:
            model = _looked_through(config, hosts)
            small = _small(model.path)  # once: what is told of them, and handed on, is of the same bytes
            told = _telling(model, small)
    return _with_all(config, hosts, model, hosts.from_first(lambda: told), small)


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


def _with_all(
    config: Config, hosts: Hosts, model: ModelFolder | None, told: Told, small: Mapping[str, bytes]
) -> ModelFolder:
    """`model` and `small`: of the first process."""
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
            folder, files = _same_here(config, told)
    if folder is None and _holds(received, told):
        folder = received
    # By the numbers of their devices, as exchange.py knows them: a slice may number its machines otherwise than we do.
    all_of_them = hosts.gather([jax.process_index(), files is not None])
    readers = tuple(sorted(number for number, reads in all_of_them if reads))
    if any(hosts.gather(folder is None)):
        data = _handed_on(told, small, all_of_them[0][0])
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


def _same_here(config: Config, told: Told) -> tuple[Path | None, Mapping[str, WeightFile] | None]:
    """This process's own way to the first one's folder, or its copy of it; and the weight files there."""
    with contextlib.suppress(OSError):
        folder = source.here(config.model.name, config.model.cache_dir or None)
        if folder is not None and _holds(folder, told):
            files = {name: LocalFile(folder / name) for name in told["files"]}
            if _sampled(_table(told, files)) == told["weights_digest"]:
                return folder, files
    return None, None


def _telling(model: ModelFolder, small: Mapping[str, bytes]) -> Told:
    files = {tensor.file.name: tensor.file for tensor in model.tensors.values()}
    remote = [file for file in files.values() if isinstance(file, RemoteFile)]
    return {
        "small": [[name, len(content)] for name, content in small.items()],
        "small_digest": _digest(small),
        "weights_digest": "" if remote else _sampled(model.tensors),
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


def _small(folder: Path) -> dict[str, bytes]:
    """What is not weights, of the files that belong to a model."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if any(fnmatch(path.name, pattern) for pattern in SMALL)
        and not path.name.endswith(WEIGHT_FILES)
        and path.is_file()
    }


def _digest(small: Mapping[str, bytes]) -> str:
    """Of small files; two folders with one digest tell the same of their model."""
    mark = hashlib.sha256()
    for name, content in small.items():
        mark.update(f"{name} {len(content)} ".encode(errors="surrogateescape") + content)
    return mark.hexdigest()[:32]


def _sampled(tensors: Mapping[str, Tensor]) -> str:
    """Of weights: some numbers of every tensor, for models of one family often differ in a few tensors alone."""
    mark = hashlib.sha256()
    for file in {tensor.file: None for tensor in tensors.values()}:
        mark.update(f"{file.name} {file.size()} ".encode())
    for tensor in tensors.values():
        size = tensor.shape[0] * tensor.row_bytes
        for part in range(PLACES):
            at = part * size // PLACES
            mark.update(tensor.file.read(tensor.start + at, tensor.start + min(at + PLACE_BYTES, size)))
    return mark.hexdigest()[:32]


def _holds(folder: Path, told: Told) -> bool:
    """The first process's small files, and not what is left of them, or what somebody made of them."""
    with contextlib.suppress(OSError):
        return folder.is_dir() and _digest(_small(folder)) == told["small_digest"]
    return False


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


def _handed_on(told: Told, small: Mapping[str, bytes], first: int) -> bytes:
    """The small files of the first process, whose devices say that it is number `first`, in all. Called by all."""
    total = sum(size for _, size in told["small"])
    whole = np.frombuffer(b"".join(small.values()), np.uint8)
    parts = [SmallPart(whole, start, min(start + READ_BYTES, total)) for start in range(0, total, READ_BYTES)]
    return b"".join(data.tobytes() for _, data in exchanged(parts, readers=(first,)))


def _written(folder: Path, told: Told, data: bytes) -> Path:
    """Whole or not at all; another process of this machine, or one with the same cache, may be faster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".writing-") as work:  # not by the pid: all pods have the same
        made, at = Path(work) / folder.name, 0
        made.mkdir()
        for name, size in told["small"]:
            (made / name).write_bytes(data[at : at + size])
            at += size
        if not _holds(made, told):
            raise BadFolder(f"{folder}: what came of the first process's files is not what it sent")
        try:
            if not _holds(folder, told):
                replace_folder(folder, made)
        except OSError:
            if not _holds(folder, told):
                raise
    return folder
