"""Slots are kept busy and pages follow the tokens: skewed lengths on a small model, and nothing compiles on the way."""

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import Engine, EngineSettings, Request

SPEC = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True)


@pytest.fixture(scope="module")
def engine():
    graph, params = nnx.split(random_model(SPEC, 0))
    settings = EngineSettings(
        slots=32, max_prompt_tokens=64, max_new_tokens=256, page_size=8, prefill_tokens=64, decode_steps=8
    )
    engine = Engine(graph, SPEC, settings, seed=0)
    engine.load_weights(jax.device_put(params, jax.devices()[0]), 0)  # committed, as weights of a checkpoint are
    return engine


def test_lognormal_lengths_keep_nine_slots_in_ten_busy_and_waste_little_cache(engine):
    """An eighth of the paper-like workload: median 19, 99th percentile 250, limit 256."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(19), np.log(250 / 19) / 2.326, 256), 1, 256).astype(int).tolist()
    for number, length in enumerate(lengths):
        engine.submit(Request(number, tuple(rng.integers(0, 300, 24).tolist()), length))
    done = {rollout.request.id: len(rollout.tokens) for rollout in engine.drain()}
    assert done == dict(enumerate(lengths))
    numbers = engine.metrics()
    assert numbers["occupancy_queued"] >= 0.9
    assert 1.0 <= numbers["cache_overhead"] <= 1.15
    assert numbers["compilations"] == 0


def test_prompts_of_every_length_compile_nothing_after_the_warm_up(engine):
    for number, length in enumerate(range(1, 65, 3)):
        engine.submit(Request(number, (5,) * length, 2))
    assert sum(1 for _ in engine.drain()) == 22
    assert engine.metrics()["compilations"] == 0
