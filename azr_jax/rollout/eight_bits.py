"""Keys and values of eight bits: of each token and head one scale, chosen so that its largest number is 127 of them.

A pool of steps has a pool of scales beside it. Where tokens are looked at, a query's product with the steps of a key is
taken times the key's scale, and a weight times the value's scale before it multiplies the steps: both are whole numbers
up to 127, which bfloat16 holds as they are. What is no number does not pass for one: its scale is none, too.

A scale is as good as the largest number is like the others. Keys are not alike: so each is turned with its query, by a
matrix that puts as much of every number into every other (`turned`), and before that the model's weights are changed
(models/balance.py). Neither alone is enough: SmolLM2 needs the one, Qwen2.5 the other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from azr_jax.models.int8 import in_steps


def turned(x: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Queries or keys [..., K] times a Hadamard matrix over its root: products of what is turned are the same.

    A head whose numbers are no power of two is turned in parts that are.
    """
    K = x.shape[-1]
    part = K & -K
    signs = jnp.asarray(_hadamard(part), x.dtype)
    parts = x.reshape(*x.shape[:-1], -1, part)
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    sums = jnp.einsum("...k,kj->...j", parts, signs, precision=precision, preferred_element_type=jnp.float32)
    return (sums * part**-0.5).reshape(x.shape).astype(dtype)


def _hadamard(size: int) -> np.ndarray:
    signs = np.ones((1, 1), np.float32)
    while len(signs) < size:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs


def in_eight_bits(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys or values [..., K] as steps, and their scales [...]."""
    steps, scale = in_steps(x, axis=-1, dtype=jnp.dtype(jnp.float32))
    return steps, scale[..., 0]


def queries_and_keys(q: jax.Array, k: jax.Array, pool: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As a cache with a pool like this one is looked at, and written."""
    return (turned(q, q.dtype), turned(k, jnp.float32)) if pool.dtype == jnp.int8 else (q, k)


def stored(k: jax.Array, v: jax.Array, pool: jax.Array) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """Both as a pool like this one holds them, and their scales, where it holds steps."""
    if pool.dtype != jnp.int8:
        return (k.astype(pool.dtype), v.astype(pool.dtype)), ()
    (k, k_scale), (v, v_scale) = in_eight_bits(k), in_eight_bits(v)
    return (k, v), (k_scale, v_scale)


def times(x: jax.Array, scale: jax.Array | None) -> jax.Array:
    """`scale` None: of numbers that are kept as they are."""
    return x if scale is None else x * scale


def only(seen: jax.Array, numbers: jax.Array, scale: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Values with nothing behind what is seen, [..., C] of [..., C, K] and of [..., 1, C]: it may hold anything, NaN of
    another sequence among it. Steps are numbers in any case.
    """
    if scale is None:
        return jnp.where(seen[..., None], numbers, 0), None
    return numbers, jnp.where(seen[..., None, :], scale, 0)
