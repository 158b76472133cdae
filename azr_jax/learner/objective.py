"""The loss of one microbatch by chunks of completion tokens: no array is ever [batch, time, vocabulary].

Log-probability and entropy of a token come from its logits, and the loss is a sum over tokens of a function of the
two (terms.py). So the gradient by the logits is known as soon as the logits are. Each chunk computes its logits once,
adds to the loss and to the gradients of the hidden states and of the unembedding, and drops them; the backward pass
only scales. That is three matrix products with the unembedding; computing the logits again would make it four.

On a mesh, the unembedding is never gathered: each device holds a part of the vocabulary, and a chunk's hidden states,
which are far fewer, go to all parts. What comes back of a token is a handful of sums and the gradient of its hidden
state. The unembedding's gradient stays with its part. So logits are [tokens of a chunk on all devices, a part].
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

from azr_jax.learner.terms import Objective, Tokens, over_sequences, sequence_importance, token_loss
from azr_jax.parallel.mesh import by_axis
from azr_jax.parallel.trees import PyTree

CHUNK_LOGITS = 2**27  # logits of a chunk, where the caller names no size: at most 512 MiB in float32,
CHUNK_ROW = 128  # and at most this many tokens of a row, or a quarter of it, so that few empty ones are computed
FAR_BELOW = -1e30  # the logit of a word that does not exist: finite, so that 0 times it is 0
Aux = dict[str, jax.Array]


class Axes(NamedTuple):
    """Mesh axes: those that split the rows, the width and the vocabulary.

    The width lies on axes of rows while the weights rest; for the loss, these split the vocabulary further instead.
    """

    rows: tuple[str, ...] = ()
    width: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()


class Part(NamedTuple):
    """A device's part of the vocabulary: `size` rows of the unembedding, of which the first `held` are no padding."""

    first: jax.Array | int  # the token of the first row
    held: jax.Array | int
    size: int
    axes: Axes


def _policy_loss(
    objective: Objective,
    temperature: float,
    chunk: int,
    hidden_RxTxD: jax.Array,
    w_VxD: jax.Array,
    tokens: Tokens,
    dropped_V: jax.Array | None = None,
) -> tuple[jax.Array, Aux]:
    """(loss, {logprobs, entropies, importance and sequence_ratio where they are of sequences}, each [R, N]).

    `chunk` is in tokens; 0 picks a size. Products are taken in the type of `hidden`; sums and the rest are float32.
    Where no gradient by `w` is taken (it is frozen), JAX drops that product too. `dropped_V` are the tokens that do not
    exist for limited ones.
    """
    local = partial(_loss, objective, temperature, chunk, False)
    loss, aux, _, _ = _on_mesh(local, hidden_RxTxD, w_VxD, tokens, dropped_V)
    return loss, aux


def _forward(objective, temperature, chunk, hidden_RxTxD, w_VxD, tokens, dropped_V):
    local = partial(_loss, objective, temperature, chunk, True)
    loss, aux, d_hidden, d_w = _on_mesh(local, hidden_RxTxD, w_VxD, tokens, dropped_V)
    return (loss, aux), (d_hidden, d_w)


def _backward(objective, temperature, chunk, gradients, cotangents):
    d_hidden, d_w = gradients
    scale = cotangents[0]  # of the loss; log-probabilities and entropies are measurements, not differentiated
    return d_hidden * scale.astype(d_hidden.dtype), d_w * scale.astype(d_w.dtype), None, None


policy_loss = jax.custom_vjp(_policy_loss, nondiff_argnums=(0, 1, 2))
policy_loss.defvjp(_forward, _backward)


def token_logprobs_and_entropy(
    hidden_RxTxD: jax.Array,
    w_VxD: jax.Array,
    tokens: Tokens,
    temperature: float,
    chunk: int,
    never: tuple[int, ...] = (),
    dropped_V: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and entropies [R, N] of the targets, to score with. Not to be differentiated."""
    hidden_RxTxD, w_VxD = lax.stop_gradient((hidden_RxTxD, w_VxD))
    _, aux = policy_loss(Objective(never=never), temperature, chunk, hidden_RxTxD, w_VxD, tokens, dropped_V)
    return aux["logprobs"], aux["entropies"]


def _on_mesh(
    local: Callable[..., Any], hidden_RxTxD: jax.Array, w_VxD: jax.Array, tokens: Tokens, dropped_V: jax.Array | None
) -> PyTree:
    """Runs `local` on each device's rows and share of the vocabulary; directly where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local(Axes(), hidden_RxTxD, w_VxD, tokens, dropped_V)
    (rows, *rest), (vocabulary, width) = _axes(hidden_RxTxD), _axes(w_VxD)
    if any(rest) or set(vocabulary) & set(rows) or set(width) - set(rows):
        raise ValueError(
            f"hidden states are split by {jax.typeof(hidden_RxTxD).sharding.spec} and the unembedding by "
            f"{jax.typeof(w_VxD).sharding.spec}: rows should be split alone, the unembedding's width over axes of the "
            "rows, and its vocabulary over other axes"
        )
    by_row, by_w = P(rows or None), P(vocabulary or None, width or None)
    shared = tuple(axis for axis in width if mesh.shape[axis] > 1)
    return jax.shard_map(
        partial(local, Axes(rows, shared, vocabulary)),
        in_specs=(by_row, by_w, by_row, P()),
        out_specs=(P(), by_row, by_row, by_w),
        check_vma=False,
    )(hidden_RxTxD, w_VxD, tokens, dropped_V)


def _axes(array: jax.Array) -> list[tuple[str, ...]]:
    spec = by_axis(jax.typeof(array).sharding, array.ndim)
    return [() if axis is None else (axis,) if isinstance(axis, str) else tuple(axis) for axis in spec]


def _loss(objective, temperature, chunk, with_gradient, axes: Axes, hidden_RxTxD, w_VxD, tokens: Tokens, dropped_V):
    """One device's part: (loss, aux, gradient of hidden, gradient of w); the gradients None where not asked for."""
    w_PxD, part = _part(w_VxD.astype(hidden_RxTxD.dtype), axes)
    if axes.width:
        tokens = jax.tree.map(lambda a: lax.all_gather(a, axes.width, tiled=True), tokens)
    scan = partial(_scan, hidden_RxTxD=hidden_RxTxD, w_PxD=w_PxD, part=part, dropped_P=_own_words(dropped_V, part))
    tokens = _with_sequences(
        objective, tokens, partial(scan, Objective(never=objective.never), temperature, chunk, False)
    )
    loss, aux, d_hidden, d_w = scan(objective, temperature, chunk, with_gradient, tokens)
    for name, array in (("importance", tokens.importance), ("sequence_ratio", tokens.sequence_ratio)):
        if array is not None:
            aux[name] = array
    aux = {name: _own(measure, hidden_RxTxD.shape[0], axes.width) for name, measure in aux.items()}
    elsewhere = tuple(axis for axis in axes.rows if axis not in axes.width)
    if d_w is not None:
        if axes.width:
            d_w = lax.all_to_all(d_w, axes.width, split_axis=1, concat_axis=0, tiled=True)[: w_VxD.shape[0]]
        d_w = _psum(d_w, elsewhere).astype(w_VxD.dtype)
    return _psum(loss, elsewhere), aux, d_hidden, d_w


def _with_sequences(objective: Objective, tokens: Tokens, score: Callable[[Tokens], Any]) -> Tokens:
    """What a token's loss needs of its whole sequence, before the first gradient.

    Where that takes the log-probabilities of now, they cost one more product with the unembedding: not for the ratios
    of a single step, which are 1, nor for importance weights with several steps: theirs is the policy before the first.
    """
    old = tokens.old_logprobs
    if objective.policy_loss == "gspo" and old is not None:
        change = score(tokens)[1]["logprobs"] - old
        tokens = replace(tokens, sequence_ratio=jnp.exp(over_sequences(change, tokens, mean=True)))
    if objective.importance == "sequence":
        start = score(tokens)[1]["logprobs"] if old is None else old
        tokens = replace(tokens, importance=sequence_importance(objective, start, tokens))
    return tokens


def _part(w_VxD: jax.Array, axes: Axes) -> tuple[jax.Array, Part]:
    """What the device holds of the unembedding: rows of the whole width, got for columns of all its rows."""
    rows = w_VxD.shape[0]
    first = lax.axis_index(axes.vocabulary) * rows if axes.vocabulary else 0
    if not axes.width:
        return w_VxD, Part(first, rows, rows, axes)
    devices = lax.axis_size(axes.width)
    size = -(-rows // devices)
    before = lax.axis_index(axes.width) * size
    w_VxD = jnp.pad(w_VxD, ((0, size * devices - rows), (0, 0)))
    w_PxD = lax.all_to_all(w_VxD, axes.width, split_axis=0, concat_axis=1, tiled=True)
    return w_PxD, Part(first + before, jnp.clip(rows - before, 0, size) if rows % devices else size, size, axes)


def _own(array: jax.Array, rows: int, shared: tuple[str, ...]) -> jax.Array:
    """The device's own rows of an array that holds those of all devices along the axes `shared`."""
    return lax.dynamic_slice_in_dim(array, lax.axis_index(shared) * rows, rows) if shared else array


def _scan(objective, temperature, chunk, with_gradient, tokens: Tokens, *, hidden_RxTxD, w_PxD, part: Part, dropped_P):
    """Over chunks of each row's completion tokens; S rows: those of all devices that share the vocabulary.

    Chunks that hold no token on any device are skipped, not computed.
    """
    (all_rows, size), rows, (_, shared, vocabulary) = tokens.index.shape, hidden_RxTxD.shape[0], part.axes
    # A row has no more completion tokens than some of it: in parts of a row, the empty ones cost nothing.
    words = part.size * all_rows // rows
    chunk = chunk or max(1, min(CHUNK_LOGITS // words, rows * max(CHUNK_ROW, size // 4)))
    chunk = min(size, max(1, chunk // rows))
    chunks = -(-size // chunk)
    chunk = -(-size // chunks)  # even parts: 14,336 tokens by 882 would compute 658 of padding
    tokens_KxSxC = jax.tree.map(
        lambda a: jnp.pad(a, ((0, 0), (0, chunks * chunk - size))).reshape(-1, chunks, chunk).swapaxes(0, 1), tokens
    )
    start = (jnp.float32(0.0), None, None)
    if with_gradient:
        start = (jnp.float32(0.0), jnp.zeros_like(hidden_RxTxD), jnp.zeros(w_PxD.shape, jnp.float32))

    def compute(carry, some: Tokens):
        loss, d_hidden, d_w = carry
        index_RxC = _own(some.index, rows, shared)
        x_SxCxD = jnp.take_along_axis(hidden_RxTxD, index_RxC[..., None], axis=1)
        if shared:
            x_SxCxD = lax.all_gather(x_SxCxD, shared, tiled=True)
        logits = _held(_product("scd,pd->scp", x_SxCxD, w_PxD) / temperature, part, objective.never)
        if dropped_P is not None and some.limited is not None:
            logits = jnp.where(some.limited[..., None] & dropped_P, FAR_BELOW, logits)
        logprob, entropy, log_z = _measure(logits, some.targets, part)
        total = lambda logprob, entropy: token_loss(objective, logprob, entropy, some).sum()  # noqa: E731
        measured = tuple(jnp.where(some.weights > 0, measure, 0.0) for measure in (logprob, entropy))
        if not with_gradient:
            return (loss + total(logprob, entropy), None, None), measured
        value, (d_logprob, d_entropy) = jax.value_and_grad(total, (0, 1))(logprob, entropy)
        d_logits = _logits_gradient(logits, some.targets, part, log_z, entropy, d_logprob, d_entropy)
        d_logits = (d_logits / temperature).astype(x_SxCxD.dtype)
        d_x = _psum(_product("scp,pd->scd", d_logits, w_PxD), vocabulary).astype(d_hidden.dtype)
        if shared:
            d_x = lax.psum_scatter(d_x, shared, tiled=True)
        # Padding points at position 0 and adds nothing: its loss is the constant 0.
        d_hidden = d_hidden.at[jnp.arange(rows)[:, None], index_RxC].add(d_x)
        d_w = d_w + _product("scp,scd->pd", d_logits, x_SxCxD)
        return (loss + value, d_hidden, d_w), measured

    def step(carry, some: Tokens):
        nothing = jnp.zeros_like(some.weights)
        return lax.cond((some.weights > 0).any(), compute, lambda c, _: (c, (nothing, nothing)), carry, some)

    (loss, d_hidden, d_w), measures = lax.scan(step, start, tokens_KxSxC)
    logprobs, entropies = (m.swapaxes(0, 1).reshape(all_rows, chunks * chunk)[:, :size] for m in measures)
    return loss, {"logprobs": logprobs, "entropies": entropies}, d_hidden, d_w


def _own_words(dropped_V: jax.Array | None, part: Part) -> jax.Array | None:
    """What is dropped of the device's part; where that was filled up, it does not matter."""
    if dropped_V is None:
        return None
    return lax.dynamic_slice_in_dim(jnp.pad(dropped_V, (0, part.size)), part.first, part.size)


def _product(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(formula, a, b, preferred_element_type=jnp.float32)


def _psum(x: PyTree, axes: tuple[str, ...]) -> PyTree:
    return lax.psum(x, axes) if axes else x


def _local(targets_SxC: jax.Array, part: Part) -> jax.Array:
    """Where this device's part of the vocabulary holds the target; `part.size` where it does not."""
    local = targets_SxC - part.first
    return jnp.where((local >= 0) & (local < part.held), local, part.size)


def _held(logits_SxCxP: jax.Array, part: Part, never: tuple[int, ...]) -> jax.Array:
    """The logits, far below all others where the part was filled up, and for tokens that are never drawn."""
    words = lax.broadcasted_iota(jnp.int32, logits_SxCxP.shape, 2)
    for token in never:
        logits_SxCxP = jnp.where(words == token - part.first, FAR_BELOW, logits_SxCxP)
    return logits_SxCxP if isinstance(part.held, int) else jnp.where(words < part.held, logits_SxCxP, FAR_BELOW)


def _measure(logits_SxCxP: jax.Array, targets_SxC: jax.Array, part: Part):
    """The log of p(target) = l - log z, H = log z - sum of p l, and log z, each [S, C]."""
    axes = (*part.axes.vocabulary, *part.axes.width)
    top = logits_SxCxP.max(-1)
    if axes:
        top = lax.pmax(top, axes)
    shifted = logits_SxCxP - top[..., None]
    weight = jnp.exp(shifted)
    # Both sums in one pass: XLA on a CPU takes five times as long over two reductions of the same exponentials.
    zero = jnp.float32(0.0)
    sums = lax.reduce((weight, weight * shifted), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (2,))
    local = _local(targets_SxC, part)
    target = jnp.take_along_axis(logits_SxCxP, local[..., None], axis=-1, mode="fill", fill_value=0)[..., 0]
    z, mean, target = _psum((*sums, target), axes)
    return target - top - jnp.log(z), jnp.log(z) - mean / z, top + jnp.log(z)


def _logits_gradient(logits_SxCxP, targets_SxC, part: Part, log_z, entropy, d_logprob, d_entropy):
    """By the logits: d log p(t) / d l_v = [v = t] - p_v, and dH / d l_v = -p_v (log p_v + H)."""
    log_p = logits_SxCxP - log_z[..., None]
    inner = d_logprob[..., None] + d_entropy[..., None] * (log_p + entropy[..., None])
    hits = lax.broadcasted_iota(jnp.int32, logits_SxCxP.shape, 2) == _local(targets_SxC, part)[..., None]
    return jnp.where(hits, d_logprob[..., None], 0.0) - jnp.exp(log_p) * inner
