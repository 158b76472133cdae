"""Where a run lies on its devices, and how large the sampler's cache may be. The dry run asks the same for a slice.

The cache gets what the learner's state and the sampler's weights leave of a device's memory, but for a share that is
spared for what programs need while they run; it never gets more than all slots can fill.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from azr_jax.config.schema import Config
from azr_jax.models.int8 import matrix_bytes, weight_bytes
from azr_jax.models.products import product_dtype
from azr_jax.models.sampling_time import Demand, token_bytes
from azr_jax.models.slice_layout import SPARED, Layout, choose
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.chips import Chip
from azr_jax.rollout.requests import EngineSettings

# The compilers of JAX 0.10 gather all of the unembedding once in a call of the sampler; later ones never do.
GATHERS_UNEMBEDDING = jax.__version__.startswith("0.10.")
MOMENT_BYTES = {"adamw": 8.0, "adamw_bf16": 6.0, "adamw_factored": 2.0}  # of the optimizer, per parameter


def demand(c: Config) -> Demand:
    """What an iteration asks of the sampler at the most: each proposal is tried, each solution drawn."""
    proposals = len(c.tasks.kinds) * c.batch_size
    tried = proposals * c.tasks.estimate_attempts
    prompt, longest = c.rollout.max_prompt_tokens, c.rollout.max_new_tokens
    in_matrices, in_cache = matrix_bytes(c.rollout.quantization, 2), 1 if c.rollout.kv_cache_dtype == "int8" else 2
    return Demand(2 * proposals + tried, proposals + tried, prompt, longest, in_matrices, in_cache)


def lay_out(
    c: Config, spec: ModelSpec, devices: int, memory: float | None, chip: Chip | None, slices: int = 1
) -> Layout:
    """`memory`: bytes of one device, or None where it does not say. Raises ImpossibleLayout."""
    return choose(
        spec,
        devices,
        memory,
        chip=chip,
        demand=demand(c),
        slots=c.rollout.slots,
        slices=slices,
        # Several rows on a device need the room that more copies would take.
        data=c.mesh.data or (slices if c.learner.microbatch > devices // c.mesh.tensor else 0),
        fsdp=c.mesh.fsdp,
        tensor=c.mesh.tensor,
        rollout_tensor=c.mesh.rollout_tensor,
        state_bytes=4 + MOMENT_BYTES[c.learner.optimizer],
    )


def page_bytes(settings: EngineSettings, spec: ModelSpec, tensor: int) -> float:
    """Of one page of the cache, on one of the `tensor` devices of a replica."""
    return token_bytes(spec, jnp.dtype(settings.pool_dtype).itemsize) * settings.page_size / tensor


def with_pages(
    settings: EngineSettings, spec: ModelSpec, tensor: int, memory: float | None, held: float, devices: int = 1
) -> EngineSettings:
    """The settings with a cache that fits beside `held` bytes of a device, unless they say how large it is.

    A cache that is kept while weights change has to fit beside the gradient, too, float32 over so many `devices`.
    """
    if settings.pages or memory is None:
        return settings
    itemsize = product_dtype(settings.dtype, settings.matmul_dtype).itemsize
    weights = weight_bytes(spec, itemsize, matrix_bytes(settings.quantization, itemsize)) / tensor
    beside = weights + (spec.vocab * spec.width * itemsize if tensor > 1 and GATHERS_UNEMBEDDING else 0)
    if settings.kv_cache == "keep":
        beside = max(beside, 4 * spec.parameters() / devices)
    left = int((memory * (1 - SPARED) - held - beside) // page_bytes(settings, spec, tensor))
    least = settings.pages_per_slot + 1  # one completion at its longest, and what it copies from
    return replace(settings, pages=max(least, min(settings.pool, left)))
