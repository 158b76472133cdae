"""What the step measures about itself, as scalars computed on the device: named parts of one dict. And over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from azr_jax.learner.lora import Live
from azr_jax.learner.packing import Batch
from azr_jax.learner.terms import (
    Group,
    Objective,
    Tokens,
    importance_weights,
    kl_estimate,
    old_logprobs,
    out_of_bounds,
    ratios,
)

Metrics = dict[str, jax.Array]


def of_tokens(
    objective: Objective, groups: tuple[Group, ...], tokens: Tokens, aux: Metrics, batch: Batch, oldest: int = 0
) -> Metrics:
    """Means are weighted like the loss. The gap is between the learner's and the sampler's log-probabilities.

    Where tokens may be stale: `staleness/<age>/...`, of all and of each group, and the share of the tokens' number that
    their importance weights leave (`importance/ess`, Kish's effective sample size).
    """
    o, real, measured = objective, tokens.weights > 0, _measured(objective, tokens, aux)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.where(real, tokens.weights * values, 0.0).sum()

    filled = batch.segments > 0
    computed = filled.any(axis=(-1, -2)).sum() * (filled.size // filled.shape[0])
    metrics = {name: mean(values) for name, values in measured.items()}
    metrics |= {
        "gap/max": jnp.where(real, measured["gap/mean"], 0.0).max(),
        "tokens/trained": real.sum(),
        "tokens/read": filled.sum(),
        "tokens/padding_share": 1.0 - filled.sum() / computed,
        "loss/entropy": -o.entropy * metrics["entropy"],
    }
    if batch.ages is not None:
        ages = range(oldest + 1)
        by_age = tuple(Group(f"staleness/{age}") for age in ages)
        metrics |= _of_groups(by_age, tokens.weights, batch.ages, measured)
        of_both = tuple(Group(f"{group.name}/staleness/{age}") for group in groups for age in ages)
        metrics |= _of_groups(of_both, tokens.weights, batch.groups * len(ages) + batch.ages, measured, OF_STALE)
        metrics["staleness/mean"] = mean(batch.ages.astype(jnp.float32))
        if "importance/mean" in measured:
            squares = mean(jnp.square(measured["importance/mean"]))
            metrics["importance/ess"] = jnp.square(metrics["importance/mean"]) / jnp.maximum(squares, 1e-30)
    return metrics | _of_groups(groups, tokens.weights, batch.groups, measured)


def _measured(objective: Objective, tokens: Tokens, aux: Metrics) -> Metrics:
    """Of each token."""
    o, logprob = objective, aux["logprobs"]
    old = old_logprobs(logprob, tokens)
    ratio = ratios(logprob, replace(tokens, sequence_ratio=aux.get("sequence_ratio")))
    up = tokens.advantages > 0
    measured = {
        "entropy": aux["entropies"],
        "logprob": logprob,
        "gap/mean": jnp.abs(logprob - tokens.sampler_logprobs),
        "gap/kl": kl_estimate(tokens.sampler_logprobs, logprob),
        "clip/high": (up & (ratio > 1 + o.clip_high)).astype(jnp.float32),
        "clip/low": (~up & (ratio < 1 - o.clip_low)).astype(jnp.float32),
    }
    if o.clip_dual:
        measured["clip/dual"] = ((tokens.advantages < 0) & (ratio > o.clip_dual)).astype(jnp.float32)
    if o.importance != "none":
        weight = aux.get("importance", None)
        weight = importance_weights(o, old, tokens) if weight is None else weight
        measured["importance/mean"] = weight
        measured["importance/capped"] = out_of_bounds(o, weight).astype(jnp.float32)
    if tokens.reference_logprobs is not None:
        measured["kl"] = kl_estimate(logprob, tokens.reference_logprobs)
    return measured


OF_STALE = {"gap": "gap/mean", "importance": "importance/mean", "capped": "importance/capped"}
OF_GROUPS = OF_STALE | {"entropy": "entropy", "kl": "kl", "clip": "clip"}


def _of_groups(
    groups: tuple[Group, ...],
    weights: jax.Array,
    numbers: jax.Array,
    measured: Metrics,
    of_each: Mapping[str, str] = OF_GROUPS,
) -> Metrics:
    """`<group>/share` of the loss, and the means inside it: a group that falls apart hides in the mean of all.

    They are 0 where a step has nothing of a group.
    """
    if not groups:
        return {}
    measured = measured | {"clip": measured["clip/high"] + measured["clip/low"]}
    shown = {name: measured[of] for name, of in of_each.items() if of in measured}
    members_GxMxRxT = numbers[None] == jnp.arange(len(groups))[:, None, None, None]

    def sums(values: jax.Array) -> jax.Array:
        return jnp.where(members_GxMxRxT & (weights > 0), weights * values, 0.0).sum((1, 2, 3))

    share_G = sums(jnp.ones_like(weights))
    means = {"share": share_G} | {name: sums(values) / jnp.maximum(share_G, 1e-30) for name, values in shown.items()}
    return {
        f"{group.name}/{name}": mean_G[number] for number, group in enumerate(groups) for name, mean_G in means.items()
    }


def over_steps(metrics: Sequence[Metrics]) -> dict[str, float]:
    """An iteration's numbers from those of its steps: counters as the last step left them, otherwise means.

    Of a `max` the largest, of tokens the sum. What is measured of a group counts by the group's share in each step; of
    a group that is in none of them there are no numbers. Waits for the steps.
    """
    values = {name: np.array([float(step[name]) for step in jax.device_get(list(metrics))]) for name in metrics[0]}

    def one(name: str, value: np.ndarray) -> float | None:
        share = values.get(f"{name.rpartition('/')[0]}/share")
        if name.startswith("steps/"):
            return float(value[-1])
        if name.startswith(("tokens/trained", "tokens/read")):
            return float(value.sum())
        if share is not None and not share.any():
            return None
        if share is not None and not name.endswith("/share"):
            return float(np.average(value, weights=share))
        return float(value.max() if name.endswith("/max") else value.mean())

    found = {name: one(name, value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def gradient_norms(gradient: Live) -> Metrics:
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
