"""Products of activations and weights, and how arrays lie on devices, which is read off them and never told.

A formula is an einsum's, its letters as in transformer.py: weights are (out, in), so the letters that activations and
weight share are summed over.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


class StandIn:
    """What stands where the model expects the array of a weight: a dataclass of arrays that JAX goes through."""

    def __getitem__(self, index: EllipsisType) -> Self:
        assert index is Ellipsis
        return self


def product_dtype(dtype: str, matmul_dtype: str) -> jnp.dtype:
    """What weights, and what they multiply, are rounded to: `same` as all else is computed in, or a smaller type."""
    return jnp.dtype(dtype if matmul_dtype == "same" else matmul_dtype)


def _product(formula: str, order: str | None, layout: P | None, x: jax.Array, w: jax.Array) -> jax.Array:
    """The einsum of x and a weight that is gathered for it; the output lies as `layout` says, if it says so.

    The weight's gradient is asked for as the weight lies, and in one operation: the TPU compiler then sends parts of it
    round the chips while it multiplies the next. Summed first and cut afterwards, as JAX would have it, it becomes an
    all-reduce of the whole. `order`: the axes of the weight in the order in which its gradient is computed.

    Where the weight has a smaller type than x, x is rounded to it, and what comes out has x's type unrounded.
    """
    _, right, _ = axes_of(formula)
    return einsum(formula, x.astype(w.dtype), gathered(w, embed=right.index("d")), x.dtype, layout)


def _product_forward(formula, order, layout, x, w):
    return _product(formula, order, layout, x, w), (x, w)


def _product_backward(formula, order, layout, kept, d_out):
    del layout
    (x, w), (left, right, out) = kept, axes_of(formula)
    place, dtype = layout_of(w), x.dtype
    x, d_out = x.astype(w.dtype), d_out.astype(w.dtype)
    if w.dtype != dtype and not any(place or ()):
        d_w = _outer(left, right, out, x, d_out, place)
    elif order is None:
        d_w = jnp.einsum(f"{out},{left}->{right}", d_out, x, out_sharding=place)
    else:
        there = None if place is None else P(*(place[right.index(axis)] for axis in order))
        d_w = jnp.einsum(f"{left},{out}->{order}", x, d_out, out_sharding=there)
        d_w = d_w.transpose([order.index(axis) for axis in right])
    whole = gathered(w, embed=right.index("d"))
    if whole is not w:  # first of all, so that x is free before the rest goes on
        d_out, d_w = jax.lax.optimization_barrier((d_out, d_w))
    return einsum(f"{out},{right}->{left}", d_out, whole, dtype, layout_of(x)), d_w


def einsum(formula: str, a: jax.Array, b: jax.Array, dtype: jnp.dtype, layout: P | None) -> jax.Array:
    sums = None if a.dtype == dtype else dtype  # None: as every backend does by itself
    return jnp.einsum(formula, a, b, preferred_element_type=sums, out_sharding=layout)


def _outer(left: str, right: str, out: str, x: jax.Array, d_out: jax.Array, place: P | None) -> jax.Array:
    """The weight's gradient, with the tokens last in what stands left.

    XLA on a CPU multiplies bfloat16 twice as fast as float32, but not where it would have to turn the left side itself.
    """
    tokens = "".join(axis for axis in out if axis in left and axis not in right)
    rows = "".join(axis for axis in right if axis in out)
    turned = lax.optimization_barrier(jnp.einsum(f"{out}->{rows}{tokens}", d_out))
    return einsum(f"{rows}{tokens},{left}->{right}", turned, x, jnp.dtype(jnp.float32), place).astype(x.dtype)


product = jax.custom_vjp(_product, nondiff_argnums=(0, 1, 2))
product.defvjp(_product_forward, _product_backward)


def axes_of(formula: str) -> list[str]:
    return formula.replace("->", ",").split(",")


def gathered(weight: jax.Array, *, embed: int) -> jax.Array:
    """The weight, whole along its axis number `embed`. To be cast before, so that the half-sized copy travels."""
    layout = layout_of(weight)
    if layout is None or layout[embed] is None:
        return weight
    return jax.reshard(weight, P(*(None if axis == embed else name for axis, name in enumerate(layout))))


def layout_of(x: jax.Array) -> P | None:
    """How x lies on the explicit axes of a mesh; None where there are none."""
    sharding = jax.typeof(x).sharding
    return sharding.spec if AxisType.Explicit in sharding.mesh.axis_types else None
