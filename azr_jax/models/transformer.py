"""The policy network: one decoder for every family in models/spec.py, and one forward for training, prefill and decode.

Layers are stacked on a leading axis and run by one `lax.scan`, so the program does not grow with depth. The forward
knows nothing of packing or paging: `attend` does what the caller needs, with the caller's cache as the scan's carry.
Rope, RMSNorm and softmax are float32; everything else runs in `dtype`, to which each weight is cast where it is used.

How arrays lie on devices is read off the arrays (`jax.typeof(x).sharding`), never told: a weight sharded over `embed`
is gathered where it is used, one sharded over heads or mlp stays where it is. Without a mesh these lines do nothing.

Letters in names: B rows, T tokens, D width, H query heads, G key/value heads, K numbers per head, F mlp, V vocabulary,
L layers. Weights keep Hugging Face's orientation (out, in), so that reading and writing them is slicing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from azr_jax.models.bits import Bits
from azr_jax.models.corrected import Corrected
from azr_jax.models.int8 import Int8
from azr_jax.models.products import gathered, layout_of, product
from azr_jax.models.rope import Llama3Rope
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.trees import PyTree

# attend(q, k, v, cache, layer), and with windows `window=`: a query sees so many tokens back, itself among them.
Attend = Callable[..., tuple[jax.Array, Any]]
NO_WINDOW = 2**30

# What the backward pass keeps; what it does not keep it computes again.
REMAT: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Layers(nnx.Module):
    """The weights of all layers, each with a leading axis over layers. Names and shapes: `ModelSpec.weights`."""


class Transformer(nnx.Module):
    """Embedding, layers, final norm and (unless tied) unembedding; `spec` says how large."""

    embed: nnx.Param
    final_norm: nnx.Param
    unembed: nnx.Param  # only where the spec is not tied

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs, param_dtype: jnp.dtype = jnp.float32):
        self.spec = spec
        self.layers = Layers()
        for weight in spec.weights():
            shape = (spec.depth, *weight.shape) if weight.per_layer else weight.shape
            if weight.init == "normal":
                value = 0.02 * jax.random.normal(rngs.params(), shape, param_dtype)
            else:
                value = jnp.full(shape, weight.init == "ones", param_dtype)
            owner = self.layers if weight.per_layer else self
            setattr(owner, weight.path[-1], nnx.Param(value))

    def hidden(
        self,
        tokens_BxT: jax.Array,
        positions_BxT: jax.Array,
        attend: Attend,
        cache: PyTree = None,
        *,
        dtype: jnp.dtype = jnp.bfloat16,
        matmul_dtype: jnp.dtype | None = None,
        remat: str = "none",
    ) -> tuple[jax.Array, Any]:
        """x_BxTxD after the final norm, and the cache as the last layer left it.

        `matmul_dtype` is what weights and what they multiply are rounded to; None: `dtype`.
        """
        if remat not in REMAT:
            raise ValueError(f"remat={remat!r}: should be one of {', '.join(REMAT)}")
        spec, matmul_dtype = self.spec, jnp.dtype(matmul_dtype or dtype)
        rope = rope_tables(positions_BxT, spec)
        local = rope_tables(positions_BxT, spec, local=True) if spec.windowed else rope

        def layer(carry: tuple[jax.Array, Any], step: tuple[dict[str, jax.Array], jax.Array]):
            x_BxTxD, cache = carry
            weights, index = step
            turned = rope if not spec.without_rope else _unless(index, spec.without_rope, rope)
            seen = attend
            if spec.windowed:
                windowed = (index == jnp.asarray(spec.windowed)).any()
                turned = jax.tree.map(functools.partial(jnp.where, windowed), local, rope)
                seen = functools.partial(attend, window=jnp.where(windowed, spec.window, NO_WINDOW))
            return _layer(x_BxTxD, weights, turned, seen, cache, index, spec, matmul_dtype), None

        if remat != "none":
            layer = jax.checkpoint(layer, policy=REMAT[remat], prevent_cse=False)
        x_BxTxD = lookup(self.embed[...], tokens_BxT, matmul_dtype).astype(dtype)
        if spec.gemma:
            x_BxTxD *= jnp.asarray(spec.width**0.5, dtype)  # rounded to that, as its authors have it
        stacked = {w.path[-1]: getattr(self.layers, w.path[-1])[...] for w in spec.weights() if w.per_layer}
        (x_BxTxD, cache), _ = jax.lax.scan(layer, (x_BxTxD, cache), (stacked, jnp.arange(spec.depth, dtype=jnp.int32)))
        return _normed(x_BxTxD, self.final_norm[...], spec), cache

    def logits(self, x: jax.Array) -> jax.Array:
        """x_...xD to float32 logits_...xV. For few tokens: a learner goes in chunks.

        The matrix is used as it lies: XLA on a CPU would turn it first, which takes ten times as long as the product.
        """
        w_VxD = self.embed[...] if self.spec.tied else self.unembed[...]
        w_VxD = gathered(w_VxD.astype(x.dtype), embed=1)
        out = None if (layout := layout_of(x)) is None else P(*layout[:-1], jax.typeof(w_VxD).sharding.spec[0])
        return jnp.einsum("...d,vd->...v", x, w_VxD, preferred_element_type=jnp.float32, out_sharding=out)


def _layer(x_BxTxD, weights, rope, attend: Attend, cache, index, spec: ModelSpec, matmul_dtype) -> PyTree:
    """One decoder layer: attention, then the gated mlp, each added to the residual stream."""
    dtype, layout = x_BxTxD.dtype, layout_of(x_BxTxD)

    def multiplied(formula: str, order: str | None, out: P | None, x: jax.Array, name: str) -> jax.Array:
        if isinstance(weight := weights[name], (Corrected, Int8)):
            return weight.product(formula, out, x, matmul_dtype)
        return product(formula, order, out, x, weight.astype(matmul_dtype))

    def heads(name: str) -> jax.Array:
        y = multiplied("btd,hkd->bthk", None, None, h_BxTxD, name)
        if spec.qkv_bias:
            y += weights[f"{name}_bias"].astype(matmul_dtype).astype(dtype)
        if spec.qk_norm and name != "v":
            y = _normed(y, weights[f"{name}_norm"], spec)
        return y

    def widened(name: str) -> jax.Array:
        # The gradient as [D, F]: XLA on a CPU would compute the other order column by column within the transposition
        # of the output's gradient (silu and all), a sixth of the whole backward pass. Transposed x costs nothing.
        return multiplied("btd,fd->btf", "df", None, h_BxTxD, name)

    def behind(name: str, y_BxTxD: jax.Array) -> jax.Array:
        return _normed(y_BxTxD, weights[name], spec) if spec.gemma else y_BxTxD

    h_BxTxD = _normed(x_BxTxD, weights["attn_norm"], spec)
    q_BxTxHxK, k_BxTxGxK, v_BxTxGxK = rotate(heads("q"), rope), rotate(heads("k"), rope), heads("v")
    if spec.score_scalar is not None:  # whoever attends divides by the root of K
        q_BxTxHxK *= jnp.asarray((spec.head_dim / spec.score_scalar) ** 0.5, dtype)
    o_BxTxHxK, cache = attend(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, cache, index)
    o_BxTxD = multiplied("bthk,dhk->btd", None, layout, o_BxTxHxK, "o")
    x_BxTxD += behind("attn_out_norm", o_BxTxD)

    h_BxTxD = _normed(x_BxTxD, weights["mlp_norm"], spec)
    inner_BxTxF = (jax.nn.gelu if spec.gemma else jax.nn.silu)(widened("gate")) * widened("up")
    down_BxTxD = multiplied("btf,df->btd", None, layout, inner_BxTxF, "down")
    x_BxTxD += behind("mlp_out_norm", down_BxTxD)
    return x_BxTxD, cache


def _normed(x: jax.Array, scale: jax.Array, spec: ModelSpec) -> jax.Array:
    """The family's norm: Gemma's weights say by how much the scale is above 1."""
    return rms_norm(x, 1 + scale.astype(jnp.float32) if spec.gemma else scale, spec.norm_eps)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """X over its root mean square along the last axis, times `scale`; float32 inside, x's dtype outside."""
    x32 = x.astype(jnp.float32)
    x32 *= jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return (x32 * scale.astype(jnp.float32)).astype(x.dtype)


def rope_tables(positions_BxT: jax.Array, spec: ModelSpec, *, local: bool = False) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of each position's angles, [B, T, 1, K/2] float32; `local`: of the layers with a window."""
    theta = spec.local_rope_theta if local else spec.rope_theta
    frequencies = theta ** -(jnp.arange(0, spec.head_dim, 2, dtype=jnp.float32) / spec.head_dim)
    if spec.rope_scaling is not None:
        frequencies = _stretch(frequencies, spec.rope_scaling)
    if spec.rope_factor != 1 and not local:
        frequencies /= spec.rope_factor
    angles = positions_BxT[..., None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _unless(
    layer: jax.Array, without: tuple[int, ...], rope: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The tables, or in the layers without rope those that turn nothing: cosine 1, sine 0."""
    none = (layer == jnp.asarray(without)).any()
    cos, sin = rope
    return jnp.where(none, 1.0, cos), jnp.where(none, 0.0, sin)


def _stretch(frequencies: jax.Array, rope: Llama3Rope) -> jax.Array:
    """Llama 3.1: keep what turns often within the original context, slow what turns rarely, blend in between."""
    turns = rope.original_max_positions * frequencies / (2 * math.pi)
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    keep = jnp.clip(keep, 0.0, 1.0)
    return frequencies * (keep + (1 - keep) / rope.factor)


def rotate(x_BxTxHxK: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn the pairs (i, i + K/2) of each head by the position's angles."""
    cos, sin = rope
    left, right = jnp.split(x_BxTxHxK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
    return turned.astype(x_BxTxHxK.dtype)


def lookup(w_VxD: jax.Array | Bits, tokens_BxT: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Rows of the embedding, laid out as the tokens are.

    A table sharded over D is never gathered: every device looks the tokens of all devices that share the table up in
    its columns, and one exchange turns columns of all their rows into all columns of its rows. The tokens are far fewer
    than the vocabulary.
    """
    if isinstance(w_VxD, Bits):
        return Bits(lookup(w_VxD.bits, tokens_BxT, jnp.uint16)).astype(dtype)
    layout = layout_of(tokens_BxT)
    if layout is None:
        return w_VxD.at[tokens_BxT].get().astype(dtype)
    columns = jax.typeof(w_VxD).sharding.spec[1]
    if columns is None:
        return w_VxD.at[tokens_BxT].get(out_sharding=P(*layout, None)).astype(dtype)
    copies = tuple(axis for axis in layout[0] if axis != columns) if isinstance(layout[0], tuple) else None
    shared_BxT = jax.reshard(tokens_BxT, P(copies, None))
    x_BxTxD = w_VxD.at[shared_BxT].get(out_sharding=P(copies, None, columns)).astype(dtype)
    return jax.reshard(x_BxTxD, P(*layout, None))
