"""The device mesh, and how arrays go from one layout on it to another.

A mesh has two axes: `fsdp` (rows of a batch, and shards of the weights while learning) and `tensor` (parts of a layer).
Where the learner holds its weights more than once, in several slices or in parts of a large one, `data` stands before
them: it splits the rows, and nothing else. Which axis of a weight lies on which of them is the model's to say
(models/sharding.py). `reshard` goes from the learner's layout to the sampler's on the devices.

Axes are explicit: a sharding that does not add up is an error when tracing, not a silent copy. Enter the mesh with
`jax.set_mesh(mesh)`. Left out on purpose: pipeline and expert parallelism.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from azr_jax.parallel.blocks import in_blocks
from azr_jax.parallel.chips import chip_of
from azr_jax.parallel.ring import in_a_ring
from azr_jax.parallel.trees import PyTree

T = TypeVar("T")
Axes = str | tuple[str, ...] | None
EVERY = ("fsdp", "tensor")  # one axis of an array over all devices


def make_mesh(fsdp: int = -1, tensor: int = 1, devices: Sequence[Any] | None = None, *, data: int = 1) -> Mesh:
    """A mesh of data x fsdp x tensor devices, those of a slice as neighbours; fsdp=-1 takes all that the others leave.

    `data` is no axis of it where it is 1.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    divisors = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
    if data < 1 or count % data:
        raise ValueError(f"mesh.data={data} does not divide {count} devices: it should be one of {divisors}")
    if data % (slices := slices_of(devices)):
        raise ValueError(f"mesh.data={data}, and there are {slices} slices: it should be {slices} or a multiple of it")
    if tensor < 1 or count // data % tensor:
        raise ValueError(f"mesh.tensor={tensor} does not divide {count} devices: it should be one of {divisors}")
    if fsdp == -1:
        fsdp = count // data // tensor
    if data * fsdp * tensor != count:
        copies = f"mesh.data={data} x " if data > 1 else ""
        raise ValueError(
            f"{copies}mesh.fsdp={fsdp} x mesh.tensor={tensor} is not {count} devices: "
            f"mesh.fsdp should be -1 or {count // data // tensor}"
        )
    ordered = in_order(devices)
    if ordered is None:
        ordered = jax.make_mesh((data * fsdp, tensor), ("rows", "tensor"), devices=devices).devices
    return _mesh(np.array(ordered), data, fsdp, tensor)


def _mesh(devices: np.ndarray, data: int, fsdp: int, tensor: int) -> Mesh:
    """Of devices in this order."""
    names = ("fsdp", "tensor") if data == 1 else ("data", "fsdp", "tensor")
    sizes = (fsdp, tensor) if data == 1 else (data, fsdp, tensor)
    return Mesh(devices.reshape(sizes), names, axis_types=(AxisType.Explicit,) * len(names))


def in_order(devices: Sequence[Any]) -> list[Any] | None:
    """Chips so that those which follow each other are neighbours, slice by slice; None for what is no slice."""
    ordered: list[Any] = []
    for of_slice in (slices := _by_slice(devices)):
        chip = chip_of(of_slice[0])
        order = in_blocks(of_slice) if chip and len(of_slice) > chip.ring else in_a_ring(of_slice)
        if order is None and len(slices) == 1:
            return None
        ordered += order or of_slice  # as they come: JAX orders the chips of one slice alone
    return ordered


def _by_slice(devices: Sequence[Any]) -> list[list[Any]]:
    found: dict[int, list[Any]] = {}
    for device in devices:
        is_tpu = getattr(device, "platform", None) == "tpu"  # GPUs are numbered by machine
        found.setdefault(getattr(device, "slice_index", 0) if is_tpu else 0, []).append(device)
    return [found[number] for number in sorted(found)]


def slices_of(devices: Sequence[Any]) -> int:
    """How many slices of TPUs these are; of all else it is one."""
    return len(_by_slice(devices))


def sharing_a_copy(mesh: Mesh) -> int:
    """Devices that a copy of the learner's weights lies on."""
    return mesh.size // mesh.shape.get("data", 1)


def row_axes(mesh: Mesh | AbstractMesh) -> Axes:
    """What rows of a learner's batch are split over."""
    return ("data", "fsdp") if "data" in mesh.axis_names else "fsdp"


def regrouped(mesh: Mesh, tensor: int) -> Mesh:
    """The devices of a mesh, in its order, with `tensor` neighbours to a layer: a program can carry arrays over to it.

    `make_mesh` would put them in another order, as suits the slice, and no program takes arrays in two orders.
    """
    return _mesh(mesh.devices, 1, mesh.size // tensor, tensor)


def bytes_per_device(tree: PyTree) -> int:
    """What arrays, or the shapes of arrays, take on each device they lie on."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def reshard(params: T, layout: PyTree, dtype: jnp.dtype | None = None) -> T:
    """`params` laid out as `layout` (a tree of shardings), real numbers cast to `dtype`: one program, between devices.

    What already lies so is passed on, not copied: whoever donates it afterwards takes it from both.
    """
    leaves, tree = jax.tree.flatten(params)
    wanted = targets(leaves, layout, dtype)
    moving = []
    for i, (leaf, (sharding, to)) in enumerate(zip(leaves, wanted)):
        if leaf.dtype != to or not leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            moving.append(i)
        elif leaf.sharding != sharding:  # other names for the same place: on an axis of one device, say
            leaves[i] = _renamed(leaf, sharding)
    program, names, mesh = mover([leaves[i] for i in moving], [wanted[i] for i in moving])
    with nullcontext() if mesh is None else jax.set_mesh(mesh):
        moved = program([_renamed(leaves[i], name) for i, name in zip(moving, names)])
    for i, leaf in zip(moving, moved):
        leaves[i] = _renamed(leaf, wanted[i][0])
    return jax.tree.unflatten(tree, leaves)


def targets(leaves: Sequence[Any], layout: PyTree, dtype: jnp.dtype | None) -> list[tuple[NamedSharding, jnp.dtype]]:
    """Where each array, or shape of one, is to lie, and its type there: whole numbers stay what they are."""
    dtypes = [dtype if dtype and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype for leaf in leaves]
    return list(zip(jax.tree.leaves(layout), dtypes, strict=True))


def mover(
    leaves: Sequence[Any], wanted: Sequence[tuple[NamedSharding, jnp.dtype]]
) -> tuple[jax.stages.Wrapped, list[Any], Any]:
    """The program that moves arrays (or shapes of arrays), the layouts it takes them in, and the mesh to call it in.

    Arrays on all devices of one mesh are taken by the names of the other, where it has them: then what moves inside a
    replica can go first. Left to itself the compiler would gather each of them whole on every device, and cut.
    """
    wanted = [(_by_copies(leaf.sharding, sharding), dtype) for leaf, (sharding, dtype) in zip(leaves, wanted)]
    names = [_in_names_of(sharding.mesh, leaf.sharding, leaf.ndim) for leaf, (sharding, _) in zip(leaves, wanted)]
    meshes = {sharding.mesh for sharding, _ in wanted}
    known = len(meshes) == 1 and None not in names
    if not known:
        names = [leaf.sharding for leaf in leaves]
    return _mover(tuple(wanted), known), names, meshes.pop() if known else None


def _by_copies(sharding: Sharding, to: NamedSharding) -> NamedSharding:
    """The same place as `to`, with the copies of the learner's weights apart: each goes over to its own replicas."""
    data = sharding.mesh.shape.get("data", 1) if isinstance(sharding, NamedSharding) else 1
    names, replicas = to.mesh.axis_names, to.mesh.shape["fsdp"]
    if data == 1 or "data" in names or "fsdp" in to.spec or replicas % data or not isinstance(to.mesh, Mesh):
        return to
    return NamedSharding(_mesh(to.mesh.devices, data, replicas // data, to.mesh.shape["tensor"]), to.spec)


def _in_names_of(mesh: Mesh | AbstractMesh, sharding: Sharding, ndim: int) -> NamedSharding | None:
    """How an array lies, in the names of a mesh over the same devices; None where it has no names for it."""
    if not isinstance(sharding, NamedSharding):
        return None
    spec = by_axis(sharding, ndim)
    for names in (spec, [EVERY if axis == "fsdp" else None for axis in spec]):
        if sharding.is_equivalent_to(same := NamedSharding(mesh, P(*names)), ndim):
            return same
    return None


def by_axis(sharding: NamedSharding, ndim: int) -> list[Axes]:
    """Over which devices each axis of an array lies; a spec may leave the last ones out."""
    return [*sharding.spec, *(None,) * ndim][:ndim]


def _renamed(leaf: jax.Array, sharding: Sharding) -> jax.Array:
    """The same buffers, under another name for where they lie."""
    if leaf.sharding == sharding:
        return leaf
    parts = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)


@functools.cache
def _mover(wanted: tuple[tuple[NamedSharding, jnp.dtype], ...], known: bool) -> jax.stages.Wrapped:
    def one(leaf: jax.Array, to: NamedSharding, dtype: jnp.dtype) -> jax.Array:
        if not known:
            return leaf.astype(dtype)
        layout = by_axis(to, leaf.ndim)
        if leaf.ndim > 2:  # layer by layer: what a whole stack needs on its way is as much as the stack
            return jax.lax.map(lambda layer: _by_parts(layer.astype(dtype), layout[1:], to.mesh), leaf)
        return _by_parts(leaf.astype(dtype), layout, to.mesh)

    def move(leaves: list[jax.Array]) -> list[jax.Array]:
        return [one(leaf, *how) for leaf, how in zip(leaves, wanted)]

    return jax.jit(move, out_shardings=[sharding for sharding, _ in wanted])


def _by_parts(x: jax.Array, layout: list[Axes], mesh: Mesh | AbstractMesh) -> jax.Array:
    """What lies over all devices is exchanged inside each replica first, then between equal parts of all replicas."""
    spec = by_axis(jax.typeof(x).sharding, x.ndim)
    halfway = P(*("fsdp" if axis == EVERY else there for axis, there in zip(spec, layout)))
    return jax.reshard(jax.reshard(x, NamedSharding(mesh, halfway)), NamedSharding(mesh, P(*layout)))


def place(tree: T, sharding: NamedSharding) -> T:
    """Numbers of the host on their devices. Every process gives the same, and keeps its own part.

    Of several processes, `device_put` would compare by a collective for each array whether they do give the same.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(value: object) -> jax.Array:
        if isinstance(value, jax.Array):
            return jax.device_put(value, sharding)
        value = np.asarray(value)
        return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])

    return jax.tree.map(put, tree)
