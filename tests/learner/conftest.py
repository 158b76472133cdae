"""Fixtures: a tiny model, samples for it, and eight virtual devices."""

import os

import jax
import pytest
from flax import nnx
from tiny_learner import SPEC, make_samples

from azr_jax.models.transformer import Transformer

# Read when the first device is asked for, which no test module does while it is imported. Compiling is most of what
# these tests do, and takes half the time without LLVM's optimizations.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"


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
