"""Attention on TPU over a paged cache of eight bits (eight_bits.py): the decode kernel of our own (decode_steps.py).

The pools are steps [L, N, C, P, 128] and scales [L, N, 2G, P], as the kernel reads them. The kernel that JAX ships has
one scale for all keys; so prompts are read by XLA, a block of pages at a time.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.rollout import decode_kernel, paged_fused, paged_tpu, paged_xla
from azr_jax.rollout.decode_kernel import LANES
from azr_jax.rollout.decode_steps import TOGETHER, StepFormat
from azr_jax.rollout.eight_bits import in_eight_bits
from azr_jax.rollout.pieces import Call, PrefillRows

BLOCK = 2 * paged_tpu.BLOCK  # tokens of context that a decoding slot reads together: the same bytes
# Of a core's 16 MiB beside what it computes with: two blocks of pages, and what belongs to a step's slots.
BLOCK_BYTES = 2**20
SLOT_BYTES = 6 * 2**20

POOL = PartitionSpec(None, "fsdp", "tensor")  # each replica its pages, each device its heads

Cache = tuple[jax.Array, ...]  # steps and scales

rows_of = paged_fused.rows_of
slot_block = paged_fused.slot_block
chunk_block = paged_tpu.chunk_block
widths = paged_tpu.widths


def empty_cache(layers: int, pages: int, page_size: int, kv_heads: int, head_dim: int, dtype: DTypeLike) -> Cache:
    steps = jnp.zeros((layers, pages, rows_of(kv_heads, head_dim), page_size, LANES), dtype)
    return steps, jnp.zeros((layers, pages, 2 * kv_heads, page_size))


def page_size(cache: Cache) -> int:
    return cache[0].shape[3]


def tile_of(head_dim: int) -> int:
    """As paged_fused.py's."""
    del head_dim
    return paged_fused.TILE


def sent_back(page_size: int, kv_heads: int, head_dim: int) -> int:
    """Bytes that are written for a slot's new token in one layer, less those of the token as the kernel takes it."""
    rows = rows_of(kv_heads, head_dim)
    return rows * TOGETHER * LANES + 2 * kv_heads * page_size * 4 - (rows + 2 * kv_heads) * LANES * 4


def why_not(kv_heads: int, head_dim: int, dtype: DTypeLike, page_size: int, draft_tokens: int) -> str:
    """What the kernel cannot do of this on a device; empty where it can do all."""
    if head_dim not in paged_fused.HEAD_DIMS:
        return f"it takes heads of 64 or 128 numbers, not {head_dim}"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float32):
        return f"it takes bfloat16 and float32, not {dtype}"
    if page_size % LANES:
        return f"of eight bits it takes a page_size that is a multiple of {LANES}, not {page_size}"
    if (size := page_size * rows_of(kv_heads, head_dim) * LANES) > BLOCK_BYTES:
        return f"it takes pages of at most {BLOCK_BYTES} bytes on a device, not {size}: take a smaller page_size"
    if draft_tokens >= TOGETHER:
        return f"of eight bits it takes draft_tokens below {TOGETHER}, not {draft_tokens}"
    return ""


def write_chunk(k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, page_T, row_T, tile: int) -> Cache:
    """Keys and values of pieces of prompts, by as many tokens as a page and a tile have in common.

    A page out of range is written nowhere; padding behind a piece is written with it. One after the other: scattered
    together, TPU's compiler would turn the pool to another layout and back.
    """
    (count, C), U = cache[0].shape[1:3], math.gcd(page_size(cache), tile)
    new_TxRx128, G = _new_tokens(k_1xTxGxK[0], v_1xTxGxK[0]), cache[1].shape[2] // 2
    steps_WxCxUx128 = new_TxRx128[:, :C].astype(jnp.int8).reshape(-1, U, C, LANES).swapaxes(1, 2)
    scales_Wx2GxU = new_TxRx128[:, C:, 0].reshape(-1, U, 2 * G).swapaxes(1, 2)
    steps_WxCxUx128 = with_layout_constraint(steps_WxCxUx128, Layout((0, 1, 2, 3)))
    page_W, row_W = page_T[::U], row_T[::U]

    def write(number, cache: Cache) -> Cache:
        page, row = page_W[number], row_W[number]
        inside = page < count
        steps, scales = cache
        at_steps = layer, jnp.where(inside, page, 0), 0, row, 0

        def put(pool, new, at):
            new = new[number][None, None]
            return lax.dynamic_update_slice(pool, jnp.where(inside, new, lax.dynamic_slice(pool, at, new.shape)), at)

        return put(steps, steps_WxCxUx128, at_steps), put(scales, scales_Wx2GxU, at_steps[:4])

    return lax.fori_loop(0, len(page_W), write, cache)


def _new_tokens(k_TxGxK, v_TxGxK) -> jax.Array:
    """As decode_steps.py takes them: steps, and scales all along a row, [T, C + 2G, 128] float32."""
    (k_steps, k_scale), (v_steps, v_scale) = (in_eight_bits(x_TxGxK) for x_TxGxK in (k_TxGxK, v_TxGxK))
    steps_TxCx128 = jnp.stack([k_steps, v_steps], axis=2).astype(jnp.float32).reshape(len(k_TxGxK), -1, LANES)
    scales_Tx2G = jnp.stack([k_scale, v_scale], axis=2).reshape(len(k_TxGxK), -1)
    scales_Tx2Gx128 = jnp.broadcast_to(scales_Tx2G[..., None], (*scales_Tx2G.shape, LANES))
    return jnp.concatenate([steps_TxCx128, scales_Tx2Gx128], axis=1)


def write_and_attend_slots(
    q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, table_SxM, position_S, on_S, guessed_S=None, window=None
) -> tuple[jax.Array, Cache]:
    """As paged_fused.py's."""
    assert window is None  # attention.why_not
    P, form = page_size(cache), StepFormat(guessed_S is not None)
    a_page = math.prod(cache[0].shape[2:])
    out_SxHxK, cache = decode_kernel.decode(
        form,
        q_Sx1xHxK[:, 0],
        _new_tokens(k_Sx1xGxK[:, 0], v_Sx1xGxK[:, 0]),
        cache,
        layer,
        table_SxM,
        position_S,
        on_S,
        guessed_S,
        block_pages=max(1, min(BLOCK // P, BLOCK_BYTES // a_page)),
        slots_a_step=max(1, SLOT_BYTES // form.slot_bytes(cache, q_Sx1xHxK.shape[2])),
    )
    return out_SxHxK[:, None], cache


def attend_chunk(q_1xTxHxK, cache: Cache, layer, call: Call, rows: PrefillRows, tile: int, window=None) -> jax.Array:
    """Attention of pieces of prompts over all that stands before each and in it. No windows."""
    assert window is None
    (steps, scales), K = cache, q_1xTxHxK.shape[-1]
    P, G = page_size(cache), scales.shape[2] // 2

    def context(pages_NxE):
        N = len(pages_NxE)
        # Row by row: pages of 256 tokens and more the compiler would cut out of halves of the pool.
        kv = steps[layer, pages_NxE[..., None], jnp.arange(steps.shape[2])]
        kv = with_layout_constraint(kv, Layout((0, 1, 2, 3, 4)))
        kv = kv.reshape(N, -1, G, 2 * K // LANES, P, LANES)  # of heads of 64 both lie in one row
        k_NxExGxPxK, v_NxExGxPxK = kv[:, :, :, 0, :, :K], kv[:, :, :, -1, :, LANES - K :]
        scales_NxGx2xC = scales[layer, pages_NxE].reshape(N, -1, G, 2, P).transpose(0, 2, 3, 1, 4).reshape(N, G, 2, -1)
        return (
            k_NxExGxPxK.transpose(0, 2, 4, 1, 3).reshape(N, G, K, -1),
            v_NxExGxPxK.transpose(0, 2, 1, 3, 4).reshape(N, G, -1, K),
            scales_NxGx2xC[:, :, :1],
            scales_NxGx2xC[:, :, 1:],
        )

    return paged_xla.attend_tiles(q_1xTxHxK, context, (G, P, chunk_block(P) // P), call, rows, tile)
