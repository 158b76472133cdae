"""The loss of one completion token, as formulas: policy gradient with its clips and weights, entropy, divergence.

Everything here is elementwise over tokens, but for the weight of a whole sequence. Where log-probability and entropy
come from, and how the gradient gets back into the network, is objective.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

NAMES = ("ppo", "gspo", "cispo", "dr_grpo")  # of policy losses
MODES = ("truncate", "mask", "two_sided")  # of importance weights
ESTIMATORS = ("auto", "k1", "k2", "k3")  # of the divergence


@dataclass(frozen=True)
class Objective:
    """What is minimised. The formulas stand in `token_loss`."""

    policy_loss: str = "ppo"  # ppo | gspo | cispo | dr_grpo
    entropy: float = 0.001  # weight of the entropy bonus
    clip_low: float = 0.2
    clip_high: float = 0.2
    clip_dual: float = 0.0  # above 1: bounds the ratio where the advantage is negative; 0: no bound
    importance: str = "none"  # none | token | sequence: weights for the gap between sampler and learner
    importance_mode: str = "truncate"  # truncate (at the cap) | mask (0 outside) | two_sided (at both bounds)
    importance_low: float = 0.5
    importance_cap: float = 2.0
    importance_length_norm: bool = False  # a sequence's weight is the geometric mean of its tokens', not the product
    kl: float = 0.0  # weight of the divergence from the start policy
    kl_in: str = "loss"  # loss | reward
    kl_estimator: str = "auto"  # k1 | k2 | k3; auto: k3 in the loss, k1 in the reward
    kl_groups: tuple[int, ...] | None = None  # the groups it counts for; None: all
    never: tuple[int, ...] = ()  # tokens that the sampler never draws: here too they do not exist

    def __post_init__(self) -> None:
        for field, known in (
            ("policy_loss", NAMES),
            ("importance", ("none", "token", "sequence")),
            ("importance_mode", MODES),
            ("kl_in", ("loss", "reward")),
            ("kl_estimator", ESTIMATORS),
        ):
            if getattr(self, field) not in known:
                raise ValueError(f"{field}={getattr(self, field)!r}: should be one of {', '.join(known)}")
        if self.clip_dual and self.clip_dual <= 1:
            raise ValueError(f"clip_dual={self.clip_dual}: should be above 1, or 0 for no bound")
        if self.clip_dual and self.policy_loss in ("gspo", "cispo"):
            raise ValueError(
                f"clip_dual={self.clip_dual}: should be 0, policy_loss={self.policy_loss} has no such bound"
            )


@dataclass(frozen=True)
class Group:
    """Completions that are measured together. `TrainingSample.group` counts in the order given."""

    name: str
    weight: float = 1.0  # of its loss; 0: it is not trained, and not measured


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
    # Before the first of several steps on a batch, or the sampler's; None: there is one step, which starts from them.
    old_logprobs: jax.Array | None = None
    reference_logprobs: jax.Array | None = None  # under the start policy
    importance: jax.Array | None = None  # of sequences; tokens' weights are computed on the spot
    sequence_ratio: jax.Array | None = None  # gspo with several steps: p / p_old of the sequence, length-normalised
    groups: jax.Array | None = None  # where the objective asks for them
    limited: jax.Array | None = None  # whether the dropped tokens do not exist for it


def old_logprobs(logprob: jax.Array, tokens: Tokens) -> jax.Array:
    """The log of p_old: with one step per batch the policy that is updated is the one the step starts from."""
    return lax.stop_gradient(logprob) if tokens.old_logprobs is None else tokens.old_logprobs


def token_loss(objective: Objective, logprob: jax.Array, entropy: jax.Array, tokens: Tokens) -> jax.Array:
    """The loss of each token, times its weight w. With p = exp(logprob), s the sampler's, q the start policy's:

    ratio      rho = p / p_old; gspo: the geometric mean of the sequence's, with the gradient of the token's own
    advantage  A, or A - kl K with `kl_in` = reward, the divergence held fixed
    gain       G = min(rho A, clip(rho, 1 - low, 1 + high) A), and where A < 0: max(G, dual A)
               cispo: clip(rho, 1 - low, 1 + high) A log p, the clip held fixed, so that no token loses its gradient
    penalty    K, an estimate of the divergence (`divergence`), with `kl_in` = loss
    loss       w (-u G - entropy H + kl K), with the importance weight u held fixed

    With p_old the learner's, u says how stale a token was and rho how far the steps on its batch went, and the clip is
    about the latter alone (decoupled). With p_old = s, u is 1 and the clip is about both.

    dr_grpo is ppo with weights w and advantages of its own, which come from outside.
    """
    o, fixed = objective, lax.stop_gradient
    old, advantage = old_logprobs(logprob, tokens), tokens.advantages
    ratio = ratios(logprob, tokens)
    if o.kl and o.kl_in == "reward":
        advantage = advantage - o.kl * fixed(divergence(o, logprob, tokens))
    bounded = jnp.clip(ratio, 1 - o.clip_low, 1 + o.clip_high)
    if o.policy_loss == "cispo":
        gain = fixed(bounded) * advantage * logprob
    else:
        gain = jnp.minimum(ratio * advantage, bounded * advantage)
    if o.clip_dual:
        gain = jnp.where(advantage < 0, jnp.maximum(gain, o.clip_dual * advantage), gain)
    loss = -importance_weights(o, old, tokens) * gain - o.entropy * entropy
    if o.kl and o.kl_in == "loss":
        loss = loss + o.kl * divergence(o, logprob, tokens)
    return jnp.where(tokens.weights > 0, tokens.weights * loss, 0.0)


def ratios(logprob: jax.Array, tokens: Tokens) -> jax.Array:
    """Those that the policy loss clips."""
    if tokens.sequence_ratio is not None:
        return lax.stop_gradient(tokens.sequence_ratio) * jnp.exp(logprob - lax.stop_gradient(logprob))
    return jnp.exp(logprob - old_logprobs(logprob, tokens))


def divergence(objective: Objective, logprob: jax.Array, tokens: Tokens) -> jax.Array:
    """Estimates of KL(p || q) from tokens sampled from p, 0 for groups that it does not count for.

    k1 = log(p/q)     its mean is the divergence; its gradient's mean is 0, so it is of use in the reward alone
    k2 = k1^2 / 2     the mean of its gradient is the divergence's
    k3 = q/p - 1 + k1  its mean is the divergence, and it is never negative
    """
    assert tokens.reference_logprobs is not None
    o, gap = objective, logprob - tokens.reference_logprobs
    name = ("k1" if o.kl_in == "reward" else "k3") if o.kl_estimator == "auto" else o.kl_estimator
    estimate = {"k1": lambda: gap, "k2": lambda: jnp.square(gap) / 2, "k3": lambda: jnp.expm1(-gap) + gap}[name]()
    if o.kl_groups is None:
        return estimate
    assert tokens.groups is not None
    counts = jnp.isin(tokens.groups, jnp.array(o.kl_groups, jnp.int32))
    return jnp.where(counts, estimate, 0.0)


def kl_estimate(logprob: jax.Array, other: jax.Array) -> jax.Array:
    """q/p - 1 - log(q/p) of tokens sampled from p: never negative, and its mean is KL(p || q)."""
    gap = other - logprob
    return jnp.expm1(gap) - gap


def importance_weights(objective: Objective, old: jax.Array, tokens: Tokens) -> jax.Array:
    """The weights u: p_old / s of the token, bounded; the same of its sequence; or 1."""
    if objective.importance == "none":
        return jnp.ones_like(old)
    if objective.importance == "sequence":
        assert tokens.importance is not None
        return tokens.importance
    return _bounded(objective, jnp.exp(old - tokens.sampler_logprobs))


def sequence_importance(objective: Objective, old_RxN: jax.Array, tokens: Tokens) -> jax.Array:
    """The weights u [R, N]: the product of p_old / s over the token's sequence, or its geometric mean, bounded."""
    gap = over_sequences(old_RxN - tokens.sampler_logprobs, tokens, mean=objective.importance_length_norm)
    return _bounded(objective, jnp.exp(gap))


def _bounded(objective: Objective, weight: jax.Array) -> jax.Array:
    low, high = objective.importance_low, objective.importance_cap
    if objective.importance_mode == "mask":
        return jnp.where((weight >= low) & (weight <= high), weight, 0.0)
    return jnp.clip(weight, low if objective.importance_mode == "two_sided" else 0.0, high)


def out_of_bounds(objective: Objective, bounded: jax.Array) -> jax.Array:
    """Whose weight was held back, or taken away."""
    if objective.importance_mode == "mask":
        return bounded == 0.0
    beyond = bounded >= objective.importance_cap
    return beyond | (bounded <= objective.importance_low) if objective.importance_mode == "two_sided" else beyond


def over_sequences(values_RxN: jax.Array, tokens: Tokens, *, mean: bool) -> jax.Array:
    """The sum, or the mean, over the tokens of each token's own sequence [R, N]."""
    rows, size = values_RxN.shape
    real = tokens.weights > 0
    # One bin per row and segment: a row of N completion tokens has segments 0 to N.
    bins = jnp.arange(rows)[:, None] * (size + 1) + tokens.owners

    def summed(some_RxN: jax.Array) -> jax.Array:
        sums = jax.ops.segment_sum(jnp.where(real, some_RxN, 0.0).ravel(), bins.ravel(), rows * (size + 1))
        return sums[bins]

    sums = summed(values_RxN)
    return sums / jnp.maximum(summed(jnp.ones_like(values_RxN)), 1.0) if mean else sums
