"""A Hugging Face folder to the Transformer's weights, and back, exactly.

Reading takes some rows at a time to the shards they belong to, and one parameter after the other to the devices: no
process ever holds the whole model. All is checked before the first number is read (names, shapes, types, lengths of
files, the tokenizer's vocabulary), so a bad folder is one clear error and nothing half loaded. Writing makes a complete
folder under a temporary name and renames it: there is never half a folder. Types, tied embeddings and every other file
are those of the source.

Several processes read every row once among them and tell each other (rows.py); all must call `load` and `save`, the
first one writes. Only what a process holds whole it may save `alone`.

Left out on purpose: GGUF, pickled weights, and repairing folders that do not match their config.json.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, Sharding, SingleDeviceSharding
from jax.typing import DTypeLike

from azr_jax.models.fields import SHOWN, read_json, shown
from azr_jax.models.rows import RowBlock, in_order
from azr_jax.models.sharding import LearnerRules, Rules, shardings
from azr_jax.models.spec import ModelSpec, Weight, config_from_spec, load_spec
from azr_jax.models.tensors import TYPES, BadWeights, Planned, Tensor, find_tensors, write_tensors
from azr_jax.models.transformer import Transformer

LM_HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
WEIGHT_FILES = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".index.json")


def load(
    folder: str | Path, *, mesh: Mesh | None = None, rules: Rules | None = None, dtype: jnp.dtype = jnp.float32
) -> Transformer:
    """The model in `folder`; with a mesh, laid out as `rules` say (the learner's unless given)."""
    folder = Path(folder)
    spec = load_spec(folder)
    tensors = find_tensors(folder)
    check_names(folder, tensors, spec)
    check_tokenizer(folder, spec)
    return load_weights(spec, tensors, mesh=mesh, rules=rules, dtype=dtype)


def load_weights(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    *,
    mesh: Mesh | None = None,
    rules: Rules | None = None,
    dtype: jnp.dtype = jnp.float32,
    readers: Sequence[int] | None = None,
) -> Transformer:
    """From tensors that were looked through. `readers`: which of several processes can read them; all without it."""
    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0), param_dtype=dtype)))
    alone = mesh is None or jax.process_count() == 1
    if mesh is None:
        layout = nnx.map_state(lambda _, leaf: leaf.replace(SingleDeviceSharding(jax.devices()[0])), abstract)
    else:
        layout = shardings(spec, mesh, rules or LearnerRules())
    places = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(layout)}
    wanted = [(name, tensors[name]) for weight in spec.weights() for name in names(weight, spec.depth)]
    if readers is None:
        readers = range(jax.process_count())
    blocks = in_order(wanted, None if alone else readers)
    arrays = {
        weight.path: _array(blocks, weight, spec.depth, places[weight.path], np.dtype(dtype))
        for weight in spec.weights()
    }
    return nnx.merge(graphdef, nnx.map_state(lambda path, leaf: leaf.replace(arrays[path]), layout))


@dataclass
class Shard:
    """A part of a parameter that lies on some devices of this process, in the host's memory for the time being."""

    index: tuple[slice, ...]
    values: np.ndarray
    devices: list[Any]

    def take(self, layer: int | None, weight: Weight, rows: RowBlock, block: np.ndarray) -> None:
        """What these rows of a tensor hold of it, cast."""
        index, out = self.index, self.values
        if layer is not None:
            if not index[0].start <= layer < index[0].stop:
                return
            index, out = index[1:], out[layer - index[0].start]
        theirs = _their_index(weight, index)
        out = out.reshape([part.stop - part.start for part in theirs])  # a view
        start, stop = max(theirs[0].start, rows.start), min(theirs[0].stop, rows.stop)
        if start < stop:
            mine = block[start - rows.start : stop - rows.start]
            out[start - theirs[0].start : stop - theirs[0].start] = mine[(slice(None), *theirs[1:])]


def _array(
    blocks: Iterator[tuple[RowBlock, np.ndarray]], weight: Weight, depth: int, sharding: Sharding, dtype: np.dtype
) -> jax.Array:
    """The next parameter of the stream of rows; the host holds this process's shards of it."""
    shape = (depth, *weight.shape) if weight.per_layer else weight.shape
    shards: dict[tuple, Shard] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        index = tuple(slice(*part.indices(size)) for part, size in zip(index or (), shape, strict=True))
        key = tuple((part.start, part.stop) for part in index)
        if key not in shards:
            shards[key] = Shard(index, np.empty([part.stop - part.start for part in index], dtype), [])
        shards[key].devices.append(device)
    for layer in range(depth) if weight.per_layer else (None,):
        for rows, block in blocks:
            for shard in shards.values():
                shard.take(layer, weight, rows, block)
            if rows.stop == rows.tensor.shape[0]:
                break
    arrays = [
        array
        for shard in shards.values()
        for array in jax.block_until_ready([jax.device_put(shard.values, device) for device in shard.devices])
    ]
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def _their_index(weight: Weight, index: tuple[slice, ...]) -> list[slice]:
    """In the file."""
    theirs: list[slice] = []
    for axis, size, part in zip(weight.axes, weight.shape, index, strict=True):
        if axis == "head":  # one axis with the heads in the file, and never split itself
            theirs[-1] = slice(theirs[-1].start * size, theirs[-1].stop * size)
        else:
            theirs.append(part)
    return theirs


def check_names(folder: Path, tensors: dict[str, Tensor], spec: ModelSpec) -> None:
    """Every tensor there, none too many, each of its shape."""
    wanted = {name: weight for weight in spec.weights() for name in names(weight, spec.depth)}
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    if LM_HEAD in tensors and spec.tied:
        wanted |= {LM_HEAD: wanted[EMBED]}
    problems += [f"{name[:SHOWN]} is not a tensor of this model" for name in tensors if name not in wanted]
    for name, weight in wanted.items():
        if name in tensors and tensors[name].shape != their_shape(weight):
            shape, right = list(tensors[name].shape), list(their_shape(weight))
            problems.append(f"{name} has shape {shape}, config.json asks for {right}")
    if not problems and spec.tied and LM_HEAD in tensors and not _same(tensors[LM_HEAD], tensors[EMBED]):
        problems.append(f"{LM_HEAD} differs from {EMBED}, though config.json says tie_word_embeddings=true")
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise BadWeights(f"{folder}: the weights are not those of config.json: {'; '.join(problems[:5])}{more}")


def _same(one: Tensor, other: Tensor) -> bool:
    """A tied model may store its embedding twice, but then twice the same."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    step = 4096
    blocks = [(slice(row, row + step), slice(None)) for row in range(0, one.shape[0], step)]
    return all(one.read(block).tobytes() == other.read(block).tobytes() for block in blocks)


def check_tokenizer(folder: Path, spec: ModelSpec) -> None:
    """A tokenizer may know fewer tokens than the model has rows (padding), never more."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    content = read_json(path)
    try:
        vocab = content["model"]["vocab"]
        ids = list(vocab.values()) if isinstance(vocab, dict) else range(len(vocab))
        largest = max([*ids, *(token["id"] for token in content.get("added_tokens") or ())], default=-1)
        if not isinstance(largest, int):
            raise TypeError(f"id {shown(largest)}")
    except (KeyError, TypeError, AttributeError) as error:
        raise BadWeights(
            f"{path}: is damaged at {type(error).__name__} {error}: should hold model.vocab, tokens and their ids, and "
            "added_tokens with ids"
        ) from None
    if largest >= spec.vocab:
        raise BadWeights(
            f"{path}: has a token with id {largest}, the model's vocabulary is {spec.vocab}: "
            "tokenizer and weights are not of one model"
        )


def names(weight: Weight, depth: int) -> list[str]:
    """The weight's tensors in the file: one, or one per layer."""
    return [weight.name.format(layer) for layer in range(depth)] if weight.per_layer else [weight.name]


def their_shape(weight: Weight) -> tuple[int, ...]:
    """In the file, heads and the numbers of a head are one axis."""
    shape: list[int] = []
    for axis, size in zip(weight.axes, weight.shape, strict=True):
        if axis == "head":
            shape[-1] *= size
        else:
            shape.append(size)
    return tuple(shape)


def their_tensors(model: Transformer) -> Iterator[tuple[str, np.ndarray]]:
    """(name, tensor) as Hugging Face has them, one at a time in the host's memory."""
    for weight in model.spec.weights():
        value = getattr(model.layers if weight.per_layer else model, weight.path[-1])[...]
        for layer, name in enumerate(names(weight, model.spec.depth)):
            yield name, _on_host(_layer(value, layer) if weight.per_layer else value).reshape(their_shape(weight))


@jax.jit
def _layer(value: jax.Array, layer: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(value, layer, keepdims=False)


def _on_host(value: jax.Array) -> np.ndarray:
    if value.is_fully_addressable:
        return np.asarray(value)
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def save(
    model: Transformer,
    out: str | Path,
    *,
    source: str | Path | None = None,
    dtype: DTypeLike | None = None,
    overwrite: bool = False,
    texts: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Path:
    """A complete folder at `out`: the weights, and every other file of `source`.

    Types are those of the source unless `dtype` says otherwise. Without a source: config.json and float32. `texts` are
    files that stand there in place of the source's, or beside them.
    """
    out, source = Path(out), Path(source) if source is not None else None
    plan = _plan(model.spec, source, np.dtype(dtype) if dtype is not None else None)
    _check_writable(out, plan, overwrite, alone)
    values = (tensor for _, tensor in _with_tied_copy(their_tensors(model), plan))
    if jax.process_index() != 0 and not alone:
        for _ in values:  # the gathering needs every process
            pass
        return out
    with building(out) as made:
        _copy_files(model.spec, source, made, dtype)
        for name, text in (texts or {}).items():
            (made / name).write_text(text)
        write_tensors(made, plan, values)
    return out


def _check_writable(out: Path, plan: list[Planned], overwrite: bool, alone: bool) -> None:
    """The first process looks; the others end with it, instead of waiting for tensors that it will not ask for."""
    problem: OSError | None = None
    if jax.process_index() == 0 or alone:
        try:
            check_free(out, overwrite)
            needed, free = sum(tensor.nbytes for tensor in plan), shutil.disk_usage(_existing(out)).free
            if needed > free:
                problem = OSError(f"{out}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left")
        except OSError as error:
            problem = error
    if not alone and multihost_utils.broadcast_one_to_all(np.int32(problem is not None)) and problem is None:
        problem = OSError(f"{out}: the first process cannot write there; its message says why")
    if problem is not None:
        raise problem


def check_free(out: Path, overwrite: bool, mark: str = "config.json") -> None:
    """Refuse a place where something stands that is not ours to replace: a folder without the file `mark`, or with
    folders in it. A run has a config.json, too.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{out}: is a file, it should be a folder or nothing")
    if out.samefile(Path()):
        raise FileExistsError(f"{out}: is where you are, and would be replaced: give another folder")
    if any(out.iterdir()) and not overwrite:
        raise FileExistsError(f"{out}: is not empty: give another folder, or --overwrite")
    if any(out.iterdir()) and not (out / mark).exists():
        raise FileExistsError(f"{out}: holds no {mark}, so it is no model to overwrite: give another folder")
    within = [path.name for path in sorted(out.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if within or (out / "owner.json").exists():
        found = f"{within[0]}/" if within else "owner.json"
        raise FileExistsError(f"{out}: holds {found}, which no export does, a run may: give another folder")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)


def _plan(spec: ModelSpec, source: Path | None, dtype: np.dtype | None) -> list[Planned]:
    """What will be written, in order; a tied model gets the copy of its embedding only if the source had it."""
    theirs = find_tensors(source) if source is not None else {}
    if source is not None:
        check_names(source, theirs, spec)
    plan = []
    for weight in spec.weights():
        for name in names(weight, spec.depth):
            own = dtype or (theirs[name].dtype if theirs else TYPES["F32"])
            plan.append(Planned(name, own, their_shape(weight)))
    if spec.tied and LM_HEAD in theirs:
        plan.append(Planned(LM_HEAD, dtype or theirs[LM_HEAD].dtype, plan[0].shape))
    return plan


def _with_tied_copy(tensors: Iterator[tuple[str, np.ndarray]], plan: list[Planned]) -> Iterator[tuple[str, np.ndarray]]:
    copy = None
    for name, tensor in tensors:
        if name == EMBED and plan[-1].name == LM_HEAD:
            copy = tensor
        if name == LM_HEAD:
            copy = None
        yield name, tensor
    if copy is not None:
        yield LM_HEAD, copy


def _copy_files(spec: ModelSpec, source: Path | None, folder: Path, dtype: DTypeLike | None) -> None:
    """Everything that is not weights, as it is; config.json says the type when it was changed."""
    if source is not None:
        for file in sorted(source.iterdir()):
            if file.is_file() and not file.name.endswith(WEIGHT_FILES):
                shutil.copyfile(file, folder / file.name)  # not the mode: the source may be read-only
    path = folder / "config.json"
    config = read_json(path) if path.exists() else config_from_spec(spec)
    if source is None or dtype is not None:
        key = "dtype" if "dtype" in config else "torch_dtype"
        config[key] = np.dtype(dtype or np.float32).name
        path.write_text(json.dumps(config, indent=2) + "\n")


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `out`; where that is a link, of what it leads to."""
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number: that of a killed one comes again, and all pods have the same.
    with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.writing-") as work:
        made = Path(work) / place.name
        made.mkdir()
        try:
            yield made
        except OSError as error:
            error.filename = error.filename or str(out)  # a disk that is full does not say which
            raise
        replace_folder(place, made)


def replace_folder(out: Path, building: Path) -> None:
    """Rename into place, from a folder of one's own; what stood there goes only once the new folder is there."""
    old = building.with_name(f"{building.name}.old")
    if out.exists():
        out.rename(old)
    try:
        building.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
