"""Master weights that are multiplied in a smaller type: cast layer by layer where they are used, and with gradients of
that type.

JAX gives a gradient the type of what is differentiated by. So that is not the float32 weight, but a stand-in for it of
the smaller type, which is never read: a microbatch's gradients of the layers, rounded to that type in any case, then
take half the bytes, and no smaller copy of all weights has to lie beside the masters while they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from azr_jax.learner.lora import Live, Path
from azr_jax.models.products import StandIn


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Master(StandIn):
    weight: jax.Array  # float32
    stand_in: jax.Array  # of its shape, in the type of the product; the gradient is by this one

    def astype(self, dtype: DTypeLike) -> jax.Array:
        """One layer's weight: called inside the model's scan over layers."""
        assert self.stand_in.dtype == dtype
        return _cast(self.weight, self.stand_in)


@jax.custom_vjp
def _cast(weight: jax.Array, stand_in: jax.Array) -> jax.Array:
    # Rounded first and in words: of a cast alone, the TPU compiler makes a cast of all layers ahead of the loop.
    info = jnp.finfo(stand_in.dtype)
    return jax.lax.reduce_precision(weight, info.nexp, info.nmant).astype(stand_in.dtype)


_cast.defvjp(lambda weight, stand_in: (_cast(weight, stand_in), None), lambda _, gradient: (None, gradient))


def stand_ins(params: Live, dtype: jnp.dtype) -> Live:
    """What the loss is differentiated by: a stand-in for each weight of the layers that is multiplied in another type
    than its own, the parameter itself for all others.
    """
    if not isinstance(params, nnx.State):
        return params

    def stand_in(path: Path, leaf: nnx.Variable) -> nnx.Variable:
        multiplied = path[0] == "layers" and not path[-1].endswith("norm")
        return leaf.replace(jnp.zeros_like(leaf[...], dtype)) if multiplied and leaf.dtype != dtype else leaf

    return nnx.map_state(stand_in, params)


def with_masters(params: Live, live: Live) -> Live:
    """`live` as the model takes it: the master weights behind their stand-ins."""
    if not isinstance(params, nnx.State) or not isinstance(live, nnx.State):
        return live
    weights = dict(nnx.to_flat_state(params))

    def together(path: Path, leaf: nnx.Variable) -> nnx.Variable:
        weight = weights[path]
        return leaf if leaf.dtype == weight.dtype else leaf.replace(Master(weight[...], leaf[...]))

    return nnx.map_state(together, live)
