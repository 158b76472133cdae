"""One token per slot from float32 logits: temperature, top-k, top-p, min-p; every slot with its own random stream.

Temperature 0 is greedy. The vocabulary is sorted only while some slot asks for top-k or top-p.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 128


class Knobs(NamedTuple):
    """How each slot samples. All arrays are [S]."""

    temperature: jax.Array
    top_k: jax.Array  # 0: off
    top_p: jax.Array  # 1: off
    min_p: jax.Array  # 0: off


class Sampled(NamedTuple):
    """All arrays are [S]."""

    token: jax.Array
    logprob: jax.Array  # of the model, at temperature 1
    sampled_logprob: jax.Array  # of the distribution it was drawn from


def sample(logits_SxV: jax.Array, knobs: Knobs, keys_Sx2: jax.Array, positions_S: jax.Array) -> Sampled:
    """The key of a token is its request's key and its position in the completion, whatever else is in the batch."""
    greedy_S = knobs.temperature == 0
    scaled_SxV = logits_SxV / jnp.where(greedy_S, 1.0, knobs.temperature)[:, None]
    kept_SxV = jnp.where(_kept(scaled_SxV, knobs), scaled_SxV, -jnp.inf)

    def uniform(key_2: jax.Array, position: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(key_2), position))

    drawn_S = _draw(kept_SxV, jax.vmap(uniform)(keys_Sx2, positions_S))
    token_S = jnp.where(greedy_S, jnp.argmax(logits_SxV, axis=-1), drawn_S).astype(jnp.int32)
    drawn_from = _logprob(kept_SxV, token_S)
    return Sampled(token_S, _logprob(logits_SxV, token_S), jnp.where(greedy_S, 0.0, drawn_from))


def _draw(logits_SxV: jax.Array, uniform_S: jax.Array) -> jax.Array:
    """The token at which the cumulative probability passes a uniform number: first the block, then the token in it.

    One random number per token instead of one per word of the vocabulary, and no long cumulative sum.
    """
    S, V = logits_SxV.shape
    weights_SxV = jnp.exp(logits_SxV - logits_SxV.max(axis=-1, keepdims=True))
    padded_SxV = jnp.pad(weights_SxV, ((0, 0), (0, -V % BLOCK)))
    weights_SxNxB = padded_SxV.reshape(S, -1, BLOCK)
    blocks_SxN = jnp.cumsum(weights_SxNxB.sum(axis=-1), axis=-1)
    # Kept a little below 1: rounding must not carry it past the last token.
    target_S = uniform_S * (1 - 2**-20) * blocks_SxN[:, -1]
    block_S = (blocks_SxN <= target_S[:, None]).sum(axis=-1)
    before_S = jnp.where(block_S > 0, _pick(blocks_SxN, jnp.maximum(block_S - 1, 0)), 0.0)
    inside_SxB = jnp.take_along_axis(weights_SxNxB, block_S[:, None, None], axis=1)[:, 0]
    passed_S = (jnp.cumsum(inside_SxB, axis=-1) <= (target_S - before_S)[:, None]).sum(axis=-1)
    # Where rounding put the target behind the block's last token that can be drawn, it is that one.
    last_S = BLOCK - 1 - jnp.argmax(inside_SxB[:, ::-1] > 0, axis=-1)
    return block_S * BLOCK + jnp.minimum(passed_S, last_S)


def _pick(values_SxN: jax.Array, index_S: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values_SxN, index_S[:, None], axis=-1)[:, 0]


def _logprob(logits_SxV: jax.Array, token_S: jax.Array) -> jax.Array:
    return _pick(logits_SxV, token_S) - jax.nn.logsumexp(logits_SxV, axis=-1)


def _kept(scaled_SxV: jax.Array, knobs: Knobs) -> jax.Array:
    """Which tokens may be drawn. The likeliest always may."""
    top_S = scaled_SxV.max(axis=-1)
    floor_S = top_S + jnp.log(jnp.maximum(knobs.min_p, 1e-38))
    floor_S = jnp.where(knobs.min_p > 0, floor_S, -jnp.inf)
    wanted = ((knobs.top_k > 0) | (knobs.top_p < 1)).any()
    no_floor_S = jnp.full_like(top_S, -jnp.inf)
    sorted_S = jax.lax.cond(wanted, _sorted_floor, lambda scaled_SxV, knobs: no_floor_S, scaled_SxV, knobs)
    return scaled_SxV >= jnp.maximum(floor_S, sorted_S)[:, None]


def _sorted_floor(scaled_SxV: jax.Array, knobs: Knobs) -> jax.Array:
    """The smallest logit that top-k and top-p leave, top-p over what top-k left."""
    vocabulary = scaled_SxV.shape[-1]
    down_SxV = jnp.sort(scaled_SxV, axis=-1, descending=True)
    k_S = jnp.where(knobs.top_k > 0, jnp.minimum(knobs.top_k, vocabulary), vocabulary)
    in_k_SxV = jnp.arange(vocabulary)[None] < k_S[:, None]
    share_SxV = jax.nn.softmax(jnp.where(in_k_SxV, down_SxV, -jnp.inf), axis=-1)
    before_SxV = jnp.cumsum(share_SxV, axis=-1) - share_SxV  # probability of the likelier ones
    left_SxV = in_k_SxV & ((before_SxV < knobs.top_p[:, None]) | (knobs.top_p >= 1)[:, None])
    return jnp.where(left_SxV, down_SxV, jnp.inf).min(axis=-1)
