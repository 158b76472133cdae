"""The loss of one microbatch by chunks of completion tokens: no array is ever [batch, time, vocabulary].

Log-probability and entropy of a token come from its logits, and the loss is a sum over tokens of a function of the
two (terms.py). So the gradient by the logits is known as soon as the logits are. Each chunk computes its logits once,
adds to the loss and to the gradients of the hidden states and of the unembedding, and drops them; the backward pass
only scales. That is three matrix products with the unembedding; computing the logits again would make it four.

On a mesh, rows are split over the axes of the hidden states' first dimension, and the vocabulary over those of the
unembedding's first. The unembedding's gradient crosses devices once per microbatch, not once per chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from azr_jax.learner.terms import Objective, Tokens, sequence_importance, token_loss

CHUNK_LOGITS = 2**27  # logits of a chunk, where the caller names no size: at most 512 MiB in float32,
CHUNK_ROW = 128  # and at most this many tokens of a row, or a quarter of it, so that few empty ones are computed
Aux = dict[str, jax.Array]


class Axes(NamedTuple):
    """Mesh axes: those that split the rows, the width and the vocabulary."""

    rows: tuple[str, ...] = ()
    width: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


def _policy_loss(
    objective: Objective,
    temperature: float,
    chunk: int,
    hidden_RxTxD: jax.Array,
    w_VxD: jax.Array,
    tokens: Tokens,
) -> tuple[jax.Array, Aux]:
    """(loss, {logprobs, entropies, importance where it is of sequences}, each [R, N]).

    `chunk` is in tokens; 0 picks a size. Products are taken in the type of `hidden`; sums and the rest are float32.
    Where no gradient by `w` is taken (it is frozen), JAX drops that product too.
    """
    local = partial(_loss, objective, temperature, chunk, False)
    loss, aux, _, _ = _on_mesh(local, hidden_RxTxD, w_VxD, tokens)
    return loss, aux


def _forward(objective, temperature, chunk, hidden_RxTxD, w_VxD, tokens):
    local = partial(_loss, objective, temperature, chunk, True)
    loss, aux, d_hidden, d_w = _on_mesh(local, hidden_RxTxD, w_VxD, tokens)
    return (loss, aux), (d_hidden, d_w)


def _backward(objective, temperature, chunk, gradients, cotangents):
    d_hidden, d_w = gradients
    scale = cotangents[0]  # of the loss; log-probabilities and entropies are measurements, not differentiated
    return d_hidden * scale.astype(d_hidden.dtype), d_w * scale.astype(d_w.dtype), None


policy_loss = jax.custom_vjp(_policy_loss, nondiff_argnums=(0, 1, 2))
policy_loss.defvjp(_forward, _backward)


def token_logprobs_and_entropy(
    hidden_RxTxD: jax.Array, w_VxD: jax.Array, tokens: Tokens, temperature: float, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and entropies [R, N] of the targets, to score with. Not to be differentiated."""
    hidden_RxTxD, w_VxD = lax.stop_gradient((hidden_RxTxD, w_VxD))
    _, aux = policy_loss(Objective(), temperature, chunk, hidden_RxTxD, w_VxD, tokens)
    return aux["logprobs"], aux["entropies"]


def _on_mesh(local: Callable[..., Any], hidden_RxTxD: jax.Array, w_VxD: jax.Array, tokens: Tokens) -> Any:
    """Runs `local` on each device's rows and share of the vocabulary; directly where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(Axes(), hidden_RxTxD, w_VxD, tokens)
    (rows, *rest), (vocabulary, width) = _axes(hidden_RxTxD), _axes(w_VxD)
    if any(rest) or set(vocabulary) & set(rows) or set(width) - set(rows):
        raise ValueError(
            f"hidden states are split by {jax.typeof(hidden_RxTxD).sharding.spec} and the unembedding by "
            f"{jax.typeof(w_VxD).sharding.spec}: rows should be split alone, the unembedding's width over axes of the "
            "rows, and its vocabulary over other axes"
        )
    by_row, by_w = P(rows or None), P(vocabulary or None, width or None)
    return jax.shard_map(
        partial(local, Axes(rows, width, vocabulary)),
        in_specs=(by_row, by_w, by_row),
        out_specs=(P(), by_row, by_row, by_w),
        check_vma=False,
    )(hidden_RxTxD, w_VxD, tokens)


def _axes(array: jax.Array) -> list[tuple[str, ...]]:
    spec = [*jax.typeof(array).sharding.spec, *(None,) * array.ndim][: array.ndim]
    return [() if axis is None else (axis,) if isinstance(axis, str) else tuple(axis) for axis in spec]


def _loss(objective, temperature, chunk, with_gradient, axes: Axes, hidden_RxTxD, w_VxD, tokens: Tokens):
    """One device's part: (loss, aux, gradient of hidden, gradient of w); the gradients None where not asked for."""
    w = w_VxD.astype(hidden_RxTxD.dtype)
    if axes.width:
        w = lax.all_gather(w, axes.width, axis=1, tiled=True)
    if objective.importance == "sequence":
        old = tokens.old_logprobs
        if old is None:  # a sequence's weight needs all its tokens before the first gradient: one more product
            plain = Objective()
            _, aux, _, _ = _scan(plain, temperature, chunk, False, axes.vocabulary, hidden_RxTxD, w, tokens)
            old = aux["logprobs"]
        tokens = replace(tokens, importance=sequence_importance(objective, old, tokens))
    loss, aux, d_hidden, d_w = _scan(
        objective, temperature, chunk, with_gradient, axes.vocabulary, hidden_RxTxD, w, tokens
    )
    if axes.rows:
        loss = lax.psum(loss, axes.rows)
    if d_w is not None:
        if axes.width:
            d_w = lax.psum_scatter(d_w, axes.width, scatter_dimension=1, tiled=True)
        if elsewhere := tuple(axis for axis in axes.rows if axis not in axes.width):
            d_w = lax.psum(d_w, elsewhere)
        d_w = d_w.astype(w_VxD.dtype)
    if tokens.importance is not None:
        aux["importance"] = tokens.importance
    return loss, aux, d_hidden, d_w


def _scan(objective, temperature, chunk, with_gradient, vocabulary, hidden_RxTxD, w_VxD, tokens: Tokens):
    """Over chunks of each row's completion tokens. Chunks that hold none are skipped, not computed."""
    rows, size = tokens.index.shape
    # A row has no more completion tokens than some of it: in parts of a row, the empty ones cost nothing.
    chunk = chunk or max(1, min(CHUNK_LOGITS // w_VxD.shape[0], rows * max(CHUNK_ROW, size // 4)))
    chunk = min(size, max(1, chunk // rows))
    chunks = -(-size // chunk)
    chunk = -(-size // chunks)  # even parts: 14,336 tokens by 882 would compute 658 of padding
    tokens_KxRxC = jax.tree.map(
        lambda a: jnp.pad(a, ((0, 0), (0, chunks * chunk - size))).reshape(rows, chunks, chunk).swapaxes(0, 1), tokens
    )
    start = (jnp.float32(0.0), None, None)
    if with_gradient:
        start = (jnp.float32(0.0), jnp.zeros_like(hidden_RxTxD), jnp.zeros(w_VxD.shape, jnp.float32))

    def compute(carry, part: Tokens):
        loss, d_hidden, d_w = carry
        x_RxCxD = jnp.take_along_axis(hidden_RxTxD, part.index[..., None], axis=1)
        logits = _product("rcd,vd->rcv", x_RxCxD, w_VxD) / temperature
        logprob, entropy, log_z = _measure(logits, part.targets, vocabulary)
        total = lambda logprob, entropy: token_loss(objective, logprob, entropy, part).sum()  # noqa: E731
        measured = tuple(jnp.where(part.weights > 0, measure, 0.0) for measure in (logprob, entropy))
        if not with_gradient:
            return (loss + total(logprob, entropy), None, None), measured
        value, (d_logprob, d_entropy) = jax.value_and_grad(total, (0, 1))(logprob, entropy)
        d_logits = _logits_gradient(logits, part.targets, vocabulary, log_z, entropy, d_logprob, d_entropy)
        d_logits = (d_logits / temperature).astype(x_RxCxD.dtype)
        d_x = _psum(_product("rcv,vd->rcd", d_logits, w_VxD), vocabulary)
        # Padding points at position 0 and adds nothing: its loss is the constant 0.
        d_hidden = d_hidden.at[jnp.arange(rows)[:, None], part.index].add(d_x.astype(d_hidden.dtype))
        d_w = d_w + _product("rcv,rcd->vd", d_logits, x_RxCxD)
        return (loss + value, d_hidden, d_w), measured

    def step(carry, part: Tokens):
        nothing = jnp.zeros((rows, chunk), jnp.float32)
        return lax.cond((part.weights > 0).any(), compute, lambda c, _: (c, (nothing, nothing)), carry, part)

    (loss, d_hidden, d_w), measures = lax.scan(step, start, tokens_KxRxC)
    logprobs, entropies = (m.swapaxes(0, 1).reshape(rows, chunks * chunk)[:, :size] for m in measures)
    return loss, {"logprobs": logprobs, "entropies": entropies}, d_hidden, d_w


def _product(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(formula, a, b, preferred_element_type=jnp.float32)


def _psum(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return lax.psum(x, axes) if axes else x


def _local(targets_RxC: jax.Array, size: int, vocabulary: tuple[str, ...]) -> jax.Array:
    """Where this device's share of the vocabulary holds the target: below 0 or from `size` up, where it does not."""
    return targets_RxC - lax.axis_index(vocabulary) * size if vocabulary else targets_RxC


def _measure(logits_RxCxV: jax.Array, targets_RxC: jax.Array, vocabulary: tuple[str, ...]):
    """The log of p(target) = l - log z, H = log z - sum of p l, and log z, each [R, C]."""
    top = logits_RxCxV.max(-1)
    if vocabulary:
        top = lax.pmax(top, vocabulary)
    shifted = logits_RxCxV - top[..., None]
    weight = jnp.exp(shifted)
    # Both sums in one pass: XLA on a CPU takes five times as long over two reductions of the same exponentials.
    zero = jnp.float32(0.0)
    sums = lax.reduce((weight, weight * shifted), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (2,))
    z, mean = _psum(sums[0], vocabulary), _psum(sums[1], vocabulary)
    local = _local(targets_RxC, logits_RxCxV.shape[-1], vocabulary)
    target = jnp.take_along_axis(logits_RxCxV, local[..., None], axis=-1, mode="fill", fill_value=0)[..., 0]
    target = _psum(jnp.where(local < 0, 0.0, target), vocabulary) - top  # negative indices would count from the end
    return target - jnp.log(z), jnp.log(z) - mean / z, top + jnp.log(z)


def _logits_gradient(logits_RxCxV, targets_RxC, vocabulary, log_z, entropy, d_logprob, d_entropy):
    """By the logits: d log p(t) / d l_v = [v = t] - p_v, and dH / d l_v = -p_v (log p_v + H)."""
    log_p = logits_RxCxV - log_z[..., None]
    inner = d_logprob[..., None] + d_entropy[..., None] * (log_p + entropy[..., None])
    local = _local(targets_RxC, logits_RxCxV.shape[-1], vocabulary)
    hits = lax.broadcasted_iota(jnp.int32, logits_RxCxV.shape, 2) == local[..., None]
    return jnp.where(hits, d_logprob[..., None], 0.0) - jnp.exp(log_p) * inner
