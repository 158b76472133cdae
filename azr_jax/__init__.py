"""azr_jax: the Absolute Zero Reasoner on JAX, Flax, Optax and Orbax."""
