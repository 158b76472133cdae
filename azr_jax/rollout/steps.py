"""The jitted programs of the engine: read a piece of a prompt, copy pages, decode a few tokens in all slots.

The cache is one pool of pages per kind for all layers, keys as [L, N, G, K, P] and values as [L, N, G, P, K]: both
products of one query's attention then run along the last axis, which is what a CPU does fast. Attention walks over
blocks of context with a running maximum and sum, as many blocks as the longest sequence needs: the cost follows the
tokens in flight, there is one program for every length, and a block that a row does not reach changes nothing in it, to
the bit. So a row's numbers depend on its own tokens and on the static shapes alone.

Left out: the paged-attention kernels that JAX ships for TPU. They want one pool per layer in another order of axes; the
blocks here are plain XLA and run everywhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.sampling import Knobs, Sampled, sample

BLOCK = 128  # tokens of context that attention looks at together

Cache = tuple[jax.Array, jax.Array]


class State(NamedTuple):
    """What decoding knows of each slot. All arrays are [S], `stop_ids` [S, n], `table` [S, M]."""

    token: jax.Array  # the next one to go into the model
    position: jax.Array  # of that token in the sequence
    drawn: jax.Array  # tokens of the completion so far
    left: jax.Array  # tokens it may still draw
    on: jax.Array
    request: jax.Array
    sample: jax.Array
    knobs: Knobs
    stop_ids: jax.Array  # padded with -1
    table: jax.Array  # pages in the order of positions


def empty_cache(spec: ModelSpec, pages: int, page_size: int, dtype: Any) -> Cache:
    L, G, K = spec.depth, spec.kv_heads, spec.head_dim
    return jnp.zeros((L, pages, G, K, page_size), dtype), jnp.zeros((L, pages, G, page_size, K), dtype)


@partial(jax.jit, static_argnames=("graphdef", "dtype"), donate_argnames="cache")
def prefill(
    graphdef: Any,
    dtype: Any,
    params: Any,
    cache: Cache,
    tokens_1xT: jax.Array,
    start: int,
    end: int,
    table_M: jax.Array,
) -> Cache:
    """Writes the keys and values of positions `start` to `end` into their pages. T is whole pages, padded."""
    model = nnx.merge(graphdef, params)
    T, P = tokens_1xT.shape[1], cache[0].shape[-1]
    positions_T = start + jnp.arange(T)
    first_W = start + P * jnp.arange(T // P)  # position at which each page written begins
    pages_W = jnp.where(first_W < end, _rows(table_M, first_W // P), cache[0].shape[1])

    def attend(q_1xTxHxK, k_1xTxGxK, v_1xTxGxK, cache: Cache, layer: jax.Array):
        k_TxGxK, v_TxGxK = k_1xTxGxK[0].astype(cache[0].dtype), v_1xTxGxK[0].astype(cache[1].dtype)
        G, K = k_TxGxK.shape[1:]
        k_WxGxKxP = k_TxGxK.reshape(-1, P, G, K).transpose(0, 2, 3, 1)
        v_WxGxPxK = v_TxGxK.reshape(-1, P, G, K).transpose(0, 2, 1, 3)
        cache = (
            cache[0].at[layer, pages_W].set(k_WxGxKxP, mode="drop"),
            cache[1].at[layer, pages_W].set(v_WxGxPxK, mode="drop"),
        )
        return _attend_piece(q_1xTxHxK, cache, layer, table_M, positions_T, end), cache

    return model.hidden(tokens_1xT, positions_T[None], attend, cache, dtype=dtype)[1]


@partial(jax.jit, donate_argnames="cache")
def copy_pages(cache: Cache, from_S: jax.Array, to_S: jax.Array) -> Cache:
    """Copies whole pages; a `to` out of range copies nothing."""
    k, v = cache
    return k.at[:, to_S].set(k[:, from_S], mode="drop"), v.at[:, to_S].set(v[:, from_S], mode="drop")


@partial(jax.jit, static_argnames=("graphdef", "dtype", "steps"), donate_argnames="cache")
def decode(
    graphdef: Any, dtype: Any, steps: int, params: Any, cache: Cache, state: State, key: jax.Array, leave: jax.Array
) -> tuple[Cache, Sampled, jax.Array]:
    """Up to `steps` tokens in every slot that is on; ends earlier once none is on, or `leave` is set and one went off.

    Gives what was drawn, [steps, S], and which slots were on when it was.
    """
    model = nnx.merge(graphdef, params)
    S, P, N = state.token.shape[0], cache[0].shape[-1], cache[0].shape[1]
    keys_S = jax.vmap(lambda r, s: jax.random.fold_in(jax.random.fold_in(key, r), s))(state.request, state.sample)

    def attend(q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, carried: Any, layer: jax.Array):
        (k_pool, v_pool), position_S, on_S = carried
        page_S = jnp.take_along_axis(state.table, (position_S // P)[:, None], axis=1)[:, 0]
        page_S, row_S = jnp.where(on_S, page_S, N), position_S % P
        # A slot that is off writes nowhere.
        k_pool = k_pool.at[layer, page_S, :, :, row_S].set(k_Sx1xGxK[:, 0].astype(k_pool.dtype), mode="drop")
        v_pool = v_pool.at[layer, page_S, :, row_S].set(v_Sx1xGxK[:, 0].astype(v_pool.dtype), mode="drop")
        reach = jnp.where(on_S, position_S, 0).max() + 1
        out_Sx1xHxK = _attend_one(q_Sx1xHxK, (k_pool, v_pool), layer, state.table, position_S, reach)
        return out_Sx1xHxK, ((k_pool, v_pool), position_S, on_S)

    def step(carry):
        number, cache, state, drawn, was_on = carry
        carried = (cache, state.position, state.on)
        x_Sx1xD, (cache, *_) = model.hidden(state.token[:, None], state.position[:, None], attend, carried, dtype=dtype)
        new = sample(model.logits(x_Sx1xD[:, 0]), state.knobs, keys_S, state.drawn)
        drawn = jax.tree.map(lambda all_NxS, one_S: all_NxS.at[number].set(one_S), drawn, new)
        was_on = was_on.at[number].set(state.on)
        on, left = state.on, state.left - state.on
        ended = (new.token[:, None] == state.stop_ids).any(axis=-1) | ~jnp.isfinite(new.logprob)
        state = state._replace(
            token=jnp.where(on, new.token, state.token),
            position=state.position + on,
            drawn=state.drawn + on,
            left=left,
            on=on & ~ended & (left > 0),
        )
        return number + 1, cache, state, drawn, was_on

    def go_on(carry):
        number, _, now, _, _ = carry
        return (number < steps) & now.on.any() & ~(leave & (state.on & ~now.on).any())

    empty = Sampled(jnp.zeros((steps, S), jnp.int32), jnp.zeros((steps, S)), jnp.zeros((steps, S)))
    _, cache, _, drawn, was_on = jax.lax.while_loop(
        go_on, step, (jnp.int32(0), cache, state, empty, jnp.zeros((steps, S), bool))
    )
    return cache, drawn, was_on


def _attend_one(q_Sx1xHxK, cache: Cache, layer, table_SxM, position_S, reach) -> jax.Array:
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


def _attend_piece(q_1xTxHxK, cache: Cache, layer, table_M, positions_T, end) -> jax.Array:
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


def _rows(table_M: jax.Array, index_W: jax.Array) -> jax.Array:
    return table_M[jnp.minimum(index_W, table_M.shape[0] - 1)]
