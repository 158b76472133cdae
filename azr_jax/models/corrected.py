"""A weight with a low-rank correction (LoRA): w + b a, where only b and a are trained.

Forward it is one matrix, made when the type it is used in is known, so that learner and sampler multiply the same
numbers. Backward it is not: the gradients of a and b are taken through the narrow side, and that of the whole matrix,
a third of a backward pass, is never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from azr_jax.models.products import StandIn, axes_of, einsum, gathered, layout_of


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Corrected(StandIn):
    w: jax.Array  # [(L,) out..., in...]
    a: jax.Array  # [(L,) r, in...]
    b: jax.Array  # [(L,) out..., r]

    def product(self, formula: str, layout: P | None, x: jax.Array, dtype: DTypeLike) -> jax.Array:
        """As products.product. Called inside the model's scan over layers, where the leading axis is gone."""
        return _product(formula, layout, jnp.dtype(dtype), x, jax.lax.stop_gradient(self.w), self.a, self.b)


def correction(a: jax.Array, b: jax.Array, w: jax.Array) -> jax.Array:
    """The product b a, laid out like w; over all layers at once where there is a leading axis."""
    inputs, outputs = a.ndim - 1, b.ndim - 1
    stacked = w.ndim < inputs + outputs
    inputs, outputs = inputs - stacked, outputs - stacked
    layer, out, ins = "l" * stacked, "opq"[:outputs], "ijk"[:inputs]
    layout = jax.typeof(w).sharding
    place = layout.spec if layout.mesh.are_all_axes_explicit else None
    return jnp.einsum(f"{layer}{out}r,{layer}r{ins}->{layer}{out}{ins}", b, a, out_sharding=place)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _product(formula: str, layout: P | None, dtype: jnp.dtype, x, w, a, b) -> jax.Array:
    return _forward(formula, layout, dtype, x, w, a, b)[0]


def _forward(formula: str, layout: P | None, dtype: jnp.dtype, x, w, a, b):
    _, right, _ = axes_of(formula)
    whole = w.astype(dtype) + correction(a, b, w).astype(dtype)
    y = einsum(formula, x.astype(dtype), gathered(whole, embed=right.index("d")), x.dtype, layout)
    return y, (x, whole, a, b)


def _backward(formula: str, layout: P | None, dtype: jnp.dtype, kept, d_out):
    del layout
    (x, whole, a, b), (left, right, out) = kept, axes_of(formula)
    tokens = "".join(axis for axis in left if axis not in right)
    ins, outs = ("".join(axis for axis in right if axis in side) for side in (left, out))
    in_whole, out_whole = _without_embed(f"r{ins}", a), _without_embed(f"{outs}r", b)
    # Few numbers, so in float32 also where the large products are not.
    x_by_rank = _narrow(f"{left},r{ins}->{tokens}r", x, in_whole)
    d_by_rank = _narrow(f"{out},{outs}r->{tokens}r", d_out, out_whole)
    d_a = _sum(f"{tokens}r,{left}->r{ins}", d_by_rank, x, a)
    d_b = _sum(f"{out},{tokens}r->{outs}r", d_out, x_by_rank, b)
    d_x = einsum(
        f"{out},{right}->{left}", d_out.astype(dtype), gathered(whole, embed=right.index("d")), x.dtype, layout_of(x)
    )
    return d_x, None, d_a, d_b


_product.defvjp(_forward, _backward)


def _without_embed(axes: str, factor: jax.Array) -> jax.Array:
    return gathered(factor, embed=axes.index("d")) if "d" in axes else factor


def _narrow(formula: str, wide: jax.Array, factor: jax.Array) -> jax.Array:
    """Of each token, as many numbers as the rank."""
    left, _, out = axes_of(formula)
    layout = layout_of(wide)
    place = None if layout is None else P(*(layout[left.index(axis)] for axis in out[:-1]), None)
    return jnp.einsum(formula, wide.astype(factor.dtype), factor, out_sharding=place)


def _sum(formula: str, one: jax.Array, other: jax.Array, like: jax.Array) -> jax.Array:
    """Over all tokens, laid out as the factor whose gradient it is."""
    return jnp.einsum(formula, one.astype(like.dtype), other.astype(like.dtype), out_sharding=layout_of(like))
