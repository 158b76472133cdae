"""The two jitted programs of the engine: prefill one prompt into slots, and decode a few tokens in all slots.

The cache holds the keys of every slot as [L, S, G, K, C] and the values as [L, S, G, C, K]: so both products of the
attention of one query run along the last axis, which is what a CPU does fast. Shapes are static: prompts are padded to
a few lengths, and decoding looks at a few context lengths.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.sampling import Knobs, Sampled, sample

Cache = tuple[jax.Array, jax.Array]


class State(NamedTuple):
    """What decoding knows of each slot. All arrays are [S], `keys` [S, 2], `stop_ids` [S, n]."""

    token: jax.Array  # the last one sampled, not yet in the cache
    position: jax.Array  # of that token in the sequence
    drawn: jax.Array  # tokens of the completion so far
    left: jax.Array  # tokens it may still draw
    on: jax.Array
    keys: jax.Array
    knobs: Knobs
    stop_ids: jax.Array  # padded with -1


def empty_cache(spec: ModelSpec, slots: int, length: int, dtype: Any) -> Cache:
    L, G, K = spec.depth, spec.kv_heads, spec.head_dim
    return jnp.zeros((L, slots, G, K, length), dtype), jnp.zeros((L, slots, G, length, K), dtype)


def prefill(
    graphdef: Any,
    dtype: Any,
    params: Any,
    cache: Cache,
    tokens_1xT: jax.Array,
    length: jax.Array,
    slots_N: jax.Array,
    keys_Nx2: jax.Array,
    knobs_N: Knobs,
) -> tuple[Cache, Sampled]:
    """Reads one prompt, writes it into N slots (one completion each), and draws their first tokens."""
    model = nnx.merge(graphdef, params)
    T, N = tokens_1xT.shape[1], slots_N.shape[0]
    positions_1xT = jnp.arange(T)[None]
    causal_TxT = positions_1xT[0, :, None] >= positions_1xT[0, None, :]

    def attend(q_1xTxHxK, k_1xTxGxK, v_1xTxGxK, cache: Cache, layer):
        k_LxSxGxKxC, v_LxSxGxCxK = cache
        k_GxKxT = k_1xTxGxK[0].transpose(1, 2, 0).astype(k_LxSxGxKxC.dtype)
        v_GxTxK = v_1xTxGxK[0].swapaxes(0, 1).astype(v_LxSxGxCxK.dtype)
        for n in range(N):
            k_LxSxGxKxC = _put(k_LxSxGxKxC, k_GxKxT, layer, slots_N[n])
            v_LxSxGxCxK = _put(v_LxSxGxCxK, v_GxTxK, layer, slots_N[n])
        out = jax.nn.dot_product_attention(q_1xTxHxK, k_1xTxGxK, v_1xTxGxK, mask=causal_TxT[None, None])
        return out, (k_LxSxGxKxC, v_LxSxGxCxK)

    x_1xTxD, cache = model.hidden(tokens_1xT, positions_1xT, attend, cache, dtype=dtype)
    last_1xD = jax.lax.dynamic_index_in_dim(x_1xTxD, length - 1, axis=1, keepdims=False)
    logits_NxV = jnp.broadcast_to(model.logits(last_1xD), (N, model.spec.vocab))
    return cache, sample(logits_NxV, knobs_N, keys_Nx2, jnp.zeros(N, jnp.int32))


def decode(
    graphdef: Any, dtype: Any, steps: int, context: int, params: Any, cache: Cache, state: State
) -> tuple[Cache, State, Sampled, jax.Array]:
    """Up to `steps` tokens in every slot that is on; no sequence is longer than `context`.

    Also gives what was drawn, [steps, S], and which slots were on when it was.
    """
    model = nnx.merge(graphdef, params)
    S = state.token.shape[0]
    slots_S = jnp.arange(S)

    def attend(q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, carried, layer):
        (k_LxSxGxKxC, v_LxSxGxCxK), position_S = carried
        G, K = k_Sx1xGxK.shape[2:]
        k_SxGxK, v_SxGxK = (new[:, 0].astype(k_LxSxGxKxC.dtype) for new in (k_Sx1xGxK, v_Sx1xGxK))
        k_LxSxGxKxC = k_LxSxGxKxC.at[layer, slots_S, :, :, position_S].set(k_SxGxK)
        v_LxSxGxCxK = v_LxSxGxCxK.at[layer, slots_S, :, position_S].set(v_SxGxK)
        k_SxGxKxC = jax.lax.dynamic_slice(k_LxSxGxKxC, (layer, 0, 0, 0, 0), (1, S, G, K, context))[0]
        v_SxGxCxK = jax.lax.dynamic_slice(v_LxSxGxCxK, (layer, 0, 0, 0, 0), (1, S, G, context, K))[0]
        out = _attend_one(q_Sx1xHxK, k_SxGxKxC, v_SxGxCxK, position_S)
        return out, ((k_LxSxGxKxC, v_LxSxGxCxK), position_S)

    def step(carry):
        number, cache, state, drawn, was_on = carry
        x_Sx1xD, (cache, _) = model.hidden(
            state.token[:, None], state.position[:, None], attend, (cache, state.position), dtype=dtype
        )
        new = sample(model.logits(x_Sx1xD[:, 0]), state.knobs, state.keys, state.drawn)
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

    empty = Sampled(jnp.zeros((steps, S), jnp.int32), jnp.zeros((steps, S)), jnp.zeros((steps, S)))
    start = (jnp.int32(0), cache, state, empty, jnp.zeros((steps, S), bool))
    _, cache, state, drawn, was_on = jax.lax.while_loop(lambda c: (c[0] < steps) & c[2].on.any(), step, start)
    return cache, state, drawn, was_on


def _put(cache: jax.Array, new: jax.Array, layer: jax.Array, slot: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice(cache, new[None, None], (layer, slot, 0, 0, 0))


def _attend_one(q_Sx1xHxK, k_SxGxKxC, v_SxGxCxK, position_S) -> jax.Array:
    """Attention of one query per slot, as products and sums: small matrix products are slow on a CPU."""
    S, _, H, K = q_Sx1xHxK.shape
    G, C = v_SxGxCxK.shape[1:3]
    q_SxGxRxKx1 = q_Sx1xHxK.reshape(S, G, H // G, K, 1).astype(jnp.float32) * K**-0.5
    scores_SxGxRxC = (q_SxGxRxKx1 * k_SxGxKxC[:, :, None].astype(jnp.float32)).sum(axis=-2)
    seen_SxC = jnp.arange(C)[None] <= position_S[:, None]
    weights_SxGxRxC = jax.nn.softmax(jnp.where(seen_SxC[:, None, None], scores_SxGxRxC, -jnp.inf), axis=-1)
    out_SxGxRxK = (weights_SxGxRxC[..., None] * v_SxGxCxK[:, :, None].astype(jnp.float32)).sum(axis=-2)
    return out_SxGxRxK.reshape(S, 1, H, K).astype(q_Sx1xHxK.dtype)
