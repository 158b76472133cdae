"""Attention over a paged cache for GPUs: all pages of a sequence are gathered, and looked at together.

A loop over blocks of context, as on a CPU, would be some twenty small kernels for each block, layer and token, and a
GPU spends longer on starting them than on what they do. Here it is one gather and two products, whatever the context.
What is gathered is as wide as the longest sequence needs, rounded up to one of a few widths that are compiled
(`widths`); the width is chosen once for all steps of a call (steps.py). The price: the cache is read, written and read.

The cache is one pool of pages for all layers, keys and values as [L, N, P, G, K]: a token's numbers lie side by side,
and pages gathered are a context as it is. Of a cache of eight bits the scales of both follow, [L, N, P, G, 1]. Sums run
over the whole width, so their last bits may differ between widths, and with them, now and then, a token: by who is
decoded beside a sequence. `rollout.attention=xla` knows no neighbours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.rollout.eight_bits import stored, times
from azr_jax.rollout.pieces import Call, PrefillRows
from azr_jax.rollout.requests import TILE

UNSEEN = -1e30  # score of what is not seen
PARTS = (4, 2, 1)  # widths: these parts of the longest

POOL = PartitionSpec(None, "fsdp", None, "tensor", None)  # each replica its pages, each device its heads

Cache = tuple[jax.Array, ...]  # keys, values, and of eight bits their scales


def empty_cache(layers: int, pages: int, page_size: int, kv_heads: int, head_dim: int, dtype: DTypeLike) -> Cache:
    shape = (layers, pages, page_size, kv_heads, head_dim)
    scales = 2 if jnp.dtype(dtype) == jnp.int8 else 0
    return *(jnp.zeros(shape, dtype) for _ in range(2)), *(jnp.zeros((*shape[:-1], 1)) for _ in range(scales))


def page_size(cache: Cache) -> int:
    return cache[0].shape[2]


def widths(pages_per_slot: int) -> tuple[int, ...]:
    """Pages of a slot that are looked at together, the fewest first."""
    return tuple(sorted({-(-pages_per_slot // part) for part in PARTS}))


def tile_of(head_dim: int) -> int:
    """Rows of a prefill call that should belong to one prompt."""
    del head_dim
    return TILE


def write_slots(k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, page_S, row_S) -> Cache:
    """Keys and values of one token per slot; a page out of range is written nowhere."""
    new_SxGxK, scales_SxG = stored(k_Sx1xGxK[:, 0], v_Sx1xGxK[:, 0], cache[0])
    new = *new_SxGxK, *(of[..., None] for of in scales_SxG)
    return tuple(pool.at[layer, page_S, row_S].set(of, mode="drop") for pool, of in zip(cache, new))


def write_chunk(k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, page_T, row_T, tile: int) -> Cache:
    """Keys and values of pieces of prompts; a page out of range is written nowhere."""
    del tile
    return write_slots(k_1xTxGxK.swapaxes(0, 1), v_1xTxGxK.swapaxes(0, 1), cache, layer, page_T, row_T)


def attend_slots(q_Sx1xHxK, cache: Cache, layer, table_SxM, position_S, on_S, window=None) -> jax.Array:
    """Attention of one query per slot over the pages of that slot, or over the last `window` tokens of them."""
    del on_S  # a slot that is off is computed too: what it sees is its own, and nobody takes it
    return _attend(q_Sx1xHxK, cache, layer, table_SxM, position_S[:, None], window)


def attend_chunk(q_1xTxHxK, cache: Cache, layer, call: Call, rows: PrefillRows, tile: int, window=None) -> jax.Array:
    """Attention of pieces of prompts over all that stands before each and in it; of padding, anything."""
    last_T = jnp.maximum(call.end[rows.piece] - 1, 0)
    positions_NxT = jnp.minimum(rows.position, last_T).reshape(-1, tile)
    q_NxTxHxK = q_1xTxHxK.reshape(-1, tile, *q_1xTxHxK.shape[2:])
    out_NxTxHxK = _attend(q_NxTxHxK, cache, layer, call.table[rows.piece[::tile]], positions_NxT, window)
    return out_NxTxHxK.reshape(q_1xTxHxK.shape)


def _attend(q_SxTxHxK, cache: Cache, layer, table_SxM, position_SxT, window) -> jax.Array:
    S, T, H, K = q_SxTxHxK.shape
    (P, G), dtype = cache[0].shape[2:4], q_SxTxHxK.dtype
    C, R = table_SxM.shape[1] * P, H // G  # tokens of context, queries per key head
    k_SxCxGxK, v_SxCxGxK, *scales_SxCxGx1 = (pool[layer, table_SxM].reshape(S, C, G, -1) for pool in cache)
    k_scale, v_scale = [of.transpose(0, 2, 3, 1)[:, :, None] for of in scales_SxCxGx1] or (None, None)
    back_SxTxC = position_SxT[..., None] - jnp.arange(C)
    seen_SxTxC = back_SxTxC >= 0 if window is None else (back_SxTxC >= 0) & (back_SxTxC < window)
    # What no query sees may hold anything, NaN of another sequence among it.
    reached_SxC = jnp.arange(C) <= position_SxT.max(axis=1, keepdims=True)
    q_SxTxGxRxK = (q_SxTxHxK.reshape(S, T, G, R, K) * K**-0.5).astype(dtype)
    scores = jnp.einsum("stgrk,scgk->sgrtc", q_SxTxGxRxK, k_SxCxGxK.astype(dtype), preferred_element_type=jnp.float32)
    scores_SxGxRxTxC = jnp.where(seen_SxTxC[:, None, None], times(scores, k_scale), UNSEEN)
    weights = jnp.exp(scores_SxGxRxTxC - scores_SxGxRxTxC.max(axis=-1, keepdims=True))
    if v_scale is None:
        v_SxCxGxK = jnp.where(reached_SxC[..., None, None], v_SxCxGxK, 0)
    else:
        v_scale = jnp.where(reached_SxC[:, None, None, None], v_scale, 0)
    out = jnp.einsum(
        "sgrtc,scgk->stgrk",
        times(weights, v_scale).astype(dtype),
        v_SxCxGxK.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    sum_SxTxGxRx1 = weights.sum(axis=-1).transpose(0, 3, 1, 2)[..., None]
    return (out / sum_SxTxGxRx1).reshape(S, T, H, K).astype(q_SxTxHxK.dtype)


def slot_block(page_size: int) -> int:
    """Tokens of context that a query looks at together, beside what `widths` says: of whole pages."""
    return page_size


chunk_block = slot_block
