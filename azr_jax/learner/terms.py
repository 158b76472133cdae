"""The loss of one completion token, as formulas: policy gradient with its clips and weights, entropy, divergence.

Everything here is elementwise over tokens, but for the weight of a whole sequence. Where log-probability and entropy
come from, and how the gradient gets back into the network, is objective.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Objective:
    """What is minimised. The formulas stand in `token_loss`."""

    entropy: float = 0.001  # weight of the entropy bonus
    clip_low: float = 0.2
    clip_high: float = 0.2
    clip_dual: float = 0.0  # above 1: bounds the ratio where the advantage is negative; 0: no bound
    importance: str = "none"  # none | token | sequence: weights for the gap between sampler and learner
    importance_cap: float = 2.0
    kl: float = 0.0  # weight of the divergence from the start policy
    kl_in: str = "loss"  # loss | reward
    never: tuple[int, ...] = ()  # tokens that the sampler never draws: here too they do not exist

    def __post_init__(self) -> None:
        if self.importance not in ("none", "token", "sequence"):
            raise ValueError(f"importance={self.importance!r}: should be none, token or sequence")
        if self.kl_in not in ("loss", "reward"):
            raise ValueError(f"kl_in={self.kl_in!r}: should be loss or reward")
        if self.clip_dual and self.clip_dual <= 1:
            raise ValueError(f"clip_dual={self.clip_dual}: should be above 1, or 0 for no bound")


@dataclass(frozen=True)
class Group:
    """Completions that are measured together. `Sample.group` counts in the order in which the groups are given."""

    name: str


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tokens:
    """What is known of each completion token beforehand. All arrays are [R, N]; `weights` is 0 for padding."""

    index: jax.Array  # position in the row whose hidden state predicts it
    targets: jax.Array
    owners: jax.Array  # the segment of the row it belongs to
    weights: jax.Array  # its share in the loss; the shares sum to 1 over the whole step
    advantages: jax.Array
    sampler_logprobs: jax.Array
    old_logprobs: jax.Array | None = None  # before the first of several steps on a batch; None: there is one step
    reference_logprobs: jax.Array | None = None  # under the start policy
    importance: jax.Array | None = None  # of sequences; tokens' weights are computed on the spot


def old_logprobs(logprob: jax.Array, tokens: Tokens) -> jax.Array:
    """The log of p_old: with one step per batch the policy that is updated is the one the step starts from."""
    return lax.stop_gradient(logprob) if tokens.old_logprobs is None else tokens.old_logprobs


def token_loss(objective: Objective, logprob: jax.Array, entropy: jax.Array, tokens: Tokens) -> jax.Array:
    """The loss of each token, times its weight w. With p = exp(logprob), s the sampler's, q the start policy's:

    ratio      rho = p / p_old
    advantage  A, or A - kl (log p - log q) with `kl_in` = reward, the divergence held fixed
    gain       G = min(rho A, clip(rho, 1 - low, 1 + high) A), and where A < 0: max(G, dual A)
    penalty    K = q/p - 1 - log(q/p), with `kl_in` = loss
    loss       w (-u G - entropy H + kl K), with the importance weight u held fixed
    """
    o, fixed = objective, lax.stop_gradient
    old = old_logprobs(logprob, tokens)
    ratio, advantage = jnp.exp(logprob - old), tokens.advantages
    if o.kl and o.kl_in == "reward":
        assert tokens.reference_logprobs is not None
        advantage = advantage - o.kl * (fixed(logprob) - tokens.reference_logprobs)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - o.clip_low, 1 + o.clip_high) * advantage)
    if o.clip_dual:
        gain = jnp.where(advantage < 0, jnp.maximum(gain, o.clip_dual * advantage), gain)
    loss = -importance_weights(o, old, tokens) * gain - o.entropy * entropy
    if o.kl and o.kl_in == "loss":
        assert tokens.reference_logprobs is not None
        loss = loss + o.kl * kl_estimate(logprob, tokens.reference_logprobs)
    return jnp.where(tokens.weights > 0, tokens.weights * loss, 0.0)


def kl_estimate(logprob: jax.Array, other: jax.Array) -> jax.Array:
    """q/p - 1 - log(q/p) of tokens sampled from p: never negative, and its mean is KL(p || q)."""
    gap = other - logprob
    return jnp.expm1(gap) - gap


def importance_weights(objective: Objective, old: jax.Array, tokens: Tokens) -> jax.Array:
    """The weights u: min(p_old / s, cap) per token; the same of the product over the sequence; or 1."""
    if objective.importance == "none":
        return jnp.ones_like(old)
    if objective.importance == "sequence":
        assert tokens.importance is not None
        return tokens.importance
    return jnp.minimum(jnp.exp(old - tokens.sampler_logprobs), objective.importance_cap)


def sequence_importance(objective: Objective, old_RxN: jax.Array, tokens: Tokens) -> jax.Array:
    """The weights u [R, N] = min(product of p_old / s over the token's sequence, cap)."""
    rows, size = old_RxN.shape
    gap = jnp.where(tokens.weights > 0, old_RxN - tokens.sampler_logprobs, 0.0)
    # One bin per row and segment: a row of N completion tokens has segments 0 to N.
    bins = jnp.arange(rows)[:, None] * (size + 1) + tokens.owners
    sums = jax.ops.segment_sum(gap.ravel(), bins.ravel(), rows * (size + 1))
    return jnp.minimum(jnp.exp(sums[bins]), objective.importance_cap)
