"""Hugging Face folders to the decoder's weights, and back, exactly.

Our arrays hold the numbers in the order of the files, so loading is a reshape and a stack. Each shard reads only the
slices it needs: with a mesh no process holds the whole model. Writing makes a complete folder under a temporary name
and renames it: there is never half a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from safetensors import safe_open
from safetensors.numpy import save_file

from azr_jax.models.spec import ModelSpec, Weight, load_spec
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import LearnerRules, Rules, shardings

SHARD_BYTES = 5_000_000_000
TYPES = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


class BadWeights(ValueError):
    """The folder's weights are not those of its config.json; the message names the tensor and the file."""


class Tensors:
    """The tensors of a folder by name, from one file or an indexed set of shards."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._opened: dict[str, Any] = {}
        index = folder / "model.safetensors.index.json"
        if index.exists():
            self.files: dict[str, str] = json.loads(index.read_text())["weight_map"]
            missing = sorted({file for file in self.files.values() if not (folder / file).exists()})
            if missing:
                raise BadWeights(f"{index}: names {missing[0]}, which is not there")
        elif (folder / "model.safetensors").exists():
            self.files = dict.fromkeys(self._open("model.safetensors").keys(), "model.safetensors")
        else:
            raise BadWeights(f"{folder}: holds neither model.safetensors nor model.safetensors.index.json")

    def __getitem__(self, name: str) -> Any:
        """A lazy slice: get_shape(), get_dtype(), and indexing, which reads."""
        return self._open(self.files[name]).get_slice(name)

    def _open(self, file: str) -> Any:
        if file not in self._opened:
            try:
                self._opened[file] = safe_open(self.folder / file, framework="np")
            except Exception as error:  # safetensors raises its own type, and OSError
                raise BadWeights(f"{self.folder / file}: cannot be read: {error}") from error
        return self._opened[file]


def load(
    folder: str | Path, *, mesh: Mesh | None = None, rules: Rules | None = None, dtype: Any = jnp.float32
) -> Transformer:
    """The folder's model, each shard read straight to its device."""
    folder = Path(folder)
    spec = load_spec(folder)
    tensors = Tensors(folder)
    _check(tensors, spec)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0), param_dtype=dtype)))
    default = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    layout = dict(nnx.to_flat_state(shardings(spec, mesh, rules or LearnerRules()))) if mesh is not None else {}
    loaded = {}
    for weight in spec.weights():
        shape = (spec.depth, *weight.shape) if weight.per_layer else weight.shape
        sharding = layout[weight.path].get_value() if layout else default
        array = jax.make_array_from_callback(shape, sharding, _reader(tensors, weight, spec.depth, np.dtype(dtype)))
        loaded[weight.path] = nnx.Param(array)
    state = nnx.from_flat_state([(path, loaded[path]) for path, _ in nnx.to_flat_state(abstract)])
    return nnx.merge(graph, state)


def _reader(tensors: Tensors, weight: Weight, depth: int, dtype: np.dtype):
    """Reads one shard of one array; layer by layer, so that one layer's tensor at most is held beside it."""

    def one(name: str, index: tuple[slice, ...]) -> np.ndarray:
        # Only the first of their axes is sliced while reading: it holds whole rows, one after the other.
        return np.asarray(tensors[name][...]).reshape(weight.shape)[index].astype(dtype)

    def read(index: tuple[slice, ...]) -> np.ndarray:
        if not weight.per_layer:
            return one(weight.name, index)
        layers = range(*index[0].indices(depth))
        return np.stack([one(weight.name.format(layer), index[1:]) for layer in layers])

    return read


def _check(tensors: Tensors, spec: ModelSpec) -> None:
    """Every tensor there, none too many, each of the right size. Reads headers only."""
    wanted = {name: weight for weight in spec.weights() for name in _names(weight, spec.depth)}
    tied_copy = {"lm_head.weight"} if spec.tied else set()
    problems = [f"{name}: missing" for name in wanted if name not in tensors.files]
    problems += [
        f"{name}: not a tensor of this model" for name in tensors.files if name not in wanted.keys() | tied_copy
    ]
    for name, weight in wanted.items():
        if name in tensors.files:
            found = list(tensors[name].get_shape())
            if found != _their_shape(weight):
                problems.append(f"{name}: has shape {found}, config.json asks for {_their_shape(weight)}")
    if problems:
        more = f"\n... and {len(problems) - 8} more" if len(problems) > 8 else ""
        lines = "\n".join(problems[:8])
        raise BadWeights(f"{tensors.folder}: the weights are not those of its config.json:\n{lines}{more}")


def _names(weight: Weight, depth: int) -> list[str]:
    return [weight.name.format(layer) for layer in range(depth)] if weight.per_layer else [weight.name]


def _their_shape(weight: Weight) -> list[int]:
    """Theirs are matrices [out, in] and vectors: heads and their dimensions are one axis."""
    parts: list[int] = []
    for axis, size in zip(weight.axes, weight.shape, strict=True):
        if axis == "head":
            parts[-1] *= size
        else:
            parts.append(size)
    return parts


def their_tensors(model: Transformer) -> Iterator[tuple[str, np.ndarray]]:
    """(name, tensor) as Hugging Face has them, one at a time in this host's memory."""
    for weight in model.spec.weights():
        value = getattr(model.layers if weight.per_layer else model, weight.path[-1])[...]
        for layer, name in enumerate(_names(weight, model.spec.depth)):
            ours = np.asarray(value[layer] if weight.per_layer else value)
            yield name, ours.reshape(_their_shape(weight))


def save(
    model: Transformer, out: str | Path, *, source: str | Path, dtype: Any = None, overwrite: bool = False
) -> Path:
    """Writes a complete folder: weights, and every other file of `source`. `dtype=None` keeps the source's types."""
    out, source = Path(out), Path(source)
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise FileExistsError(f"{out}: not empty; give another folder or --overwrite")
    building = out.with_name(out.name + ".writing")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        for file in sorted(source.iterdir()):
            if file.is_file() and ".safetensors" not in file.name and file.suffix not in (".bin", ".gguf"):
                shutil.copy(file, building / file.name)
        _write(model, building, Tensors(source), dtype)
        shutil.rmtree(out, ignore_errors=True)
        building.replace(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return out


def _write(model: Transformer, folder: Path, source: Tensors, dtype: Any) -> None:
    """Shards of at most SHARD_BYTES; one alone is model.safetensors, several get an index."""
    shard: dict[str, np.ndarray] = {}
    where: dict[str, int] = {}
    count = size = total = 0

    def flush() -> None:
        nonlocal count, size
        save_file(shard, folder / f"shard-{count}", metadata={"format": "pt"})
        shard.clear()
        count, size = count + 1, 0

    for name, ours in their_tensors(model):
        tensor = np.ascontiguousarray(ours.astype(dtype or TYPES[source[name].get_dtype()]))
        if shard and size + tensor.nbytes > SHARD_BYTES:
            flush()
        shard[name], where[name] = tensor, count
        size, total = size + tensor.nbytes, total + tensor.nbytes
    flush()
    if count == 1:
        (folder / "shard-0").replace(folder / "model.safetensors")
        return
    final = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    for number, file in enumerate(final):
        (folder / f"shard-{number}").replace(folder / file)
    index = {"metadata": {"total_size": total}, "weight_map": {name: final[number] for name, number in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
