"""Weights of eight bits: what each matrix becomes, and that the model computes with it as with what it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.attention import segment_attention
from azr_jax.models.int8 import Int8, as_int8
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec

FAMILIES = {
    "qwen2": ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True),
    "qwen3": ModelSpec("qwen3", 300, 32, 2, 4, 2, 16, 64, False),
    "gemma3": ModelSpec(
        "gemma3_text", 300, 32, 2, 4, 1, 16, 64, True, windowed=(0,), window=11, rope_factor=2.0, score_scalar=9
    ),
}


def stands_for(params: nnx.State) -> nnx.State:
    """The float32 parameters that the integers stand for."""

    def one(_, leaf):
        if not isinstance(w := leaf[...], Int8):
            return leaf
        return leaf.replace(w.whole * w.scale.reshape(w.scale.shape + (1,) * (w.whole.ndim - w.scale.ndim)))

    return nnx.map_state(one, params)


def test_an_output_channel_has_a_scale_of_its_own_and_its_largest_weight_is_127():
    graph, params = nnx.split(random_model(FAMILIES["qwen3"], 0))
    del graph
    row = np.zeros(64, np.float32)
    row[31:33] = -2.54, 1.0
    params["layers"]["down"].set_value(params["layers"]["down"][...].at[1, 5].set(row))
    found = as_int8(params, "float32")
    down, q, embed = (found["layers"]["down"][...], found["layers"]["q"][...], found["embed"][...])
    assert (down.whole.dtype, down.scale.shape) == (jnp.int8, (2, 32))  # depth, width
    assert (q.scale.shape, embed.scale.shape) == ((2, 4, 16), (300,))  # depth, heads, numbers of a head; tokens
    assert down.whole[1, 5].tolist() == [0] * 31 + [-127, 50] + [0] * 31  # 2.54 / 127 = 0.02
    assert float(down.scale[1, 5]) == pytest.approx(0.02)
    whole = stands_for(found)
    for name in ("q", "k", "v", "o", "gate", "up", "down"):
        off, scale = np.abs(whole["layers"][name][...] - params["layers"][name][...]), found["layers"][name][...].scale
        assert (off.reshape(*scale.shape, -1).max(-1) <= 0.5001 * scale).all()


def test_a_channel_of_zeros_stays_zeros():
    graph, params = nnx.split(random_model(FAMILIES["qwen2"], 0))
    del graph
    params["layers"]["o"].set_value(params["layers"]["o"][...] * 0)
    assert not np.asarray(stands_for(as_int8(params, "float32"))["layers"]["o"][...]).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_computes_with_integers_as_with_what_they_stand_for(family):
    graph, params = nnx.split(random_model(FAMILIES[family], 1))
    rounded = as_int8(jax.tree.map(lambda x: 4 * x, params), "float32")
    tokens_2xT = np.random.default_rng(0).integers(0, 300, (2, 24))
    positions_2xT = jnp.broadcast_to(jnp.arange(24), (2, 24))

    @jax.jit
    def logits(params):
        attend = segment_attention("xla", positions_2xT, jnp.ones_like(positions_2xT))
        model = nnx.merge(graph, params)
        return model.logits(model.hidden(tokens_2xT, positions_2xT, attend, dtype=jnp.float32)[0])

    np.testing.assert_allclose(logits(rounded), logits(stands_for(rounded)), rtol=1e-4, atol=1e-4)
