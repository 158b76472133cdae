"""Attention over a paged cache: one query per slot (decode), or a piece of one prompt (prefill), in plain XLA.

Both walk over blocks of context with a running maximum and sum, as many blocks as the longest sequence needs: the cost
follows the tokens in flight, there is one program for every length, and a block that a row does not reach changes
nothing in it, to the bit.

Left out: the paged-attention kernels that JAX ships for TPU. They want one pool per layer in another order of axes; the
blocks here are plain XLA and run everywhere.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

BLOCK = 128  # tokens of context that are looked at together

Cache = tuple[jax.Array, jax.Array]


def attend_one(q_Sx1xHxK, cache: Cache, layer, table_SxM, position_S, reach) -> jax.Array:
    """Attention of one query per slot, as products and sums: many small matrix products are slow on a CPU."""
    k_pool, v_pool = cache
    S, _, H, K = q_Sx1xHxK.shape
    G, P = v_pool.shape[2:4]
    R, E = H // G, -(-BLOCK // P)  # queries per key head, pages per block
    table_SxM = jnp.pad(table_SxM, ((0, 0), (0, -table_SxM.shape[1] % E)))
    q_SxGxRxK = q_Sx1xHxK.reshape(S, G, R, K).astype(jnp.float32) * K**-0.5

    def block(number, running):
        top_SxGxR, sum_SxGxR, out_SxGxRxK = running
        pages_SxE = jax.lax.dynamic_slice_in_dim(table_SxM, number * E, E, axis=1)
        seen_SxExP = (number * E * P + jnp.arange(E * P)).reshape(E, P) <= position_S[:, None, None]
        k_SxExGxKxP = k_pool[layer, pages_SxE].astype(jnp.float32)
        v_SxExGxPxK = v_pool[layer, pages_SxE].astype(jnp.float32)
        # What is not seen may hold anything, NaN of another sequence among it.
        v_SxExGxPxK = jnp.where(seen_SxExP[:, :, None, :, None], v_SxExGxPxK, 0)
        scores_SxExGxRxP = (q_SxGxRxK[:, None, :, :, :, None] * k_SxExGxKxP[:, :, :, None]).sum(axis=-2)
        scores_SxExGxRxP = jnp.where(seen_SxExP[:, :, None, None], scores_SxExGxRxP, -jnp.inf)
        new_top_SxGxR = jnp.maximum(top_SxGxR, scores_SxExGxRxP.max(axis=(1, 4)))
        weights_SxExGxRxP = jnp.exp(scores_SxExGxRxP - new_top_SxGxR[:, None, :, :, None])
        keep_SxGxR = jnp.exp(top_SxGxR - new_top_SxGxR)
        added_SxGxRxK = (weights_SxExGxRxP[..., None] * v_SxExGxPxK[:, :, :, None]).sum(axis=(1, 4))
        return (
            new_top_SxGxR,
            sum_SxGxR * keep_SxGxR + weights_SxExGxRxP.sum(axis=(1, 4)),
            out_SxGxRxK * keep_SxGxR[..., None] + added_SxGxRxK,
        )

    start = (jnp.full((S, G, R), -jnp.inf), jnp.zeros((S, G, R)), jnp.zeros((S, G, R, K)))
    _, sum_SxGxR, out_SxGxRxK = jax.lax.fori_loop(0, -(-reach // (E * P)), block, start)
    return (out_SxGxRxK / sum_SxGxR[..., None]).reshape(S, 1, H, K).astype(q_Sx1xHxK.dtype)


def attend_piece(q_1xTxHxK, cache: Cache, layer, table_M, positions_T, end) -> jax.Array:
    """Attention of a piece of one prompt over all that stands before it and in it, as matrix products."""
    k_pool, v_pool = cache
    _, T, H, K = q_1xTxHxK.shape
    G, P = v_pool.shape[2:4]
    R, E = H // G, -(-BLOCK // P)
    table_M = jnp.pad(table_M, (0, -table_M.shape[0] % E))
    q_GxRTxK = q_1xTxHxK[0].reshape(T, G, R, K).transpose(1, 2, 0, 3).reshape(G, R * T, K) * K**-0.5
    positions_RT = jnp.tile(positions_T, R)

    def block(number, running):
        top_GxRT, sum_GxRT, out_GxRTxK = running
        pages_E = jax.lax.dynamic_slice_in_dim(table_M, number * E, E)
        context_C = number * E * P + jnp.arange(E * P)
        k_GxKxC = k_pool[layer, pages_E].transpose(1, 2, 0, 3).reshape(G, K, E * P)
        v_GxCxK = v_pool[layer, pages_E].transpose(1, 0, 2, 3).reshape(G, E * P, K)
        v_GxCxK = jnp.where((context_C < end)[None, :, None], v_GxCxK, 0)
        scores_GxRTxC = jnp.einsum("gtk,gkc->gtc", q_GxRTxK, k_GxKxC, preferred_element_type=jnp.float32)
        scores_GxRTxC = jnp.where(context_C <= positions_RT[:, None], scores_GxRTxC, -jnp.inf)
        new_top_GxRT = jnp.maximum(top_GxRT, scores_GxRTxC.max(axis=-1))
        weights_GxRTxC = jnp.exp(scores_GxRTxC - new_top_GxRT[..., None])
        keep_GxRT = jnp.exp(top_GxRT - new_top_GxRT)
        added_GxRTxK = jnp.einsum(
            "gtc,gck->gtk", weights_GxRTxC.astype(v_GxCxK.dtype), v_GxCxK, preferred_element_type=jnp.float32
        )
        return (
            new_top_GxRT,
            sum_GxRT * keep_GxRT + weights_GxRTxC.sum(axis=-1),
            out_GxRTxK * keep_GxRT[..., None] + added_GxRTxK,
        )

    start = (jnp.full((G, R * T), -jnp.inf), jnp.zeros((G, R * T)), jnp.zeros((G, R * T, K)))
    _, sum_GxRT, out_GxRTxK = jax.lax.fori_loop(0, -(-end // (E * P)), block, start)
    out_TxGxRxK = (out_GxRTxK / sum_GxRT[..., None]).reshape(G, R, T, K).transpose(2, 0, 1, 3)
    return out_TxGxRxK.reshape(1, T, H, K).astype(q_1xTxHxK.dtype)
