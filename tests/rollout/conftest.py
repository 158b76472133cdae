"""Eight virtual CPU devices for the tests of the mesh, asked for before JAX looks."""

import os

FLAGS = "--xla_force_host_platform_device_count=8"
if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
