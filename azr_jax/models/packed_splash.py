"""Attention of packed rows on TPU: the splash kernel that JAX ships, told which tiles of a row are worth computing.

By itself the kernel computes every tile below the diagonal and masks what belongs to other samples: of a row of short
samples that is several times what is needed. Here the tiles follow from the packing, on the device: the queries of a
tile need the keys from the beginning of the first one's sample to their own, and nothing else is computed. Queries of
padding see padding beside them, so that what comes out is finite; nobody reads it.

Narrow tiles waste least at the edges of a sample, and wide ones keep the matrix unit busy. So the query heads that look
at one key/value head go through the kernel together: a tile is few tokens of many heads (benchmarks/packed_attention.py
counts what tiles compute).

Left out: tiles that are skipped still cost the kernel's loop a step each, without a product and without a read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_kernel import (
    DEFAULT_MASK_VALUE,
    SplashAttentionKernel,
)
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

ROWS = 1024  # of a tile of queries, at most: tokens x heads
SIZES = (512, 256, 128)  # tokens of a tile of keys: the largest that divides the row, and is small beside it
SMALL = 1 / 8
FEWEST = 128  # tokens of a tile of queries, or twice as many where the heads are few


@dataclass(frozen=True)
class Tiles:
    """How a row is cut: queries by `tokens` x `heads`, keys by `keys`."""

    tokens: int
    heads: int
    keys: int


def tiles_of(length: int, heads_per_key: int) -> Tiles:
    """`heads_per_key`: query heads that look at one key/value head."""
    fitting = [size for size in SIZES if length % size == 0]
    if not fitting:
        raise ValueError(f"attention='splash' with rows of {length} tokens: it should be a multiple of {SIZES[-1]}")
    keys = next((size for size in fitting if size <= SMALL * length), fitting[-1])
    heads = max(n for n in range(1, heads_per_key + 1) if heads_per_key % n == 0 and n * FEWEST <= ROWS)
    twice = 2 * FEWEST * heads <= ROWS and length % (2 * FEWEST) == 0
    return Tiles(FEWEST * (1 + twice), heads, keys)


def first_and_last(segments_T: jax.Array, tiles: Tiles) -> tuple[jax.Array, jax.Array]:
    """Of each tile of queries, the first and the last tile of keys that it needs. Samples stand one after the other."""
    length = segments_T.shape[0]
    position_T = jnp.arange(length, dtype=jnp.int32)
    begins_T = jnp.concatenate([jnp.ones(1, bool), segments_T[1:] != segments_T[:-1]])
    start_T = jax.lax.cummax(jnp.where(begins_T | (segments_T == 0), position_T, 0))
    last_Q = ((position_T[:: tiles.tokens] + tiles.tokens - 1) // tiles.keys).astype(jnp.int32)
    return start_T[:: tiles.tokens] // tiles.keys, last_Q


def _plans(first_Q: jax.Array, last_Q: jax.Array, length: int, tiles: Tiles) -> tuple[MaskInfo, MaskInfo]:
    """What the kernel is told, as it goes through the keys of each tile of queries, and the other way round.

    Beside whether to compute a tile it wants to know what to read next: on its way to the first tile that one, and
    behind the last one what the next round begins with.
    """
    Q, N = length // tiles.tokens, length // tiles.keys
    query_Qx1, key_1xN = jnp.arange(Q, dtype=jnp.int32)[:, None], jnp.arange(N, dtype=jnp.int32)[None]
    compute_QxN = (first_Q[:, None] <= key_1xN) & (key_1xN <= last_Q[:, None])
    keys_QxN = jnp.maximum(key_1xN, first_Q[:, None])
    keys_QxN = jnp.where(key_1xN > last_Q[:, None], jnp.roll(first_Q, -1)[:, None], keys_QxN)
    # `first_Q` never falls from one tile to the next, so the queries of a tile of keys stand together as well.
    top_N = (key_1xN[0] * tiles.keys) // tiles.tokens
    bottom_N = jnp.sum(first_Q[:, None] <= key_1xN, axis=0, dtype=jnp.int32) - 1
    queries_QxN = jnp.where(query_Qx1 > bottom_N, jnp.roll(top_N, -1), jnp.maximum(query_Qx1, top_N))

    def plan(next_QxN: jax.Array) -> MaskInfo:
        sequence: Any = _by_tiles(jnp.arange(length, dtype=jnp.int32), tiles)
        return MaskInfo(next_QxN[None], None, compute_QxN[None].astype(jnp.int32), None, sequence)

    return plan(keys_QxN), plan(queries_QxN)


def _by_tiles(values_T: jax.Array, tiles: Tiles) -> jax.Array:
    """Numbers of tokens in the order of the kernel's queries: tile by tile, head by head."""
    by_tile = values_T.reshape(-1, 1, tiles.tokens)
    return jnp.broadcast_to(by_tile, (by_tile.shape[0], tiles.heads, tiles.tokens)).reshape(-1)


def _not_later(query: jax.Array, key: jax.Array) -> jax.Array:
    return query >= key


def attend_row(
    q_TxHxK: jax.Array, k_TxGxK: jax.Array, v_TxGxK: jax.Array, segments_T: jax.Array, *, interpret: bool
) -> jax.Array:
    """One row. Queries come scaled."""
    T, H, K = q_TxHxK.shape
    tiles = tiles_of(T, H // k_TxGxK.shape[1])
    by_keys, by_queries = _plans(*first_and_last(segments_T, tiles), T, tiles)
    rows, names = tiles.tokens * tiles.heads, ("", "_dkv", "_dq")
    sizes: dict[str, Any] = {f"block_q{name}": rows for name in names}
    sizes |= {f"block_kv{name}": tiles.keys for name in names}
    kernel = SplashAttentionKernel(
        by_keys,
        by_keys,
        by_queries,
        # Two backward kernels: the fused one writes a partial dq per tile of keys, three times the memory in all.
        block_sizes=splash.BlockSizes(**sizes),
        is_mqa=False,
        save_residuals=False,
        mask_value=DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name=None,
        mask_function=_not_later,
        interpret=interpret,
    )
    q_JxQxRxtxK = q_TxHxK.reshape(-1, tiles.tokens, H // tiles.heads, tiles.heads, K).transpose(2, 0, 3, 1, 4)
    keys_first = (x.transpose(1, 0, 2) for x in (k_TxGxK, v_TxGxK))
    ids = splash.SegmentIds(_by_tiles(segments_T, tiles), segments_T)
    o_JxNxK: Any = kernel(q_JxQxRxtxK.reshape(H // tiles.heads, -1, K), *keys_first, segment_ids=ids)
    o_JxQxRxtxK = o_JxNxK.reshape(q_JxQxRxtxK.shape)
    return o_JxQxRxtxK.transpose(1, 3, 0, 2, 4).reshape(T, H, K)
