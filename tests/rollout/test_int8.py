"""Sampling with matrices of eight bits: what they hold, that they say the same alone and together, on one device and on
many, and how far their words are from those of the weights themselves.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.config import flags
from azr_jax.models.int8 import Int8, quantized, quantized_layout, weight_bytes
from azr_jax.models.sharding import LearnerRules, RolloutRules, random_model, shardings
from azr_jax.models.spec import OUTPUTS, ModelSpec
from azr_jax.parallel.mesh import bytes_per_device, make_mesh, regrouped, reshard
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.rollout.programs import Programs

SPEC = ModelSpec("qwen2", 320, 32, 2, 4, 2, 8, 64, True)
SETTINGS = EngineSettings(
    slots=8, max_prompt_tokens=100, max_new_tokens=30, page_size=8, prefill_tokens=32, decode_steps=8,
    quantization="int8",
)  # fmt: skip


@pytest.fixture(scope="module")
def params() -> nnx.State:
    return jax.tree.map(lambda x: 4 * x, nnx.split(random_model(SPEC, 0))[1])


def requests(temperature: float) -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request(i, tuple(rng.integers(0, 300, rng.integers(1, 90)).tolist()), 30, n=2, temperature=temperature)
        for i in range(12)
    ]


def sample(params, wanted: list[Request], mesh=None, **changes) -> dict:
    graph, _ = nnx.split(nnx.eval_shape(lambda: random_model(SPEC, 0)))
    engine = Engine(graph, SPEC, dataclasses.replace(SETTINGS, **changes), seed=1, mesh=mesh)
    engine.load_weights(params, 3)
    for request in wanted:
        engine.submit(request)
    found = {(r.request.id, r.sample): (r.tokens, r.logprobs, r.finish) for r in engine.drain()}
    assert engine.metrics()["compilations"] == 0
    return found


def matrices(params: nnx.State) -> dict[str, Int8]:
    return {path[-1]: leaf[...] for path, leaf in nnx.to_flat_state(params) if path[-1] in OUTPUTS}


@settings(deadline=None)  # the first of each type compiles
@given(st.integers(0, 2**32 - 1), st.integers(-30, 3), st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_a_weight_is_off_by_half_a_step_at_the_most(seed, exponent, dtype):
    rng = np.random.default_rng(seed)
    w = jnp.asarray(rng.normal(0, 10.0**exponent, (2, 4, 8, 32)) * (rng.random((2, 4, 8, 32)) < 0.5), jnp.float32)
    params = nnx.State({"layers": {"q": nnx.Param(w)}})
    weight = matrices(quantized(params, jnp.dtype(dtype)))["q"]
    steps, scale = np.asarray(weight.steps, np.float64), np.asarray(weight.scale, np.float64)[..., None]
    assert weight.steps.dtype == jnp.int8 and weight.scale.dtype == dtype and np.abs(steps).max() <= 127
    # A scale of bfloat16 may have been rounded down: then the largest is cut by that much.
    most = 0.5 + (0.5 if dtype == jnp.bfloat16 else 1e-4)
    assert (np.abs(steps * scale - np.asarray(w, np.float64)) <= most * scale).all()


def test_an_output_of_zeros_stays_zero(params):
    nothing = jax.tree.map(jnp.zeros_like, params)
    for weight in matrices(quantized(nothing, jnp.dtype("float32"))).values():
        assert not weight.steps.any() and np.isfinite(np.asarray(weight.scale)).all()


def test_what_is_no_number_does_not_pass_for_zero(params):
    spoiled = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), params)
    for weight in matrices(quantized(spoiled, jnp.dtype("float32"))).values():
        assert np.isnan(np.asarray(weight.scale)).sum() == 1


def test_it_is_as_large_as_the_plan_says(params):
    programs = Programs(SPEC, SETTINGS, make_mesh(1, 1, jax.devices()[:1]))
    held = bytes_per_device(programs.weights(params))
    assert held == weight_bytes(SPEC, 4, 1) < 0.6 * weight_bytes(SPEC, 4, 4)
    assert weight_bytes(SPEC, 4, 4) == bytes_per_device(params)


def test_a_request_says_the_same_alone_and_among_others(params):
    wanted = requests(1.0)
    together = sample(params, wanted)
    for request in wanted[:4]:
        alone = sample(params, [request])
        assert alone == {key: together[key] for key in alone}


def test_eight_replicas_say_what_one_device_says_to_the_last_bit(params):
    mesh = make_mesh(8, 1)
    learner_layout = reshard(params, shardings(SPEC, mesh, LearnerRules()))
    assert sample(learner_layout, requests(1.0), mesh) == sample(params, requests(1.0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_split_over_two_devices_says_the_same_when_greedy(params, dtype):
    mesh = make_mesh(4, 2)
    learner_layout = reshard(params, shardings(SPEC, mesh, LearnerRules()))
    split, alone = (
        sample(*of, matmul_dtype=dtype) for of in ((learner_layout, requests(0.0), mesh), (params, requests(0.0)))
    )
    # float32: sums over two halves round differently, by 1e-4 at most; bfloat16 rounds words apart that are as likely.
    same = sum(split[key][0] == tokens for key, (tokens, *_) in alone.items())
    assert same == len(alone) if dtype == "float32" else same >= 0.8 * len(alone)


def test_matrices_travel_between_layouts_as_they_are(params):
    learner = make_mesh(8, 1)
    there = quantized(reshard(params, shardings(SPEC, learner, LearnerRules())), jnp.dtype("float32"))
    sampler = quantized_layout(shardings(SPEC, regrouped(learner, 2), RolloutRules()))
    moved = reshard(there, sampler, jnp.dtype("float32"))
    for one, other in zip(jax.tree.leaves(quantized(params, jnp.dtype("float32"))), jax.tree.leaves(moved)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_drafts_do_not_change_what_it_says(params):
    plain, ahead = sample(params, requests(1.0)), sample(params, requests(1.0), draft_tokens=3)
    assert {key: tokens for key, (tokens, *_) in plain.items()} == {key: tokens for key, (tokens, *_) in ahead.items()}


def test_its_words_are_nearly_as_likely_to_the_weights_themselves(params):
    """Where both say the same greedily: the log-probability of each word by both."""
    eight, whole = sample(params, requests(0.0)), sample(params, requests(0.0), quantization="none")
    gaps = [abs(a - b) for key in eight if eight[key][0] == whole[key][0] for a, b in zip(eight[key][1], whole[key][1])]
    assert len(gaps) > 100 and 0 < np.mean(gaps) < 0.05


def test_eight_bits_without_importance_weights_are_refused():
    def problems(**fields: str) -> list[str]:
        return flags.load("configs/tiny.py", {name.replace("__", "."): value for name, value in fields.items()})[1]

    (said,) = problems(rollout__quantization="int8")
    assert said.startswith("learner.importance=none: with rollout.quantization=int8") and "should be token" in said
    assert not problems(rollout__quantization="int8", learner__importance="token")
    assert not problems(rollout__quantization="int8", learner__old_logprobs="sampler")
    (said,) = problems(rollout__quantization="int4")
    assert said.startswith("rollout.quantization='int4': should be none | int8")
    with pytest.raises(ValueError, match="quantization='fp8': should be one of none, int8"):
        dataclasses.replace(SETTINGS, quantization="fp8")
