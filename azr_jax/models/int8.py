"""Matrices of eight bits for sampling: half the memory they take, and half of what is sent at each hand-over.

Each output channel (of the embedding, each token) has a scale of its own, the largest of its weights over 127. A
product multiplies the integers in the compute type, where they are exact, and scales what comes out. Norms and biases
stay as they are. What the learner trains is never rounded so: the sampler's policy is another one by a little, which
importance weights have to make up for.

Left out: a product that reads the integers themselves. The TPU compiler (libtpu 0.0.42) turns a layer's into bfloat16
first, so that a decoding step moves more bytes than without (docs/LOG.md); that wants a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from azr_jax.models.products import einsum
from azr_jax.parallel.trees import PyTree

# Axes of a matrix's output, which come first; those of the input are behind them.
OUTPUTS = {"embed": 1, "unembed": 1, "q": 2, "k": 2, "v": 2, "o": 1, "gate": 1, "up": 1, "down": 1}
LARGEST = 127


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8:
    """A matrix. Stands where the model expects an array."""

    whole: PyTree  # int8 [(L,) out..., in...]
    scale: PyTree  # float32 [(L,) out...]

    def __getitem__(self, index: Any) -> Int8:
        assert index is Ellipsis
        return self

    def product(self, formula: str, layout: P | None, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """As products.product, of weights that are not gathered. Without a gradient worth the name."""
        y = einsum(formula, x.astype(dtype), self.whole.astype(dtype), jnp.dtype(jnp.float32), layout)
        return (y * self.scale).astype(x.dtype)


def rounded(path: tuple[Any, ...]) -> bool:
    """Whether the parameter at this path is one of the matrices."""
    return path[-1] in OUTPUTS


def _channels(path: tuple[Any, ...]) -> int:
    """Axes that the scale has: those of the output, and that of the layers."""
    return OUTPUTS[path[-1]] + (path[0] == "layers")


@partial(jax.jit, static_argnums=1)
def _rounded(w: jax.Array, channels: int) -> Int8:
    w, inputs = w.astype(jnp.float32), tuple(range(channels, w.ndim))
    scale = jnp.maximum(jnp.max(jnp.abs(w), axis=inputs, keepdims=True), jnp.finfo(jnp.float32).tiny) / LARGEST
    whole = jnp.round(w / scale).astype(jnp.int8)
    return Int8(whole, jnp.squeeze(scale, inputs))


def as_int8(params: nnx.State, dtype: DTypeLike) -> nnx.State:
    """The same parameters, each where it lies: matrices as integers, the others as `dtype`."""

    def one(path: tuple[Any, ...], leaf: PyTree) -> PyTree:
        w = leaf[...]
        return leaf.replace(_rounded(w, _channels(path)) if rounded(path) else w.astype(dtype))

    return nnx.map_state(one, params)


def int8_layout(layout: nnx.State) -> nnx.State:
    """Of shardings of the parameters those of the same parameters as integers."""

    def one(path: tuple[Any, ...], leaf: PyTree) -> PyTree:
        if not rounded(path):
            return leaf
        place = leaf.get_raw_value()
        spec = [*place.spec, *(None,) * 4][: _channels(path)]
        return leaf.replace(Int8(place, NamedSharding(place.mesh, P(*spec))))

    return nnx.map_state(one, layout)
