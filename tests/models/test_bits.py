"""Weights of bfloat16 kept as bits for a CPU: the same numbers, without float32 of all layers in every call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.bits import Bits, as_bits
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import EngineSettings
from azr_jax.rollout.programs import Programs

SPEC = ModelSpec("qwen2", 256, 64, 6, 4, 2, 16, 512, True)


def params_of(dtype: jnp.dtype) -> nnx.State:
    return nnx.state(random_model(SPEC, 0, dtype=dtype))


def test_every_matrix_is_the_same_number_for_number():
    params = params_of(jnp.bfloat16)
    for path, leaf in nnx.to_flat_state(as_bits(params)):
        before = dict(nnx.to_flat_state(params))[path][...]
        np.testing.assert_array_equal(leaf[...].astype(jnp.float32), before.astype(jnp.float32))
        assert isinstance(leaf[...], Bits) == (path[-1] not in ("final_norm", "attn_norm", "mlp_norm"))


def test_float32_is_left_alone():
    assert not any(isinstance(leaf[...], Bits) for _, leaf in nnx.to_flat_state(as_bits(params_of(jnp.float32))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_engine_s_programs_make_no_float32_of_all_layers(dtype):
    """They did, for slices of bfloat16: 1.4 GB and half a second in every call for a model of 0.5B."""
    settings = EngineSettings(4, 32, 32, page_size=8, decode_steps=4, dtype=dtype, matmul_dtype="bfloat16")
    stacked, embedding = f"f32[{SPEC.depth},{SPEC.mlp},{SPEC.width}]", f"f32[{SPEC.vocab},{SPEC.width}]"
    for program in Programs(SPEC, settings).listing():
        text = program.lower().compile().as_text()
        assert stacked not in text and embedding not in text, program.name


def test_logits_and_hidden_states_are_those_of_arrays():
    params = params_of(jnp.bfloat16)
    graphdef = nnx.split(nnx.eval_shape(lambda: random_model(SPEC, 0)))[0]
    tokens_1xT = jnp.arange(12)[None]

    def attend(q, k, v, cache, layer):
        return q, cache

    @jax.jit
    def forward(params):
        model = nnx.merge(graphdef, params)
        x, _ = model.hidden(tokens_1xT, tokens_1xT, attend, dtype=jnp.float32, matmul_dtype=jnp.bfloat16)
        return model.logits(x.astype(jnp.bfloat16))

    np.testing.assert_allclose(forward(as_bits(params)), forward(params), rtol=1e-6, atol=1e-6)
