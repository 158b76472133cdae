"""Eight virtual devices, set before the first device is asked for."""

import os

if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import pytest


@pytest.fixture
def eight_devices():
    if jax.device_count() < 8:
        pytest.skip("another test started the backend first; run tests/parallel by itself")
    return jax.devices()[:8]
