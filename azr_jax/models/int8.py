"""Weights of eight bits for the sampler: of each output one scale, chosen so that its largest weight is 127 of them.

Only what the layers multiply by is stored so. It is what a step of few rows reads most of; the embedding, which draws
the tokens, and everything small stay as they are. Learner and sampler then multiply different numbers, and importance
weights have to answer for it (`learner.importance`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from azr_jax.models.products import StandIn, einsum
from azr_jax.models.spec import OUTPUTS, ModelSpec

LARGEST = 127  # not -128: a weight and its opposite are as far from 0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8(StandIn):
    """A weight is `steps` times its output's `scale`."""

    steps: Any  # an array, int8 [(L,) out..., in...], or where it lies
    scale: Any  # the same, [(L,) out...], in the type that the weight is multiplied in

    def product(self, formula: str, layout: P | None, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """As products.product, for a sampler: no gradient, nothing to gather. Each sum of whole steps is scaled."""
        y = einsum(formula, x.astype(dtype), self.steps.astype(dtype), x.dtype, layout)
        return (y.astype(jnp.float32) * self.scale.astype(jnp.float32)).astype(x.dtype)


def is_quantized(path: tuple[Any, ...]) -> bool:
    return path[0] == "layers" and path[-1] in OUTPUTS


def quantized(params: nnx.State, dtype: jnp.dtype) -> nnx.State:
    """Where the weights lie, and as they lie: so half as much has to move to the sampler's devices."""

    def one(path: tuple[Any, ...], leaf: nnx.Variable) -> nnx.Variable:
        return leaf.replace(_quantized(1 + OUTPUTS[path[-1]], dtype, leaf[...])) if is_quantized(path) else leaf

    return nnx.map_state(one, params)


@partial(jax.jit, static_argnums=(0, 1))
def _quantized(outs: int, dtype: jnp.dtype, w: jax.Array) -> Int8:
    steps, scale = in_steps(w, tuple(range(outs, w.ndim)), dtype)
    return Int8(steps, scale.reshape(scale.shape[:outs]))


def in_steps(x: jax.Array, axis: int | tuple[int, ...], dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Whole numbers, int8, and the scale of `dtype` that all along `axis` are multiples of, with that axis kept."""
    x = x.astype(jnp.float32)
    largest = jnp.abs(x).max(axis=axis, keepdims=True)
    # What is no number must not pass for one: its output's scale is none, too. A maximum alone may step over it.
    largest = jnp.where(jnp.isfinite(x).all(axis=axis, keepdims=True), largest, jnp.nan)
    scale = jnp.where(largest == 0, 1.0, largest / LARGEST).astype(dtype)  # steps are counted in what is kept of it
    return jnp.round(x / scale.astype(jnp.float32)).clip(-LARGEST, LARGEST).astype(jnp.int8), scale


def quantized_layout(layout: nnx.State) -> nnx.State:
    """Shardings of such weights, from those of the weights that they stand for."""

    def one(path: tuple[Any, ...], leaf: nnx.Variable) -> nnx.Variable:
        if not is_quantized(path):
            return leaf
        whole = leaf.get_value()
        of_outputs = NamedSharding(whole.mesh, P(*whole.spec[: 1 + OUTPUTS[path[-1]]]))
        return leaf.replace(Int8(whole, of_outputs))

    return nnx.map_state(one, layout)


def quantized_shapes(params: nnx.State, dtype: jnp.dtype) -> nnx.State:
    """Of abstract parameters that say where they lie: the shapes of such weights, lying as `quantized` leaves them."""
    layout = quantized_layout(jax.tree.map(lambda leaf: leaf.sharding, params))
    shapes = jax.eval_shape(partial(quantized, dtype=dtype), params)
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, layout)


def matrix_bytes(quantization: str, itemsize: int) -> int:
    """Of a number in the layers' matrices, as the sampler has them; `itemsize`: of all others."""
    return 1 if quantization == "int8" else itemsize


def weight_bytes(spec: ModelSpec, itemsize: int, in_matrices: int) -> int:
    """Of all weights, scales among them; `in_matrices`: of a number in the layers' matrices."""
    scales = spec.depth * sum(math.prod(w.shape[: OUTPUTS[w.path[-1]]]) for w in spec.weights() if is_quantized(w.path))
    others = spec.parameters() - spec.layer_matrices + scales * (in_matrices < itemsize)
    return in_matrices * spec.layer_matrices + itemsize * others
