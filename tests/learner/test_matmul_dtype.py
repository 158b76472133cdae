"""Products in bfloat16 and all else in float32: near the float32 gradient, and the sampler does the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_learner import SPEC, make_samples

from azr_jax.learner.lora import Trained
from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, make_score, make_step
from azr_jax.models.products import product
from azr_jax.rollout.engine import Engine, EngineSettings, Request

MIXED = {"dtype": "float32", "matmul_dtype": "bfloat16"}


def gradient(parted, **options):
    graphdef, params = parted
    settings = LearnerSettings(**options)
    fresh = jax.tree.map(lambda leaf: leaf.copy(), params)
    state, metrics = make_step(graphdef, settings)(init_state(fresh, settings), pack(make_samples(9), 48))
    return jax.device_get(state.optimizer[0].mu), jax.device_get(metrics)


def off(one, other) -> float:
    """The length of the difference over the length of the other."""
    pairs = list(zip(*(jax.tree.leaves(tree) for tree in (one, other)), strict=True))
    apart = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return (apart / sum(float(np.square(b).sum()) for _, b in pairs)) ** 0.5


def test_the_gradient_is_nearer_to_float32_than_that_of_a_wholly_smaller_type(parted):
    exact, metrics = gradient(parted)
    mixed, others = gradient(parted, **MIXED)
    small, _ = gradient(parted, dtype="bfloat16")
    assert 0 < off(mixed, exact) < min(0.01, 0.8 * off(small, exact))
    assert others["loss"] == pytest.approx(metrics["loss"], abs=1e-3)


def test_corrections_and_frozen_weights_take_it_too(parted):
    for trained in (Trained(rank=4), Trained(freeze=("embed", "layers.q"))):
        exact, _ = gradient(parted, trained=trained)
        mixed, _ = gradient(parted, trained=trained, **MIXED)
        assert 0 < off(mixed, exact) < 0.02


@pytest.mark.parametrize("formula", ["btd,hkd->bthk", "btd,fd->btf", "bthk,dhk->btd"])
def test_both_gradients_of_a_product_by_hand(formula):
    """Of numbers that bfloat16 holds exactly: then nothing but the order of sums may differ."""
    left, right, out = formula.replace("->", ",").split(",")
    sizes, random = {"b": 2, "t": 3, "d": 4, "h": 2, "k": 5, "f": 6}, np.random.default_rng(0)

    def whole(axes):
        return jnp.asarray(random.integers(-4, 5, [sizes[axis] for axis in axes]), jnp.float32)

    x, w, d_out = whole(left), whole(right), whole(out)
    y, back = jax.vjp(lambda x, w: product(formula, None, None, x, w), x, w.astype(jnp.bfloat16))
    d_x, d_w = back(d_out)
    assert (y.dtype, d_x.dtype, d_w.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    np.testing.assert_array_equal(y, jnp.einsum(formula, x, w))
    np.testing.assert_array_equal(d_x, jnp.einsum(f"{out},{right}->{left}", d_out, w))
    np.testing.assert_array_equal(d_w.astype(jnp.float32), jnp.einsum(f"{out},{left}->{right}", d_out, x))


def test_sampler_and_learner_agree_to_the_rounding_of_float32(parted):
    """Not to that of bfloat16: both round the same numbers at the same places."""
    graphdef, params = parted
    sizes = {"slots": 4, "max_prompt_tokens": 12, "max_new_tokens": 12, "page_size": 4}
    engine = Engine(graphdef, SPEC, EngineSettings(**sizes, **MIXED), seed=0)
    engine.load_weights(params, 1)
    assert {leaf.dtype.itemsize for leaf in jax.tree.leaves(engine._params)} == {2}  # some as their bits
    for number in range(6):
        engine.submit(Request(number, tuple(range(1 + number, 8 + 2 * number)), max_new_tokens=12))
    made = [TrainingSample(r.request.prompt, r.tokens, r.sampler_logprobs, 1.0) for r in engine.drain()]
    batch = pack(made, 48)
    scored = make_score(graphdef, LearnerSettings(**MIXED))(params, None, batch)
    real = batch.lengths > 0
    np.testing.assert_allclose(np.asarray(scored)[real], batch.sampler_logprobs[real], atol=2e-3)
