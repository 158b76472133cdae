"""The program: as large for 28 layers as for 2."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tiny_models import logits

from azr_jax.models.sharding import abstract_params, random_model
from azr_jax.models.spec import PRESETS


def program_size(depth: int, remat: str) -> int:
    spec = replace(PRESETS["tiny"], depth=depth)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: random_model(spec, 0)))

    def loss(params, tokens):
        return jnp.sum(jnp.square(logits(nnx.merge(graphdef, params), tokens, remat=remat)))

    tokens = jax.ShapeDtypeStruct((2, 32), jnp.int32)
    return len(jax.jit(jax.grad(loss)).lower(abstract_params(spec), tokens).compile().as_text())


@pytest.mark.parametrize("remat", ["none", "full"])
def test_program_does_not_grow_with_depth(remat):
    two, many = program_size(2, remat), program_size(28, remat)
    assert abs(many / two - 1) <= 0.05
