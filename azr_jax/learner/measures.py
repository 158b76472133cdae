"""What the step measures about itself, as scalars computed on the device: named parts of one dict."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from azr_jax.learner.terms import Objective, Tokens, importance_weights, kl_estimate, old_logprobs

Metrics = dict[str, jax.Array]


def of_tokens(objective: Objective, tokens: Tokens, aux: Metrics, segments: jax.Array) -> Metrics:
    """Means are weighted like the loss. The gap is between the learner's and the sampler's log-probabilities."""
    o, logprob, real = objective, aux["logprobs"], tokens.weights > 0

    def mean(values: jax.Array) -> jax.Array:
        return jnp.where(real, tokens.weights * values, 0.0).sum()

    old = old_logprobs(logprob, tokens)
    ratio, gap = jnp.exp(logprob - old), jnp.abs(logprob - tokens.sampler_logprobs)
    up = tokens.advantages > 0
    filled = segments > 0
    computed = filled.any(axis=(-1, -2)).sum() * (filled.size // filled.shape[0])
    metrics = {
        "entropy": mean(aux["entropies"]),
        "logprob": mean(logprob),
        "gap/mean": mean(gap),
        "gap/max": jnp.where(real, gap, 0.0).max(),
        "gap/kl": mean(kl_estimate(tokens.sampler_logprobs, logprob)),
        "clip/high": mean((up & (ratio > 1 + o.clip_high)).astype(jnp.float32)),
        "clip/low": mean((~up & (ratio < 1 - o.clip_low)).astype(jnp.float32)),
        "tokens/trained": real.sum(),
        "tokens/read": filled.sum(),
        "tokens/padding_share": 1.0 - filled.sum() / computed,
        "loss/entropy": -o.entropy * mean(aux["entropies"]),
    }
    if o.clip_dual:
        metrics["clip/dual"] = mean(((tokens.advantages < 0) & (ratio > o.clip_dual)).astype(jnp.float32))
    if o.importance != "none":
        weight = aux.get("importance", None)
        weight = importance_weights(o, old, tokens) if weight is None else weight
        metrics["importance/mean"] = mean(weight)
        metrics["importance/capped"] = mean((weight >= o.importance_cap).astype(jnp.float32))
    if tokens.reference_logprobs is not None:
        metrics["kl"] = mean(kl_estimate(logprob, tokens.reference_logprobs))
    return metrics


def of_update(gradient: Any, updates: Any, params: Any) -> Metrics:
    """The gradient's norm per block, and how large the update is beside the weights."""
    metrics = {f"gradient/{name}": norm for name, norm in _norms(gradient).items()}
    metrics["update/ratio"] = optax.tree.norm(updates) / optax.tree.norm(params)
    return metrics


def _norms(tree: Any) -> Metrics:
    """Norms by the first part of the parameters' path, and of each layer."""
    blocks: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        blocks.setdefault(jax.tree_util.keystr(path[:1], simple=True), []).append(leaf)
    norms = {name: optax.tree.norm(leaves) for name, leaves in blocks.items()}
    for number in range(blocks["layers"][0].shape[0] if "layers" in blocks else 0):
        norms[f"layers/{number:02d}"] = optax.tree.norm([leaf[number] for leaf in blocks["layers"]])
    return norms
