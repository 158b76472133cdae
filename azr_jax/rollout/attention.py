"""Attention over the paged cache: which backend keeps the pages and looks at them. A backend is a module.

xla     any device, meant for CPUs (paged_xla.py)
gpu     any device, meant for GPUs (paged_gpu.py)
tpu     the ragged paged attention kernel that JAX ships for TPU (paged_tpu.py)

A backend decides how its pools lie in memory; each pool begins with layers and pages, [L, N, ...].
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.trees import PyTree
from azr_jax.rollout import paged_gpu, paged_tpu, paged_xla
from azr_jax.rollout.requests import EngineSettings

log = logging.getLogger(__name__)

Cache = tuple[jax.Array, ...]  # of all layers; the pools of a backend
TABLE_BYTES = 512 * 2**10  # tpu: the page table lies in a core's scalar memory, 1 MiB


class CannotAttend(ValueError):
    """The backend asked for cannot do this."""


class Backend(Protocol):
    """What a module offers; signatures as in paged_xla.py.

    `POOL` is how a pool lies on the mesh. All but `empty_cache` see one device's part of one replica.
    """

    @property
    def POOL(self) -> PartitionSpec: ...
    @property
    def empty_cache(self) -> Callable[..., Cache]: ...
    def page_size(self, cache: PyTree) -> int: ...
    def widths(self, pages_per_slot: int) -> tuple[int, ...]: ...
    def tile_of(self, chunk: int) -> int: ...
    @property
    def write_slots(self) -> Callable[..., Cache]: ...
    @property
    def write_chunk(self) -> Callable[..., Cache]: ...
    @property
    def attend_slots(self) -> Callable[..., jax.Array]: ...
    @property
    def attend_chunk(self) -> Callable[..., jax.Array]: ...
    def slot_block(self, page_size: int) -> int: ...
    def chunk_block(self, page_size: int) -> int: ...


BACKENDS: dict[str, Backend] = {"xla": paged_xla, "gpu": paged_gpu, "tpu": paged_tpu}


def choose(spec: ModelSpec, settings: EngineSettings, mesh: Mesh) -> Backend:
    """The backend that `settings.attention` names; `auto` picks by the mesh's devices, which may be absent ones."""
    if settings.attention not in ("auto", *BACKENDS):
        raise ValueError(f"attention={settings.attention!r}: should be one of auto, {', '.join(BACKENDS)}")
    by_platform = {"tpu": "tpu", "gpu": "gpu", "cuda": "gpu"}.get(mesh.devices.flat[0].platform, "xla")
    name = by_platform if settings.attention == "auto" else settings.attention
    if name != "tpu":
        return BACKENDS[name]
    if reason := why_not_tpu(spec, settings, mesh.shape["tensor"]):
        if settings.attention == "tpu":
            raise CannotAttend(f"attention=tpu: {reason}; should be xla, or auto")
        log.warning("attention over the cache by XLA, not by the TPU kernel: %s", reason)
        return paged_xla
    return paged_tpu


def why_not_tpu(spec: ModelSpec, settings: EngineSettings, tensor: int) -> str:
    """What the kernel cannot do of this on `tensor` devices a replica; empty where it can do all."""
    kv_heads = spec.kv_heads // tensor
    table = 4 * max(settings.rows, settings.prefill_pieces) * settings.pages_per_slot
    if spec.windowed:
        return "it is given no windows that differ between layers"
    if spec.head_dim != 128:
        return f"it takes heads of 128 numbers, not {spec.head_dim}"
    if kv_heads not in (1, 2, 4) and kv_heads % 8:
        return f"it takes 1, 2, 4 or a multiple of 8 key/value heads on a device, not {kv_heads}"
    if jnp.dtype(settings.dtype) not in (jnp.bfloat16, jnp.float32):
        return f"it takes bfloat16 and float32, not {settings.dtype}"
    if table > TABLE_BYTES:
        return f"a page table of {table} bytes (slots x pages of a slot) is more than {TABLE_BYTES}: take larger pages"
    return ""
