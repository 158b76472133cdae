"""azr_jax: the Absolute Zero Reasoner on JAX, Flax, Optax and Orbax."""

__version__ = "0.1.0"
