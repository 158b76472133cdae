"""Attention over a paged cache by the kernel that JAX ships for TPU: one query per slot, or a chunk of one prompt.

The kernel reads a sequence's pages straight from the pool, a block of them at a time, while it works on the block
before; a block's end beyond the sequence is read too, and not used.

The cache is one pool for all layers, [L, N, P, 2G, K]: a token's keys and values of all heads lie side by side, key and
value of a head in turn, so that one write and one read move both. The kernel is given the pool of all layers as
[L * N, P, 2G, K], which is the same bytes, and pages counted through all layers: a layer cut out of the pool would be
copied for every call.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.ragged_paged_attention import ragged_paged_attention
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.rollout.pieces import Call, PrefillRows

BLOCK = 512  # tokens of context that the kernel reads together
CHUNK_QUERIES = 1024  # queries of a chunk, all heads of a token, that go through its context together, at most
KERNEL = "ragged_paged_attention_kernel"  # its name in compiled text

POOL = PartitionSpec(None, "fsdp", None, "tensor", None)  # each replica its pages, each device its heads

Cache = tuple[jax.Array, ...]  # one


def empty_cache(layers: int, pages: int, page_size: int, kv_heads: int, head_dim: int, dtype: DTypeLike) -> Cache:
    return (jnp.zeros((layers, pages, page_size, 2 * kv_heads, head_dim), dtype),)


def page_size(cache: Cache) -> int:
    return cache[0].shape[2]


def widths(pages_per_slot: int) -> tuple[int, ...]:
    """Pages of a slot that a call is compiled for: how many there are to look at is found out on the way."""
    return (pages_per_slot,)


def tile_of(head_dim: int) -> int:
    """Rows of a prefill call that should belong to one prompt: the kernel takes pieces of any length."""
    del head_dim
    return 1


def write_slots(k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, page_S, row_S) -> Cache:
    """Keys and values of one token per slot; a page out of range is written nowhere."""
    return _write(k_Sx1xGxK[:, 0], v_Sx1xGxK[:, 0], cache, layer, page_S, row_S)


def write_chunk(k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, page_T, row_T, tile: int) -> Cache:
    """Keys and values of pieces of prompts; a page out of range is written nowhere.

    Token by token: for whole pages XLA turns the pool over to another layout, and back for the kernel.
    """
    del tile
    return _write(k_1xTxGxK[0], v_1xTxGxK[0], cache, layer, page_T, row_T)


def _write(k_TxGxK, v_TxGxK, cache: Cache, layer, page_T, row_T) -> Cache:
    (pool,) = cache
    return (pool.at[layer, page_T, row_T].set(token_rows(k_TxGxK, v_TxGxK, pool), mode="drop"),)


def token_rows(k_TxGxK, v_TxGxK, pool) -> jax.Array:
    """Keys and values of tokens as they lie in the pool: side by side, head after head."""
    return jnp.stack([k_TxGxK, v_TxGxK], axis=2).astype(pool.dtype).reshape(-1, *pool.shape[3:])


def slot_block(page_size: int) -> int:
    """Tokens of context that `attend_slots` looks at together."""
    return max(1, BLOCK // page_size) * page_size


chunk_block = slot_block


def chunk_tokens(tokens: int, heads: int) -> int:
    """Tokens of a chunk that go through its context together: a power of two, or the whole chunk."""
    return min(tokens, 1 << (max(1, CHUNK_QUERIES // heads).bit_length() - 1))


def attend_slots(q_Sx1xHxK, cache: Cache, layer, table_SxM, position_S, on_S, window=None) -> jax.Array:
    """Attention of one query per slot over the pages of that slot; of slots that are off, zero. Without windows.

    Slots come sorted, those that are off last: the kernel ends with the last one that is on. A slot that is off before
    it, and the first one where all are off, counts one token: a sequence of none would leave the kernel waiting.
    """
    assert window is None  # attention.why_not
    S = q_Sx1xHxK.shape[0]
    sequences = jnp.max(jnp.where(on_S, 1 + jnp.arange(S, dtype=jnp.int32), 1))
    length_S = jnp.where(on_S, position_S + 1, 1)
    out_SxHxK = _kernel(q_Sx1xHxK[:, 0], cache, layer, table_SxM, length_S, jnp.arange(S + 1), sequences, queries=1)
    return jnp.where(on_S[:, None, None], out_SxHxK, 0)[:, None]


def attend_chunk(q_1xTxHxK, cache: Cache, layer, call: Call, rows: PrefillRows, tile: int, window=None) -> jax.Array:
    """Attention of pieces of prompts over all that stands before each and in it; of padding, zero. No windows."""
    assert window is None
    del tile
    length_B = call.end - call.start
    # Where there is no piece, the first counts as one token, for the kernel's sake.
    used = jnp.maximum((length_B > 0).sum(), 1)
    length_B = jnp.maximum(length_B, 1)
    ends_B1 = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(length_B)])
    together = chunk_tokens(*q_1xTxHxK.shape[1:3])
    out_TxHxK = _kernel(q_1xTxHxK[0], cache, layer, call.table, call.start + length_B, ends_B1, used, queries=together)
    return jnp.where(rows.live[:, None, None], out_TxHxK, 0)[None]


def _kernel(q_TxHxK, cache: Cache, layer, table_SxM, length_S, ends_S1, sequences, *, queries: int) -> jax.Array:
    """Sequence i owns the queries from ends[i] to ends[i + 1], the last ones of its `length` tokens."""
    (pool,) = cache
    L, N, P, C, K = pool.shape
    return ragged_paged_attention(
        q_TxHxK.astype(pool.dtype),
        pool.reshape(L * N, P, C, K),
        length_S.astype(jnp.int32),
        table_SxM + layer * N,
        ends_S1.astype(jnp.int32),
        jnp.asarray(sequences, jnp.int32)[None],
        sm_scale=K**-0.5,
        num_kv_pages_per_block=min(slot_block(P) // P, table_SxM.shape[1]),
        num_queries_per_block=queries,
    ).astype(q_TxHxK.dtype)
