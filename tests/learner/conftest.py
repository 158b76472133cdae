"""A model of a few thousand weights, samples for it, and eight virtual devices."""

import os

# Read when the first device is asked for, which no test module does while it is imported.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.learner.packing import Sample
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer

SPEC = ModelSpec("qwen2", 64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=True, max_positions=256)


@pytest.fixture
def parted():
    """(graphdef, parameters) of a new model: new, because steps consume their state."""
    return nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))


@pytest.fixture
def eight_devices():
    if jax.device_count() < 8:
        pytest.skip("another test started the backend first; run tests/learner by itself")
    return jax.devices()[:8]


@pytest.fixture
def samples():
    return make_samples(13)


def make_samples(count: int, *, seed: int = 0, longest: int = 24) -> list[Sample]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        prompt, completion = random.integers(1, longest // 2), random.integers(1, longest // 2)
        made.append(
            Sample(
                random.integers(0, SPEC.vocab, prompt).tolist(),
                random.integers(0, SPEC.vocab, completion).tolist(),
                (-4.2 + 0.1 * random.normal(size=completion)).tolist(),
                float(random.normal()),
            )
        )
    return made
