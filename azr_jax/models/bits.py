"""Matrices of bfloat16 for a CPU, kept as their bits.

XLA on a CPU computes everything but products in float32, a slice of stacked layers and a row of the embedding included:
a forward over weights of bfloat16 first makes float32 of all of them, in every call. Integers it takes as they are.
Measured for the layers of a 0.5B model and 32 tokens: 0.07 s a forward for 0.33 s (docs/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from azr_jax.models.products import StandIn


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bits(StandIn):
    """A weight of bfloat16."""

    bits: jax.Array  # uint16

    def astype(self, dtype: DTypeLike) -> jax.Array:
        return jax.lax.bitcast_convert_type(self.bits, jnp.bfloat16).astype(dtype)


@jax.jit
def _bits(w: jax.Array) -> Bits:
    return Bits(jax.lax.bitcast_convert_type(w, jnp.uint16))


def as_bits(params: nnx.State) -> nnx.State:
    """The same parameters, what is multiplied as bits where it is bfloat16."""

    def one(path: tuple[Any, ...], leaf: nnx.Variable) -> nnx.Variable:
        w = leaf[...]
        if isinstance(w, StandIn):
            return leaf
        matrix = w.ndim > (path[0] == "layers") + 1 and w.dtype == jnp.bfloat16
        return leaf.replace(_bits(w)) if matrix else leaf

    return nnx.map_state(one, params)
