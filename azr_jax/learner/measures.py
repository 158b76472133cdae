"""What the step measures about itself, as scalars computed on the device: named parts of one dict."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

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


def gradient_norms(gradient: Any) -> Metrics:
    """`gradient/norm`, that of each block (the first part of the parameters' path), and of each layer.

    Every array is read once: its squares are summed per layer, and all norms come from those sums.
    """
    blocks: dict[str, jax.Array] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path[:1], simple=True)
        axes = tuple(range(1, leaf.ndim)) if name == "layers" else None
        squares = jnp.square(leaf).sum(axes)
        blocks[name] = blocks[name] + squares if name in blocks else squares
    sums = {name: block.sum() for name, block in blocks.items()}
    sums["norm"] = jnp.stack(list(sums.values())).sum()
    layers = blocks.get("layers", jnp.zeros(0))
    sums |= {f"layers/{number:02d}": layers[number] for number in range(layers.size)}
    return {f"gradient/{name}": jnp.sqrt(square) for name, square in sums.items()}
