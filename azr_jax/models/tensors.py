"""The safetensors files of a folder, on a disk or elsewhere: rows read without mapping files into memory, and written
one tensor at a time.

The format is a length, a JSON header (name -> type, shape, offsets) and the raw numbers. Reading it here rather than
through a memory map keeps the host's memory at what was asked for, and lets a file be checked whole before any number
is used; writing it here needs no more memory than one tensor.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from azr_jax.models.fields import check_is_file, read_json, shown, without_contradiction

TYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
NAMES = {dtype: name for name, dtype in TYPES.items()}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
LARGEST_HEADER = 100 * 2**20
READ_BYTES = 64 * 2**20  # at most this much of a tensor is read at one time


class BadWeights(ValueError):
    """Weight files that are missing, damaged, or not those of their config.json; the message names file and tensor."""


class WeightFile(Protocol):
    """A file of weights wherever it lies. As text it is its address, for errors."""

    @property
    def name(self) -> str: ...
    def size(self) -> int: ...
    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, fewer where the file ends before that."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file as it was when it was first looked at: numbers of two models are not mixed."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def _state(self) -> tuple[int, int]:
        return _state(self.path.stat())

    def size(self) -> int:
        check_is_file(self.path)
        return self._state[0]

    def read(self, start: int, end: int) -> bytes:
        with self.path.open("rb") as file:
            if _state(os.fstat(file.fileno())) != self._state:
                raise BadWeights(f"{self}: was changed while it was read; should stay as it is until a run has begun")
            file.seek(start)
            return file.read(end - start)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns  # file systems of a network may number a file anew


@dataclass(frozen=True)
class Tensor:
    """Where a tensor stands in its file."""

    file: WeightFile
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Of one index of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> np.ndarray:
        row = self.row_bytes
        data = self.file.read(self.start + start * row, self.start + stop * row)
        if len(data) != (stop - start) * row:
            raise BadWeights(f"{self.file}: ended while it was read")
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The numbers of `index` (one slice for each axis). Whole rows are read, of which the columns are kept."""
        rows = range(*index[0].indices(self.shape[0]))
        columns = tuple(slice(*part.indices(size)) for part, size in zip(index[1:], self.shape[1:], strict=True))
        out = np.empty((len(rows), *(part.stop - part.start for part in columns)), self.dtype)
        step = max(1, READ_BYTES // self.row_bytes)
        for done in range(0, len(rows), step):
            stop = min(done + step, len(rows))
            out[done:stop] = self.rows(rows.start + done, rows.start + stop)[(slice(None), *columns)]
        return out


def find_tensors(folder: Path, elsewhere: Mapping[str, WeightFile] | None = None) -> dict[str, Tensor]:
    """The tensors of a folder by name. Every header is read and checked. `elsewhere`: its weight files where only the
    rest of it is on this disk.

    One file, or else an indexed set: where both stand, transformers reads the one file.
    """
    index = folder / INDEX
    there = elsewhere
    if there is None:
        there = {path.name: LocalFile(path) for path in folder.glob("*.safetensors") if path.exists()}
    if SINGLE in there:
        return read_header(there[SINGLE])
    if not index.exists():
        raise BadWeights(f"{folder}: holds neither {SINGLE} nor {INDEX}")
    weight_map = weight_map_of(index)
    files = sorted(set(weight_map.values()))
    for name in files:
        if name not in there:
            raise BadWeights(f"{index}: names {name}, which is not there")
    headers = {name: read_header(there[name]) for name in files}
    for tensor, name in weight_map.items():
        if tensor not in headers[name]:
            raise BadWeights(f"{index}: says that {name} holds {tensor}, which it does not")
    strays = [t for name, header in headers.items() for t in header if weight_map.get(t) != name]
    if strays:
        raise BadWeights(f"{index}: does not name {strays[0]}, which is in the files")
    return {tensor: headers[name][tensor] for tensor, name in weight_map.items()}


def weight_map_of(index: Path) -> dict[str, str]:
    """Which file holds each tensor, as an index says it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadWeights(f"{index}: weight_map={shown(weight_map)}: should be an object of tensors and their files")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BadWeights(f"{index}: weight_map.{tensor}={shown(name)}: should be a *.safetensors of this folder")
    return weight_map


def read_header(path: WeightFile) -> dict[str, Tensor]:
    """The tensors of one file, after checking that the file is as long as its header says."""
    size = path.size()
    length = int.from_bytes(path.read(0, 8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER):
        raise BadWeights(f"{path}: is cut off or not a safetensors file: {size} bytes, header of {length}")
    text = path.read(8, 8 + length)
    try:
        entries: dict[str, Any] = json.loads(text, object_pairs_hook=without_contradiction)
        _check_metadata(path, entries.pop("__metadata__", {}))
        tensors, parts = {}, []
        for name, entry in entries.items():
            start, end = entry["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (start, end, *entry["shape"])):
                raise BadWeights(f"{path}: {name} has offsets {start}, {end} and shape {shown(entry['shape'])}")
            if entry["dtype"] not in TYPES:
                raise BadWeights(f"{path}: {name} has type {entry['dtype']}: it should be one of {', '.join(TYPES)}")
            tensors[name] = Tensor(path, TYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + start)
            if end - start != math.prod(entry["shape"]) * tensors[name].dtype.itemsize:
                raise BadWeights(f"{path}: {name} of shape {entry['shape']} has {end - start} bytes")
            parts.append((start, end, name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BadWeights):
            raise
        raise BadWeights(f"{path}: the header is damaged: {error!r}") from None
    if size != (asked := 8 + length + max((end for _, end, _ in parts), default=0)):
        raise BadWeights(f"{path}: has {size} bytes, its header asks for {asked}: cut off or damaged")
    _check_seamless(path, sorted(parts))
    return tensors


def _check_metadata(path: WeightFile, said: object) -> None:
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise BadWeights(f"{path}: __metadata__ is {shown(said)}: should be an object of texts")


def _check_seamless(path: WeightFile, parts: list[tuple[int, int, str]]) -> None:
    """Each byte belongs to one tensor: with two at one place, one of them is not what was saved."""
    at = 0
    for start, end, name in parts:
        if start != at:
            raise BadWeights(f"{path}: {name} begins at byte {start} of the numbers, where it should be {at}")
        at = end


@dataclass(frozen=True)
class Planned:
    """A tensor still to be written."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(folder: Path, plan: list[Planned], values: Iterable[np.ndarray]) -> None:
    """`values` in the plan's order, into one file or into shards of at most SHARD_BYTES with an index."""
    files = list(_divide(plan))
    names = [SINGLE] if len(files) == 1 else [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n, _ in files]
    following = iter(values)
    for name, (_, tensors) in zip(names, files):
        write_file(folder / name, tensors, following)
    if len(files) > 1:
        where = {tensor.name: name for name, (_, tensors) in zip(names, files) for tensor in tensors}
        index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in plan)}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _divide(plan: list[Planned]) -> Iterator[tuple[int, list[Planned]]]:
    """Files, numbered from 1, each as full as SHARD_BYTES allows."""
    number, tensors, size = 1, [], 0
    for tensor in plan:
        if tensors and size + tensor.nbytes > SHARD_BYTES:
            yield number, tensors
            number, tensors, size = number + 1, [], 0
        tensors.append(tensor)
        size += tensor.nbytes
    yield number, tensors


def write_file(path: Path, tensors: list[Planned], values: Iterator[np.ndarray]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        entry = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}
        header[tensor.name] = entry | {"data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start at a multiple of eight
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor, value in zip(tensors, values):
            if value.shape != tensor.shape:
                raise ValueError(f"{tensor.name}: has shape {value.shape}, planned was {tensor.shape}")
            with np.errstate(over="ignore"):
                numbers = np.ascontiguousarray(value, tensor.dtype)
            if not np.isfinite(numbers).all():
                largest = np.abs(value).max()
                raise BadWeights(
                    f"{path.name}: {tensor.name} would hold NaN or infinity: as {tensor.dtype.name} its numbers, up to "
                    f"{largest:g}, are none that can be read again"
                )
            file.write(numbers.view(np.uint8).data)
