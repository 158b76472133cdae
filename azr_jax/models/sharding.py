"""Which axis of a weight lies on which axis of the mesh.

`Rules` says what each logical axis of models/spec.py does on the mesh axes `fsdp` and `tensor` (parallel/mesh.py).
There are two layouts of one parameter tree: the learner's (everything sharded) and the rollout's (tensor parallel only,
so that weights stay where they are while tokens are sampled).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.models.spec import ModelSpec, Weight
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import Axes


@dataclass(frozen=True)
class Rules:
    """Logical axis -> mesh axis (or several, or None: not split). `batch` is for activations, the rest for weights."""

    batch: Axes = "fsdp"
    vocab: Axes = "tensor"
    embed: Axes = "fsdp"
    heads: Axes = "tensor"
    kv_heads: Axes = "tensor"
    mlp: Axes = "tensor"
    head: Axes = None
    norm: Axes = None

    def layout(self, *axes: str) -> P:
        """The PartitionSpec of an array with these logical axes."""
        return P(*(getattr(self, axis) for axis in axes))

    def layout_of(self, weight: Weight) -> P:
        """The PartitionSpec of a parameter as the Transformer holds it."""
        return P(None, *self.layout(*weight.axes)) if weight.per_layer else self.layout(*weight.axes)


@dataclass(frozen=True)
class LearnerRules(Rules):
    """Weights and optimizer fully sharded over `fsdp`, layers split over `tensor`."""


@dataclass(frozen=True)
class RolloutRules(Rules):
    """Weights split over `tensor` only: no gathering while tokens are sampled."""

    embed: Axes = None


def check_divides(spec: ModelSpec, mesh: Mesh, rules: Rules) -> None:
    """Refuse a mesh that does not divide the model, naming the sizes that would."""
    for weight in spec.weights():
        for axis, size in zip(weight.axes, weight.shape):
            over = getattr(rules, axis)
            names = (over,) if isinstance(over, str) else over or ()
            parts = math.prod(mesh.shape[name] for name in names)
            if size % parts:
                good = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0 and n <= 4096)
                raise ValueError(
                    f"mesh.{'*'.join(names)}={parts} does not divide {axis}={size} of {weight.name}: "
                    f"it should be one of {good}"
                )


def shardings(spec: ModelSpec, mesh: Mesh, rules: Rules) -> nnx.State:
    """The NamedSharding of every parameter, as a tree like that of `nnx.split(model)`."""
    check_divides(spec, mesh, rules)
    by_path = {weight.path: NamedSharding(mesh, rules.layout_of(weight)) for weight in spec.weights()}
    return nnx.map_state(lambda path, leaf: leaf.replace(by_path[path]), abstract_params(spec))


def abstract_params(spec: ModelSpec, dtype: jnp.dtype = jnp.float32) -> nnx.State:
    """Shapes and dtypes of the parameters, nothing allocated."""
    return nnx.state(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0), param_dtype=dtype)))


def random_model(
    spec: ModelSpec, seed: int, *, mesh: Mesh | None = None, rules: Rules | None = None, dtype: jnp.dtype = jnp.float32
) -> Transformer:
    """A Transformer with random weights; with a mesh, each device makes only its own part."""

    def init() -> tuple[nnx.GraphDef, nnx.State]:
        return nnx.split(Transformer(spec, rngs=nnx.Rngs(seed), param_dtype=dtype))

    if mesh is None:
        return nnx.merge(*jax.jit(init)())
    layout = shardings(spec, mesh, rules or LearnerRules())
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(seed), param_dtype=dtype)))
    return nnx.merge(graphdef, jax.jit(lambda: init()[1], out_shardings=layout)())
