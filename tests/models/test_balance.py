"""Weights moved from keys to queries: the model says the same to the last bit, and its keys are more alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.attention import segment_attention
from azr_jax.models.balance import MOST, _times, balanced, key_powers
from azr_jax.models.sharding import LearnerRules, random_model, shardings
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh, reshard

QWEN2 = ModelSpec("qwen2", 96, 32, 2, 4, 2, 8, 64, True)
SPECS = [QWEN2, *(dataclasses.replace(QWEN2, family=family) for family in ("llama", "qwen3", "gemma3_text"))]
TOKENS = 12


def uneven(spec: ModelSpec) -> tuple[nnx.GraphDef, nnx.State]:
    """A model with one pair of numbers in the keys of each layer that is far larger than the others."""
    graph, params = nnx.split(random_model(spec, 0))
    at, layers = (0, spec.head_dim // 2), params["layers"]
    name = "k_bias" if spec.qkv_bias else "k_norm" if spec.qk_norm else "k"
    value = layers[name].get_value()
    index = (..., jnp.asarray(at)) if name != "k" else (slice(None), slice(None), jnp.asarray(at))
    layers[name].set_value(value.at[index].add(30) if name != "k" else value.at[index].multiply(100))
    return graph, params


def alike_in(params: nnx.State, spec: ModelSpec) -> nnx.State:
    return balanced(params, spec, key_powers(params, spec))


def logits_and_keys(graph: nnx.GraphDef, params: nnx.State, dtype: str) -> tuple[np.ndarray, list[np.ndarray]]:
    model, positions, keys = nnx.merge(graph, params), jnp.arange(TOKENS)[None], []
    attend = segment_attention("xla", positions, jnp.ones_like(positions))

    def watched(q, k, v, cache, layer, **window):
        jax.debug.callback(lambda k: keys.append(np.asarray(k, np.float32)), k)
        return attend(q, k, v, cache, layer, **window)

    x, _ = model.hidden(jnp.arange(TOKENS)[None] * 7 % 96, positions, watched, dtype=jnp.dtype(dtype))
    return np.asarray(jax.block_until_ready(model.logits(x))), keys


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.family)
def test_the_model_says_the_same_to_the_last_bit_with_keys_more_alike(spec, dtype):
    graph, params = uneven(spec)
    (before, keys), (after, alike) = (logits_and_keys(graph, of, dtype) for of in (params, alike_in(params, spec)))
    np.testing.assert_array_equal(after, before)
    if spec.gemma:
        return

    def largest(keys: list[np.ndarray]) -> float:
        """Of a key's numbers, over the one in their midst."""
        return float(np.median([np.abs(k).max(-1) / np.median(np.abs(k), axis=-1) for k in map(np.asarray, keys)]))

    assert largest(keys) > 10 and largest(alike) < 0.5 * largest(keys)


@pytest.mark.parametrize("sizes", [(8, 1), (4, 2)])
@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: spec.family)
def test_weights_are_changed_where_they_lie(spec, sizes):
    mesh, (_, params) = make_mesh(*sizes), uneven(spec)
    layout = shardings(spec, mesh, LearnerRules())
    there = alike_in(reshard(params, layout), spec)
    with jax.set_mesh(mesh):  # as in a run
        again = alike_in(reshard(params, layout), spec)
    assert all((one == other).all() for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(again)))
    for one, other, lies in zip(*map(jax.tree.leaves, (alike_in(params, spec), there, layout))):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert other.sharding.is_equivalent_to(lies, other.ndim)


def test_weights_that_are_no_numbers_are_left_so(spec=QWEN2):
    _, params = uneven(spec)
    layers = params["layers"]
    layers["k"].set_value(layers["k"].get_value().at[0, 0, 0, 0].set(jnp.nan).at[1].set(0))
    layers["k_bias"].set_value(jnp.zeros_like(layers["k_bias"].get_value()))
    found = alike_in(params, spec)["layers"]["k"].get_value()
    assert np.isnan(np.asarray(found)).sum() == 1 and not np.asarray(found[1]).any()


def test_powers_of_two_are_powers_of_two():
    """exp2 of whole numbers is not, on a CPU from 13 on."""
    powers = np.arange(-MOST, MOST + 1, dtype=np.float32)
    for sign in (1, -1):
        found = _times(sign, jnp.ones((1, len(powers))), jnp.asarray(powers)[None, None])
        np.testing.assert_array_equal(np.asarray(found)[0], np.ldexp(1.0, (sign * powers).astype(int)))
