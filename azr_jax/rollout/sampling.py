"""One token per slot from float32 logits: temperature, top-k, top-p, min-p; every slot with its own random stream.

Temperature 0 is greedy. The vocabulary is never sorted: top-k and top-p each look for the smallest logit they keep by
halving the range of float32 bit patterns 32 times, and only while some slot asks for one of them. Equal logits at that
border are all kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 128
FAR_BELOW = -1e30  # the logit of a token that is never drawn: finite, so that 0 times it is 0


class SamplingParams(NamedTuple):
    """How each slot samples. All arrays are [S]."""

    temperature: jax.Array
    top_k: jax.Array  # 0: off
    top_p: jax.Array  # 1: off
    min_p: jax.Array  # 0: off


class Sampled(NamedTuple):
    """All arrays are [S]."""

    token: jax.Array
    logprob: jax.Array  # of the model, at temperature 1
    sampler_logprob: jax.Array  # at the sampling temperature, before top-k, top-p and min-p; see `sample`

    @classmethod
    def room(cls, tokens: int, slots: int) -> Sampled:
        """[tokens, S], to be filled."""
        reals_NxS = jnp.zeros((tokens, slots))
        return cls(jnp.zeros((tokens, slots), jnp.int32), reals_NxS, reals_NxS)

    def ends(self, stop_ids_Sxn: jax.Array) -> jax.Array:
        """Where nothing comes after this token."""
        return (self.token[:, None] == stop_ids_Sxn).any(axis=-1) | ~jnp.isfinite(self.logprob)


def sample(logits_SxV: jax.Array, params: SamplingParams, keys_S: jax.Array, positions_S: jax.Array) -> Sampled:
    """The key of a token is its request's key and its position in the completion, whatever else is in the batch.

    `sampler_logprob` leaves the cuts out, because it is there to be compared with the learner, which knows the whole
    distribution: two policies cut to the same words stand in the ratio p q(kept) / (q p(kept)), and p(kept) and q(kept)
    agree but for the small difference that is measured. With the cut distribution in place of q, the ratio would be
    q(kept), below 1 even where sampler and learner agree to the bit: every gap too wide by -log q(kept), and the weight
    of a sequence falling to 0 with its length.
    """
    greedy_S = params.temperature == 0
    scaled_SxV = logits_SxV / jnp.where(greedy_S, 1.0, params.temperature)[:, None]
    kept_SxV = jnp.where(_kept(scaled_SxV, params), scaled_SxV, -jnp.inf)

    def uniform(key: jax.Array, position: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, position))

    drawn_S = _draw(kept_SxV, jax.vmap(uniform)(keys_S, positions_S))
    token_S = jnp.where(greedy_S, _likeliest(logits_SxV), drawn_S).astype(jnp.int32)
    warmed_S = _logprob(scaled_SxV, token_S)
    return Sampled(token_S, _logprob(logits_SxV, token_S), jnp.where(greedy_S, 0.0, warmed_S))


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


def _likeliest(logits_SxV: jax.Array) -> jax.Array:
    """The first of the largest: argmax as two plain reductions, which a CPU does fifty times as fast."""
    words_V, top_Sx1 = jnp.arange(logits_SxV.shape[-1]), logits_SxV.max(axis=-1, keepdims=True)
    # Of a row that holds NaN nothing is the largest; any token will do, for the request ends there.
    return jnp.where(logits_SxV == top_Sx1, words_V, len(words_V) - 1).min(axis=-1)


def _pick(values_SxN: jax.Array, index_S: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values_SxN, index_S[:, None], axis=-1)[:, 0]


def _logprob(logits_SxV: jax.Array, token_S: jax.Array) -> jax.Array:
    return _pick(logits_SxV, token_S) - jax.nn.logsumexp(logits_SxV, axis=-1)


def _kept(scaled_SxV: jax.Array, params: SamplingParams) -> jax.Array:
    """Which tokens may be drawn. The likeliest always may."""
    top_S = scaled_SxV.max(axis=-1)
    floor_S = jnp.where(params.min_p > 0, top_S + jnp.log(jnp.maximum(params.min_p, 1e-38)), -jnp.inf)
    nothing_S = jnp.full_like(top_S, -jnp.inf)
    wanted = ((params.top_k > 0) | (params.top_p < 1)).any()
    cut_S = jax.lax.cond(wanted, _floor_of_top_k_and_p, lambda *_: nothing_S, scaled_SxV, params)
    return scaled_SxV >= jnp.maximum(floor_S, cut_S)[:, None]


def _floor_of_top_k_and_p(scaled_SxV: jax.Array, params: SamplingParams) -> jax.Array:
    """The smallest logit that top-k leaves, and top-p of what top-k left."""
    V = scaled_SxV.shape[-1]
    k_S = jnp.where(params.top_k > 0, jnp.minimum(params.top_k, V), V)
    k_floor_S = _largest_floor(lambda floor_S: (scaled_SxV >= floor_S[:, None]).sum(axis=-1) >= k_S, k_S.shape)
    left_SxV = jnp.where(scaled_SxV >= k_floor_S[:, None], scaled_SxV, -jnp.inf)
    share_SxV = jax.nn.softmax(left_SxV, axis=-1)

    def holds_p(floor_S: jax.Array) -> jax.Array:
        return jnp.where(scaled_SxV >= floor_S[:, None], share_SxV, 0).sum(axis=-1) >= params.top_p

    p_floor_S = jnp.where(params.top_p < 1, _largest_floor(holds_p, k_S.shape), -jnp.inf)
    return jnp.maximum(k_floor_S, p_floor_S)


def _largest_floor(holds: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """The largest float32 per row for which `holds`; it holds for small ones and not for large ones."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        yes = holds(_float_at(middle))
        return jnp.where(yes, middle, low), jnp.where(yes, high, middle)

    minus_inf, inf = (_place(jnp.float32(x)) for x in (-jnp.inf, jnp.inf))
    low, _ = jax.lax.fori_loop(0, 32, halve, (jnp.full(shape, minus_inf), jnp.full(shape, inf)))
    return _float_at(low)


def _place(x: jax.Array) -> jax.Array:
    """An int32 that orders float32 numbers as they are ordered: the bits, turned round where negative."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _float_at(place: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(jnp.where(place < 0, place ^ 0x7FFFFFFF, place), jnp.float32)
