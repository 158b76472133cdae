"""Attention over a paged cache in plain XLA, for CPU and GPU: one query per slot (decode), or pieces of prompts.

Both walk over blocks of context with a running maximum and sum, as many blocks as the longest sequence needs: the cost
follows the tokens in flight, there is one program for every length, and a block that a row does not reach changes
nothing in it, to the bit.

The cache is one pool of pages per kind for all layers, keys as [L, N, G, K, P] and values as [L, N, G, P, K]: both
products of one query's attention then run along the last axis, which is what a CPU does fast. Of a cache of eight bits
the scales of both follow, [L, N, G, 1, P]. A row's numbers depend on its own tokens and on the static shapes alone.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.rollout.eight_bits import only, stored, times
from azr_jax.rollout.pieces import Call, PrefillRows
from azr_jax.rollout.requests import TILE

BLOCK = 128  # tokens of context that a tile of a prompt's tokens looks at together
SLOT_BLOCK = 32  # the same for a decoding slot; a page that is longer is a block by itself
SLOT_TILE = 4  # decoding slots that walk together

FAR = 2**30  # a position that no prompt has
UNSEEN = -1e30  # score of what is not seen; finite, for behind a window's end a whole block may be unseen

POOL = PartitionSpec(None, "fsdp", "tensor", None, None)  # each replica its pages, each device its heads

Cache = tuple[jax.Array, ...]  # keys, values, and of eight bits their scales


def empty_cache(layers: int, pages: int, page_size: int, kv_heads: int, head_dim: int, dtype: DTypeLike) -> Cache:
    keys = jnp.zeros((layers, pages, kv_heads, head_dim, page_size), dtype)
    values = jnp.zeros((layers, pages, kv_heads, page_size, head_dim), dtype)
    scales = 2 if keys.dtype == jnp.int8 else 0
    return keys, values, *(jnp.zeros((layers, pages, kv_heads, 1, page_size)) for _ in range(scales))


def page_size(cache: Cache) -> int:
    return cache[0].shape[-1]


def widths(pages_per_slot: int) -> tuple[int, ...]:
    """Pages of a slot that a call is compiled for: how many there are to look at is found out on the way."""
    return (pages_per_slot,)


def tile_of(head_dim: int) -> int:
    """Rows of a prefill call that should belong to one prompt."""
    del head_dim
    return TILE


def write_slots(k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, page_S, row_S) -> Cache:
    """Keys and values of one token per slot; a page out of range is written nowhere."""
    (k_pool, v_pool), pools = cache[:2], cache[2:]
    (k_SxGxK, v_SxGxK), scales_SxG = stored(k_Sx1xGxK[:, 0], v_Sx1xGxK[:, 0], k_pool)
    return (
        k_pool.at[layer, page_S, :, :, row_S].set(k_SxGxK, mode="drop"),
        v_pool.at[layer, page_S, :, row_S].set(v_SxGxK, mode="drop"),
        *(pool.at[layer, page_S, :, 0, row_S].set(of, mode="drop") for pool, of in zip(pools, scales_SxG)),
    )


def write_chunk(k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, page_T, row_T, tile: int) -> Cache:
    """Keys and values of pieces of prompts, by as many tokens as a page and a tile have in common.

    A page out of range is written nowhere; padding behind a piece is written with it.
    """
    (G, K, P), (k_pool, v_pool), pools = cache[0].shape[2:], cache[:2], cache[2:]
    U = math.gcd(P, tile)
    (k_TxGxK, v_TxGxK), scales_TxG = stored(k_1xTxGxK[0], v_1xTxGxK[0], k_pool)
    k_WxGxKxU = k_TxGxK.reshape(-1, U, G, K).transpose(0, 2, 3, 1)
    v_WxGxUxK = v_TxGxK.reshape(-1, U, G, K).transpose(0, 2, 1, 3)
    scales_WxGx1xU = (of.reshape(-1, U, G, 1).transpose(0, 2, 3, 1) for of in scales_TxG)
    page_W = page_T[::U]
    at_Wx3 = jnp.stack([jnp.full_like(page_W, layer), page_W, row_T[::U]], axis=1)

    def put(pool, new, axis: int):
        axes = jax.lax.ScatterDimensionNumbers((1, 2, 3), (0, 1), (0, 1, axis))
        return jax.lax.scatter(pool, at_Wx3, new, axes, mode=jax.lax.GatherScatterMode.FILL_OR_DROP)

    put_scales = (put(pool, of, 4) for pool, of in zip(pools, scales_WxGx1xU))
    return put(k_pool, k_WxGxKxU, 4), put(v_pool, v_WxGxUxK, 3), *put_scales


def slot_block(page_size: int) -> int:
    """Tokens of context that `attend_slots` looks at together."""
    return -(-SLOT_BLOCK // page_size) * page_size


def chunk_block(page_size: int) -> int:
    """Tokens of context that `attend_chunk` looks at together."""
    return -(-BLOCK // page_size) * page_size


def attend_slots(q_Sx1xHxK, cache: Cache, layer, table_SxM, position_S, on_S, window=None) -> jax.Array:
    """Attention of one query per slot over the pages of that slot, or over the last `window` tokens of them.

    Slots come sorted, the longest first, and are taken a few at a time: each few walk as far as the longest of them, so
    the cost is that of the tokens there are. However many there are to walk with, it is one program, and a row's
    numbers are the same; of programs for several widths each may round otherwise.
    """
    S, _, H, K = q_Sx1xHxK.shape
    (G, P), dtype = cache[1].shape[2:4], q_Sx1xHxK.dtype
    R, E = H // G, slot_block(P) // P  # queries per key head, pages per block
    W = min(S, SLOT_TILE)

    def tile(rows) -> jax.Array:
        q_WxGxRxK, table_WxM, position_W, on_W = rows

        def block(number, running):
            top_WxGxR, sum_WxGxR, out_WxGxRxK = running
            pages_WxE = jax.lax.dynamic_slice_in_dim(table_WxM, number * E, E, axis=1)
            back_WxExP = position_W[:, None, None] - (number * E * P + jnp.arange(E * P)).reshape(E, P)
            seen_WxExP = back_WxExP >= 0 if window is None else (back_WxExP >= 0) & (back_WxExP < window)
            k_WxExGxKxP, v_WxExGxPxK, *scales_WxExGx1xP = (pool[layer, pages_WxE] for pool in cache)
            k_scale, v_scale = scales_WxExGx1xP or (None, None)
            v_WxExGxPxK, v_scale = only(seen_WxExP[:, :, None], v_WxExGxPxK, v_scale)
            q_WxExGxRxK = jnp.broadcast_to(q_WxGxRxK[:, None], (W, E, G, R, K))
            scores_WxExGxRxP = jnp.einsum(
                "segrk,segkp->segrp", q_WxExGxRxK, k_WxExGxKxP.astype(dtype), preferred_element_type=jnp.float32
            )
            scores_WxExGxRxP = times(scores_WxExGxRxP, k_scale)
            scores_WxExGxRxP = jnp.where(seen_WxExP[:, :, None, None], scores_WxExGxRxP, UNSEEN)
            new_top_WxGxR = jnp.maximum(top_WxGxR, scores_WxExGxRxP.max(axis=(1, 4)))
            weights_WxExGxRxP = jnp.exp(scores_WxExGxRxP - new_top_WxGxR[:, None, :, :, None])
            keep_WxGxR = jnp.exp(top_WxGxR - new_top_WxGxR)
            added_WxExGxRxK = jnp.einsum(
                "segrp,segpk->segrk",
                times(weights_WxExGxRxP, v_scale).astype(dtype),
                v_WxExGxPxK.astype(dtype),
                preferred_element_type=jnp.float32,
            )
            return (
                new_top_WxGxR,
                sum_WxGxR * keep_WxGxR + weights_WxExGxRxP.sum(axis=(1, 4)),
                out_WxGxRxK * keep_WxGxR[..., None] + added_WxExGxRxK.sum(axis=1),
            )

        last = jnp.where(on_W, position_W, -1).max()
        first = 0
        if window is not None:
            first = jnp.maximum(jnp.where(on_W, position_W, last).min() - window + 1, 0) // (E * P)
        start = (jnp.full((W, G, R), -jnp.inf), jnp.zeros((W, G, R)), jnp.zeros((W, G, R, K)))
        _, sum_WxGxR, out_WxGxRxK = jax.lax.fori_loop(first, last // (E * P) + 1, block, start)
        sum_WxGxR = jnp.where(on_W[:, None, None], sum_WxGxR, 1.0)  # a slot that is off may have seen nothing
        return out_WxGxRxK / sum_WxGxR[..., None]

    def in_tiles(x):
        return jnp.pad(x, ((0, -S % W), *((0, 0),) * (x.ndim - 1))).reshape(-1, W, *x.shape[1:])

    table_SxM = jnp.pad(table_SxM, ((0, 0), (0, -table_SxM.shape[1] % E)))
    q_SxGxRxK = (q_Sx1xHxK.reshape(S, G, R, K) * K**-0.5).astype(dtype)
    out_NxWxGxRxK = jax.lax.map(tile, jax.tree.map(in_tiles, (q_SxGxRxK, table_SxM, position_S, on_S)))
    return out_NxWxGxRxK.reshape(-1, 1, H, K)[:S].astype(q_Sx1xHxK.dtype)


def attend_chunk(q_1xTxHxK, cache: Cache, layer, call: Call, rows: PrefillRows, tile: int, window=None) -> jax.Array:
    """Attention of pieces of prompts over all that stands before each and in it, as matrix products of tiles.

    With a `window` each token sees so many tokens back, itself among them.
    """
    G, P, K = cache[1].shape[2:]

    def context(pages_NxE):
        k_NxExGxKxP, v_NxExGxPxK, *scales_NxExGx1xP = (pool[layer, pages_NxE] for pool in cache)
        return (
            k_NxExGxKxP.transpose(0, 2, 3, 1, 4).reshape(len(pages_NxE), G, K, -1),
            v_NxExGxPxK.transpose(0, 2, 1, 3, 4).reshape(len(pages_NxE), G, -1, K),
            *(of.transpose(0, 2, 3, 1, 4).reshape(len(pages_NxE), G, 1, -1) for of in scales_NxExGx1xP),
        )

    return attend_tiles(q_1xTxHxK, context, (G, P, chunk_block(P) // P), call, rows, tile, window)


def attend_tiles(
    q_1xTxHxK, context, sizes: tuple[int, int, int], call: Call, rows: PrefillRows, tile: int, window=None
) -> jax.Array:
    """`context`: pages [N, E] -> their keys [N, G, K, C] and values [N, G, C, K], and of eight bits the scales of both,
    [N, G, 1, C]. `sizes`: G, tokens a page, and E.
    """
    T, (_, _, H, K), (G, P, E), dtype = tile, q_1xTxHxK.shape, sizes, q_1xTxHxK.dtype
    R = H // G
    piece_N, start_N = rows.piece[::T], rows.position[::T]
    N = piece_N.shape[0]
    end_N = jnp.where(rows.live[::T], jnp.minimum(call.end[piece_N], start_N + T), 0)
    table_NxM = jnp.pad(call.table, ((0, 0), (0, -call.table.shape[1] % E)))[piece_N]
    q_NxGxRTxK = q_1xTxHxK.reshape(N, T, G, R, K).transpose(0, 2, 3, 1, 4).reshape(N, G, R * T, K) * K**-0.5
    positions_NxRT = jnp.tile(rows.position.reshape(N, T), R)

    def block(number, running):
        top_NxGxRT, sum_NxGxRT, out_NxGxRTxK = running
        pages_NxE = jax.lax.dynamic_slice_in_dim(table_NxM, number * E, E, axis=1)
        context_C = number * E * P + jnp.arange(E * P)
        k_NxGxKxC, v_NxGxCxK, *scales_NxGx1xC = context(pages_NxE)
        k_scale, v_scale = scales_NxGx1xC or (None, None)
        v_NxGxCxK, v_scale = only((context_C < end_N[:, None])[:, None], v_NxGxCxK, v_scale)
        scores_NxGxRTxC = jnp.einsum(
            "ngtk,ngkc->ngtc", q_NxGxRTxK, k_NxGxKxC.astype(dtype), preferred_element_type=jnp.float32
        )
        scores_NxGxRTxC = times(scores_NxGxRTxC, k_scale)
        back_NxRTxC = positions_NxRT[:, :, None] - context_C
        seen_NxRTxC = back_NxRTxC >= 0 if window is None else (back_NxRTxC >= 0) & (back_NxRTxC < window)
        scores_NxGxRTxC = jnp.where(seen_NxRTxC[:, None], scores_NxGxRTxC, UNSEEN)
        new_top_NxGxRT = jnp.maximum(top_NxGxRT, scores_NxGxRTxC.max(axis=-1))
        weights_NxGxRTxC = jnp.exp(scores_NxGxRTxC - new_top_NxGxRT[..., None])
        keep_NxGxRT = jnp.exp(top_NxGxRT - new_top_NxGxRT)
        added_NxGxRTxK = jnp.einsum(
            "ngtc,ngck->ngtk",
            times(weights_NxGxRTxC, v_scale).astype(dtype),
            v_NxGxCxK.astype(dtype),
            preferred_element_type=jnp.float32,
        )
        return (
            new_top_NxGxRT,
            sum_NxGxRT * keep_NxGxRT + weights_NxGxRTxC.sum(axis=-1),
            out_NxGxRTxK * keep_NxGxRT[..., None] + added_NxGxRTxK,
        )

    nothing = (jnp.full((N, G, R * T), -jnp.inf), jnp.zeros((N, G, R * T)), jnp.zeros((N, G, R * T, K)))
    first = 0 if window is None else jnp.maximum(jnp.where(end_N > 0, start_N, FAR).min() - window + 1, 0) // (E * P)
    _, sum_NxGxRT, out_NxGxRTxK = jax.lax.fori_loop(first, -(-end_N.max() // (E * P)), block, nothing)
    out_NxTxGxRxK = (out_NxGxRTxK / sum_NxGxRT[..., None]).reshape(N, G, R, T, K).transpose(0, 3, 1, 2, 4)
    return out_NxTxGxRxK.reshape(q_1xTxHxK.shape).astype(q_1xTxHxK.dtype)
