"""Queries and keys made alike in size, for a sampler that keeps keys in eight bits.

A query's product with a key stays what it is where a number of the key is halved and that of the query doubled. Some
models have numbers in their keys that are a hundred times the others (Qwen2.5's biases): with one scale for all of a
key, nothing is left for the small ones. Powers of two alone are moved, from the weights of keys to those of queries, so
that not a bit of what the model computes changes; and by half of the way, or what is large in queries would grow.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.models.products import layout_of
from azr_jax.models.spec import ModelSpec

MOST = 14  # of a power: no weight runs out of its type
_SIZES = ("attn_norm", "k", "k_bias", "k_norm")  # what keys are as large as


def key_powers(params: nnx.State, spec: ModelSpec) -> jax.Array | None:
    """What keys are to be divided by, [L, G, K], or [L, 1, K] where a norm has the last word on them. Any will do: keys
    that were divided by others than their queries are multiplied by alone are wrong.
    """
    if spec.gemma:  # its norms are stored less 1: a power of two would round them
        return None
    return _powers(spec.qk_norm, {name: leaf.get_value() for name, leaf in params["layers"].items() if name in _SIZES})


def balanced(params: nnx.State, spec: ModelSpec, powers_LxGxK: jax.Array | None) -> nnx.State:
    """The same model, where the weights lie. What is not touched is not copied."""
    if powers_LxGxK is None:
        return params
    layers = {name: leaf.get_value() for name, leaf in params["layers"].items()}
    lies = layers["k"].sharding
    mesh = lies.mesh if isinstance(lies, NamedSharding) else None
    with jax.set_mesh(mesh) if isinstance(mesh, Mesh) else nullcontext():  # whoever calls
        changed = {
            ("layers", side + name): _times(sign, layers[side + name], powers_LxGxK)
            for name in (("_norm",) if spec.qk_norm else ("", "_bias"))
            for side, sign in (("q", 1), ("k", -1))
            if side + name in layers
        }
    return nnx.map_state(lambda path, leaf: leaf.replace(changed[path]) if path in changed else leaf, params)


@partial(jax.jit, static_argnums=0)
def _powers(normed: bool, weights: dict[str, jax.Array]) -> jax.Array:
    of = {name: value.astype(jnp.float32) for name, value in weights.items()}
    if normed:
        squared = jnp.square(of["k_norm"])[:, None]
    else:  # what comes in has numbers of about 1, and then a norm's
        squared = jnp.square(of["k"] * of["attn_norm"][:, None, None]).sum(axis=-1)
        squared += jnp.square(of["k_bias"]) if "k_bias" in of else 0
    left, right = jnp.split(squared, 2, axis=-1)
    pair = jnp.log2(left + right) / 4  # rope turns them into each other; half of the root's power
    powers = jnp.where(jnp.isfinite(pair), jnp.round(pair).clip(-MOST, MOST), 0)
    return jnp.concatenate([powers, powers], axis=-1)


@partial(jax.jit, static_argnums=0)
def _times(sign: int, weight: jax.Array, powers_LxGxK: jax.Array) -> jax.Array:
    """`weight`: [L, heads, K, D], [L, heads, K] or, of a norm, [L, K]."""
    if weight.ndim == 2:
        powers = powers_LxGxK[:, 0]
    else:
        lies = None if (layout := layout_of(weight)) is None else P(*layout[:3])
        powers = jnp.repeat(powers_LxGxK, weight.shape[1] // powers_LxGxK.shape[1], axis=1, out_sharding=lies)
        powers = powers.reshape(*powers.shape, *(1,) * (weight.ndim - powers.ndim))
    # By the bits of a float32, whose exponent is 127 more: what a TPU takes for 2 ** n need not be a power of two.
    bits = (sign * powers.astype(jnp.int32) + 127) << 23
    return weight * lax.bitcast_convert_type(bits, jnp.float32).astype(weight.dtype)
