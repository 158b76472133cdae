"""Checkpoints by Orbax: written beside the training, whole or not at all, restored exactly or onto other devices.

One checkpoint is a folder named by its iteration. Its items are `params` (what is trained), `base` (what is not, if
anything), `learner` (the rest of the TrainState), `extra` (a JSON dict of the caller: buffers' cursors and checksums,
metrics cursor, config, versions) and `digests`. Orbax writes under a temporary name and renames at the end, so a folder
with a plain number is complete; but it does not notice a byte that changed on disk, so every array, and `extra`, has a
digest that is compared when it is restored. Names and shapes are compared before anything is read.

With `moments="bfloat16"` the optimizer's float32 arrays are rounded as they are written, on the host, and restored as
what they were: 8 bytes for each parameter in place of 12, and an update after it that differs by the rounding.

Of several processes each writes and reads its own part of the arrays, and all take the same checkpoint for damaged.
Left out on purpose: what `extra` means is checked by those who wrote it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from jax.sharding import NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from azr_jax.learner.lora import Corrections, merged
from azr_jax.learner.step import TrainState
from azr_jax.models.spec import OUTPUTS
from azr_jax.parallel.hosts import Hosts
from azr_jax.storage.errors import StorageError, tell_of_arrays

log = logging.getLogger(__name__)
T = TypeVar("T")
ARRAYS = ("params", "base", "learner")


class CheckpointError(RuntimeError):
    """There is nothing to restore, or it is damaged, or it belongs to another model or other settings."""


class Mismatch(CheckpointError):
    """The checkpoint holds other arrays than asked for: another model, optimizer or set of trained weights."""


@dataclass(frozen=True)
class Restored:
    iteration: int
    state: TrainState
    extra: dict[str, Any]


def iterations_in(workdir: Path | str) -> list[int]:
    """Of the complete checkpoints that lie there, oldest first, without opening them."""
    folder = epath.Path(workdir) / "checkpoints"
    here = [one for one in folder.iterdir() if one.name.isdigit()] if folder.exists() else []
    if str(folder).startswith("gs://"):  # a bucket has no renaming: Orbax writes in place, and this file at the end
        here = [one for one in here if (one / "commit_success.txt").exists()]
    return sorted(int(one.name) for one in here)


def remove(workdir: Path | str, iteration: int) -> None:
    (epath.Path(workdir) / "checkpoints" / str(iteration)).rmtree()


class Checkpointer:
    """Checkpoints under workdir/checkpoints: the last `keep`, and every one whose iteration `keep_every` divides."""

    def __init__(
        self,
        workdir: str | Path,
        *,
        keep: int = 2,
        keep_every: int = 0,
        moments: str = "same",
        hosts: Hosts | None = None,
    ):
        # Orbax refuses a relative path as damaged; a bucket's is absolute as it is.
        whole = workdir if "://" in str(workdir) else Path(workdir).absolute()
        self.folder, self._hosts = epath.Path(whole) / "checkpoints", hosts or Hosts()
        self._kept = {"max_to_keep": keep, "keep_period": keep_every or None}
        self._moments = moments
        self._saves = False
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        """Until the first save as a reader: one that makes no folder, and leaves what another process is writing.

        A run that was killed leaves its half-written checkpoint; it goes when the run saves again.
        """
        options = ocp.CheckpointManagerOptions(**self._kept, create=self._saves, cleanup_tmp_directories=self._saves)
        # Named here, so that a process that has saved nothing can read what another one saved.
        # In a bucket a shard is an object: OCDBT writes one manifest anew with each array, oftener than the once a
        # second that Cloud Storage takes of one name.
        ocdbt = "://" not in str(self.folder)
        handlers = {item: ocp.StandardCheckpointHandler(use_ocdbt=ocdbt) for item in ARRAYS}
        handlers |= {item: ocp.JsonCheckpointHandler() for item in ("extra", "digests")}
        return ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def save(self, iteration: int, state: TrainState, extra: dict[str, Any]) -> None:
        """Returns when the state may be donated again; the writing goes on behind. Waits for a save still under way.

        Checkpoints of this iteration or later ones are of a future that was given up (a damaged one that was passed
        over, say), and go.
        """
        self.wait()
        if not self._saves:
            self._manager.close()
            self._saves = True
            self._manager = self._open()
        for later in self.iterations():
            if later >= iteration:
                self._manager.delete(later)
        items, rounded = _items(state), rounded_names(state, self._moments)
        digests: dict[str, Any] = {
            item: jax.tree.map(int, jax.device_get(_digests(arrays, rounded if item == "learner" else ())))
            for item, arrays in items.items()
        }
        digests |= {"rounded": list(rounded), "extra": _digest_of(extra)}
        # Cast by TensorStore, on the host: a full chip has no room for a second copy of its moments.
        types = {name: ocp.SaveArgs(dtype=jnp.dtype(jnp.bfloat16)) for name in rounded}
        how = {item: {name: types.get(name, ocp.SaveArgs()) for name in arrays} for item, arrays in items.items()}
        self._manager.save(
            iteration,
            args=ocp.args.Composite(
                **{item: ocp.args.StandardSave(arrays, save_args=how[item]) for item, arrays in items.items()},
                extra=ocp.args.JsonSave(extra),
                digests=ocp.args.JsonSave(digests),
            ),
            force=True,
        )

    def iterations(self) -> list[int]:
        """Of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def restore(self, like: TrainState, iteration: int | None = None) -> Restored:
        """The latest checkpoint that is whole, or that of `iteration`, with the types and shardings of `like`.

        `like` may hold arrays or shapes (of jax.eval_shape). A damaged checkpoint is passed over with a warning.
        """

        def read(iteration: int) -> Restored:
            arrays = self._read(iteration, _items(like))
            rest = _rebuilt(replace(like, params=None, base=None), arrays["learner"])
            base = None if like.base is None else _rebuilt(like.base, arrays["base"])
            state = replace(rest, params=_rebuilt(like.params, arrays["params"]), base=base)
            return Restored(iteration, state, self._json(iteration, "extra"))

        return self._latest_whole(read, iteration)

    def restore_params(self, like: nnx.State, iteration: int | None = None) -> nnx.State:
        """The policy's weights alone, as `like` (the model's parameters, arrays or shapes); corrections are merged.

        Shapes without a sharding are restored to the host's memory.
        """

        def read(iteration: int) -> nnx.State:
            wanted, live = _named(like), self._stored(iteration, "params")
            if not live.keys() & wanted.keys():  # low-rank corrections: all weights are in the base
                everywhere = _replicated(wanted)
                shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere) for name, a in live.items()}
                arrays = self._read(iteration, {"params": shapes, "base": wanted})
                pairs = _pairs(arrays["params"])
                # The product of the corrections is laid out by names, which mean something under their mesh only.
                mesh = getattr(everywhere, "mesh", None)
                with jax.set_mesh(mesh) if isinstance(mesh, jax.sharding.Mesh) else nullcontext():
                    return merged(pairs, _rebuilt(like, arrays["base"]))
            frozen = {name: a for name, a in wanted.items() if name not in live}
            items = {"params": {name: a for name, a in wanted.items() if name in live}}
            arrays = self._read(iteration, items | ({"base": frozen} if frozen else {}))
            return _rebuilt(like, {name: array for item in arrays.values() for name, array in item.items()})

        return self._latest_whole(read, iteration)

    def restore_corrections(self, iteration: int | None = None) -> Corrections:
        """The low-rank corrections of a run that trained such, in the host's memory."""

        def read(iteration: int) -> Corrections:
            live = self._stored(iteration, "params")
            if not live:
                raise CheckpointError("params lacks its list of arrays")
            if not all(name.split(".")[0] in OUTPUTS for name in live):
                raise Mismatch(
                    f"checkpoint {iteration} holds whole weights and no low-rank corrections: should be of a run with "
                    "learner.lora.rank above 0"
                )
            shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in live.items()}
            return _pairs(self._read(iteration, {"params": shapes})["params"])

        return self._latest_whole(read, iteration)

    def wait(self) -> None:
        """Until the save under way is complete; raises what went wrong in it."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._tell_of_the_bucket("write a checkpoint", error)
            raise

    def close(self) -> None:
        self.wait()
        self._manager.close()

    def _tell_of_the_bucket(self, doing: str, error: Exception) -> None:
        if "://" in str(self.folder):
            tell_of_arrays(str(self.folder), doing, error)

    def _latest_whole(self, read: Callable[[int], T], iteration: int | None) -> T:
        self.wait()
        here = self._hosts.from_first(self.iterations)  # who lists a shared disk a moment later may see other folders
        if iteration is not None and iteration not in here:
            raise CheckpointError(f"{self.folder}: no checkpoint of iteration {iteration}; there are {here}")
        damaged = []
        for candidate in reversed(here) if iteration is None else [iteration]:
            try:
                return read(candidate)
            except (Mismatch, StorageError):  # a bucket that does not answer says nothing of its checkpoints
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
                self._tell_of_the_bucket(f"read checkpoint {candidate}", error)
                damaged.append(f"{candidate} ({_first_cause(error)})")
                log.warning("checkpoint %s in %s is damaged and passed over", damaged[-1], self.folder)
        if damaged:
            raise CheckpointError(f"{self.folder}: every checkpoint asked for is damaged: {'; '.join(damaged)}")
        raise CheckpointError(f"{self.folder}: there is no checkpoint")

    def _read(self, iteration: int, wanted: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Arrays by item and name; names and shapes are compared beforehand, digests afterwards."""
        read, problem, noted = None, None, dict[str, Any]()
        try:
            noted = self._json(iteration, "digests")
            if noted.get("extra") not in (None, _digest_of(self._json(iteration, "extra"))):  # older ones have none
                raise CheckpointError("extra is not what was saved")
            rounded = set(noted.get("rounded", ()))
            for item, arrays in wanted.items():
                stored = self._stored(iteration, item)
                if stored.keys() != noted.get(item, {}).keys():  # else it would be taken for that of another model
                    raise CheckpointError(f"{item} lacks its list of arrays, or a part of it")
                _compare(iteration, item, arrays, stored, rounded)
            targets = {
                item: {name: _target(a, jnp.bfloat16 if name in rounded else a.dtype) for name, a in arrays.items()}
                for item, arrays in wanted.items()
            }
            args = {item: ocp.args.StandardRestore(arrays) for item, arrays in targets.items()}
            read = self._manager.restore(iteration, args=ocp.args.Composite(**args))
        except Exception as error:  # Orbax and TensorStore raise many kinds for damaged files
            problem = error
        # Digests are computed by all processes together: if one has nothing to compute them of, none may begin.
        failed = self._hosts.gather(problem is not None)
        if problem is not None or read is None:
            raise problem or CheckpointError("nothing was read")
        if any(failed):
            raise CheckpointError(f"{self._hosts.names[failed.index(True)]} cannot read its part")
        for item in wanted:
            for name, digest in jax.device_get(_digests(read[item])).items():
                if int(digest) != noted[item][name]:
                    raise CheckpointError(f"{item} {name} is not what was saved")
        found = {item: dict(read[item]) for item in wanted}
        del read
        for item, arrays in wanted.items():
            for name, array in arrays.items():  # one by one: each rounded one goes before the next is widened
                found[item][name] = found[item][name].astype(array.dtype)
        return found

    def _json(self, iteration: int, item: str) -> dict[str, Any]:
        return self._manager.restore(iteration, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item]

    def _stored(self, iteration: int, item: str) -> dict[str, Any]:
        metadata = self._manager.item_metadata(iteration).get(item)
        return {} if metadata is None else dict(metadata.tree)


def _first_cause(error: BaseException) -> str:
    """Orbax wraps what TensorStore says, which names the file, in what it was about."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].partition(' [')[0][:400]}"


def _named(tree: object) -> dict[str, Any]:
    """{path: array}; a tree's structure is the caller's, its names are the file's."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _pairs(arrays: dict[str, Any]) -> Corrections:
    """Corrections by target and factor, of names like q.a."""
    pairs: Corrections = {}
    for name, array in arrays.items():
        target, factor = name.split(".")
        pairs.setdefault(target, {})[factor] = array
    return pairs


def _items(state: TrainState) -> dict[str, dict[str, Any]]:
    base = {} if state.base is None else {"base": _named(state.base)}
    return {"params": _named(state.params), "learner": _named(replace(state, params=None, base=None))} | base


def rounded_names(state: TrainState, moments: str) -> tuple[str, ...]:
    """The arrays that are written in bfloat16 and are not so themselves."""
    if moments == "same":
        return ()
    learner = _items(state)["learner"]
    return tuple(
        name for name, a in learner.items() if name.startswith("optimizer.") and a.ndim and a.dtype == jnp.float32
    )


def written_bytes(state: TrainState, moments: str = "same") -> int:
    """Of a checkpoint's arrays, before TensorStore packs them; `state` may hold shapes."""
    rounded = rounded_names(state, moments)
    sizes = {
        (item, name): a.size * (2 if item == "learner" and name in rounded else a.dtype.itemsize)
        for item, arrays in _items(state).items()
        for name, a in arrays.items()
    }
    return sum(sizes.values())


def _rebuilt(like: T, arrays: dict[str, Any]) -> T:
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in _named(like)])


def _replicated(arrays: dict[str, Any]) -> Sharding | None:
    """On all devices that hold these arrays; None for the host's memory."""
    sharding = getattr(next(iter(arrays.values())), "sharding", None)
    return NamedSharding(sharding.mesh, P()) if isinstance(sharding, NamedSharding) else sharding


def _compare(
    iteration: int, item: str, wanted: dict[str, Any], stored: dict[str, Any], rounded: Collection[str]
) -> None:
    """Those that were rounded were float32, and are to be again."""
    for name in sorted(wanted.keys() | stored.keys()):
        has, wants = (
            None if (a := arrays.get(name)) is None else (tuple(a.shape), jnp.dtype(a.dtype).name)
            for arrays in (stored, wanted)
        )
        if has is not None and name in rounded:
            has = has[0], "float32"
        if has != wants:
            raise Mismatch(
                f"checkpoint {iteration}, {item}: {name} is {_words(has)} there, and should be {_words(wants)}; the "
                "checkpoint is of another model, optimizer or set of trained weights"
            )


def _words(kind: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if kind is None else f"{kind[1]}{list(kind[0])}"


def _target(array: jax.Array | jax.ShapeDtypeStruct, dtype: jnp.dtype | type) -> jax.ShapeDtypeStruct:
    """Where and as what an array is to be read."""
    sharding = getattr(array, "sharding", None)
    mesh = jax.sharding.get_mesh()
    if isinstance(sharding, NamedSharding) and not isinstance(sharding.mesh, jax.sharding.Mesh):
        sharding = NamedSharding(mesh, sharding.spec)  # shapes traced under an abstract mesh
    if not isinstance(sharding, jax.sharding.Sharding):
        sharding = SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    return jax.ShapeDtypeStruct(array.shape, dtype, sharding=sharding)


def _digest_of(extra: dict[str, Any]) -> str:
    """As it is read: a pair is a list then, and a number that is a key a text."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(extra)), sort_keys=True).encode()).hexdigest()


@partial(jax.jit, static_argnums=1)
def _digests(arrays: dict[str, jax.Array], rounded: tuple[str, ...] = ()) -> dict[str, jax.Array]:
    """Sum of (2 i + 1) x (the i-th element's bits) mod 2^32: the same on any mesh, other if one element is other."""
    return {name: _digest(a.astype(jnp.bfloat16) if name in rounded else a) for name, a in arrays.items()}


def _digest(array: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}").astype(jnp.uint32)
    index, stride = jnp.uint32(0), 1
    for axis in reversed(range(array.ndim)):
        sharding = jax.typeof(array).sharding
        place = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis, out_sharding=sharding)
        index, stride = index + place * jnp.uint32(stride % 2**32), stride * array.shape[axis]
    return (bits * (2 * index + 1)).sum(dtype=jnp.uint32)
