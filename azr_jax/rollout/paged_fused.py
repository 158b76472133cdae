"""Attention over a paged cache on TPU by a decode kernel of our own, which writes the cache too (decode_kernel.py).

The cache is one pool for all layers, [L, N, P, C, 128]. With heads of 128 numbers it is paged_tpu.py's, key and value
of a head in turn, and so prompts are read by the kernel that JAX ships. With heads of 64 a key and its value share one
row, where a row of 64 would take the room of 128; prompts are then read by XLA, a block of pages at a time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.rollout import decode_kernel, paged_tpu, paged_xla
from azr_jax.rollout.decode_kernel import LANES
from azr_jax.rollout.decode_rows import RowFormat
from azr_jax.rollout.paged_tpu import BLOCK
from azr_jax.rollout.pieces import Call, PrefillRows

HEAD_DIMS = (64, LANES)
# Of a core's 16 MiB beside what it computes with: two blocks of pages, and queries and answers twice each.
BLOCK_BYTES = 2 * 2**20
QUERY_BYTES = 2**20
LEAST_PAGE = 8  # tokens
TILE = 128  # rows of a prompt for which XLA fetches the context once

POOL = PartitionSpec(None, "fsdp", None, "tensor", None)  # each replica its pages, each device its heads

Cache = tuple[jax.Array, ...]  # one

write_chunk = paged_tpu.write_chunk
page_size = paged_tpu.page_size
widths = paged_tpu.widths


def empty_cache(layers: int, pages: int, page_size: int, kv_heads: int, head_dim: int, dtype: DTypeLike) -> Cache:
    return (jnp.zeros((layers, pages, page_size, rows_of(kv_heads, head_dim), LANES), dtype),)


def rows_of(kv_heads: int, head_dim: int) -> int:
    """Of a token in a page."""
    return 2 * kv_heads * head_dim // LANES


def tile_of(head_dim: int) -> int:
    """Rows of a prefill call that should belong to one prompt."""
    return 1 if head_dim == LANES else TILE


def slot_block(page_size: int) -> int:
    """Tokens of context that are read together, at the least: no page is read in vain."""
    return page_size


chunk_block = paged_tpu.chunk_block


def why_not(kv_heads: int, head_dim: int, dtype: DTypeLike, page_size: int) -> str:
    """What the kernel cannot do of this on a device; empty where it can do all."""
    rows = rows_of(kv_heads, head_dim)
    if head_dim not in HEAD_DIMS:
        return f"it takes heads of 64 or 128 numbers, not {head_dim}"
    if rows not in (2, 4, 8) and rows % 16:
        right = "1, 2, 4 or a multiple of 8" if head_dim == LANES else "2, 4, 8 or a multiple of 16"
        return f"it takes {right} key/value heads on a device, not {kv_heads}"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float32):
        return f"it takes bfloat16 and float32, not {dtype}"
    if page_size < LEAST_PAGE or page_size & (page_size - 1):
        return f"it takes pages of a power of two of tokens, {LEAST_PAGE} at least, not {page_size}"
    if (size := page_size * rows * LANES * jnp.dtype(dtype).itemsize) > BLOCK_BYTES:
        return f"it takes pages of at most {BLOCK_BYTES} bytes on a device, not {size}: take smaller pages"
    return ""


def write_and_attend_slots(
    q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, table_SxM, position_S, on_S, guessed_S=None, window=None
) -> tuple[jax.Array, Cache]:
    """Keys and values of one token per slot into their pages, and attention of its query over all of them.

    Of slots that are off nothing is written, and what they see is zero. `guessed_S`: how many of the rows before a row
    hold tokens of the same slot, each one further.
    """
    assert window is None  # attention.why_not
    (pool,), H = cache, q_Sx1xHxK.shape[2]
    P, C = pool.shape[2:4]
    a_page = P * C * LANES * pool.dtype.itemsize
    a_slot = -(-H // 8) * 8 * LANES * 4  # as it lies in a core
    out_SxHxK, cache = decode_kernel.decode(
        RowFormat(1 if k_Sx1xGxK.shape[-1] < LANES else 2),
        q_Sx1xHxK[:, 0],
        paged_tpu.token_rows(k_Sx1xGxK[:, 0], v_Sx1xGxK[:, 0], pool),
        cache,
        layer,
        table_SxM,
        position_S,
        on_S,
        guessed_S,
        block_pages=max(1, min(BLOCK // P, BLOCK_BYTES // a_page)),
        slots_a_step=max(1, QUERY_BYTES // a_slot),
    )
    return out_SxHxK[:, None], cache


def attend_chunk(q_1xTxHxK, cache: Cache, layer, call: Call, rows: PrefillRows, tile: int, window=None) -> jax.Array:
    """Attention of pieces of prompts over all that stands before each and in it. No windows."""
    (pool,), K = cache, q_1xTxHxK.shape[-1]
    if K == LANES:
        return paged_tpu.attend_chunk(q_1xTxHxK, cache, layer, call, rows, tile, window)
    P, G = pool.shape[2:4]

    def context(pages_NxE):
        kv_NxExPxGxK = pool[layer, pages_NxE]
        k_NxGxKxC = kv_NxExPxGxK[..., :K].transpose(0, 3, 4, 1, 2).reshape(len(pages_NxE), G, K, -1)
        return k_NxGxKxC, kv_NxExPxGxK[..., K:].transpose(0, 3, 1, 2, 4).reshape(len(pages_NxE), G, -1, K)

    return paged_xla.attend_tiles(q_1xTxHxK, context, (G, P, chunk_block(P) // P), call, rows, tile)
