"""Attention over the paged cache: which backend keeps the pages and looks at them. A backend is a module.

xla        any device, meant for CPUs (paged_xla.py)
gpu        any device, meant for GPUs (paged_gpu.py)
tpu        the ragged paged attention kernel that JAX ships for TPU (paged_tpu.py)
tpu_fused  a decode kernel of our own for TPU, which writes the cache too (paged_fused.py, and of eight bits
           paged_steps.py); by itself where `tpu` cannot

A backend decides how its pools lie in memory; each pool begins with layers and pages, [L, N, ...].
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.trees import PyTree
from azr_jax.rollout import paged_fused, paged_gpu, paged_steps, paged_tpu, paged_xla
from azr_jax.rollout.eight_bits import queries_and_keys
from azr_jax.rollout.requests import EngineSettings

log = logging.getLogger(__name__)

Cache = tuple[jax.Array, ...]  # of all layers; the pools of a backend
TABLE_BYTES = 512 * 2**10  # tpu: the page table lies in a core's scalar memory, 1 MiB
KERNELS = ("tpu", "tpu_fused")  # for TPU alone, in the order that `auto` asks them


class CannotAttend(ValueError):
    """The backend asked for cannot do this."""


class Paged(Protocol):
    """What a module offers; signatures as in paged_xla.py.

    `POOL` is how a pool lies on the mesh. All but `empty_cache` see one device's part of one replica.
    """

    @property
    def POOL(self) -> PartitionSpec: ...
    @property
    def empty_cache(self) -> Callable[..., Cache]: ...
    def page_size(self, cache: PyTree) -> int: ...
    def widths(self, pages_per_slot: int) -> tuple[int, ...]: ...
    def tile_of(self, head_dim: int) -> int: ...
    @property
    def write_chunk(self) -> Callable[..., Cache]: ...
    @property
    def attend_chunk(self) -> Callable[..., jax.Array]: ...
    def slot_block(self, page_size: int) -> int: ...
    def chunk_block(self, page_size: int) -> int: ...


@runtime_checkable
class WritesFirst(Paged, Protocol):
    """What is new goes into the pages of all slots, then all look."""

    @property
    def write_slots(self) -> Callable[..., Cache]: ...
    @property
    def attend_slots(self) -> Callable[..., jax.Array]: ...


@runtime_checkable
class WritesItself(Paged, Protocol):
    """Both at once."""

    @property
    def write_and_attend_slots(self) -> Callable[..., tuple[jax.Array, Cache]]: ...


Backend: TypeAlias = WritesFirst | WritesItself
BACKENDS: dict[str, Backend] = {
    "xla": paged_xla,
    "gpu": paged_gpu,
    "tpu": paged_tpu,
    "tpu_fused": paged_fused,
}


def decode_slots(
    backend: Backend, q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, table_SxM, position_S, on_S,
    guessed_S=None, window=None,
) -> tuple[jax.Array, Cache]:  # fmt: skip
    """One token of every slot that is on: its key and value go into their page, then it looks at all of them.

    `guessed_S`: of so many of the rows before, the tokens are the slot's own too (drafts.py); they are seen.
    """
    q_Sx1xHxK, k_Sx1xGxK = queries_and_keys(q_Sx1xHxK, k_Sx1xGxK, cache[0])
    new = q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK
    if isinstance(backend, WritesItself):
        return backend.write_and_attend_slots(*new, cache, layer, table_SxM, position_S, on_S, guessed_S, window)
    count, P = cache[0].shape[1], backend.page_size(cache)
    page_S = jnp.take_along_axis(table_SxM, (position_S // P)[:, None], axis=1)[:, 0]
    page_S, row_S = jnp.where(on_S, page_S, count), position_S % P  # a slot that is off writes nowhere
    cache = backend.write_slots(*new[1:], cache, layer, page_S, row_S)
    return backend.attend_slots(q_Sx1xHxK, cache, layer, table_SxM, position_S, on_S, window), cache


def choose(spec: ModelSpec, settings: EngineSettings, mesh: Mesh) -> Backend:
    """The backend that `settings.attention` names; `auto` picks by the mesh's devices, which may be absent ones.

    Of the kernels for TPU it takes the shipped one, and the other for what that refuses, where XLA copies whole pools;
    a cache of eight bits is not left to that.
    """
    if settings.attention not in ("auto", *BACKENDS):
        raise ValueError(f"attention={settings.attention!r}: should be one of auto, {', '.join(BACKENDS)}")
    by_platform = {"tpu": KERNELS, "gpu": ("gpu",), "cuda": ("gpu",)}.get(mesh.devices.flat[0].platform, ("xla",))
    names = by_platform if settings.attention == "auto" else (settings.attention,)
    reasons = {name: why_not(name, spec, settings, mesh.shape["tensor"]) for name in names}
    if name := next((name for name, reason in reasons.items() if not reason), None):
        return paged_steps if name == "tpu_fused" and settings.kv_cache_dtype == "int8" else BACKENDS[name]
    said = "; ".join(f"attention={name}: {reason}" for name, reason in reasons.items())
    if settings.attention != "auto":
        raise CannotAttend(f"{said}; should be xla, or auto")
    if settings.kv_cache_dtype == "int8":  # asked for to be fast; XLA would copy it whole
        raise CannotAttend(no_int8(reasons["tpu_fused"]))
    log.warning("attention over the cache by XLA, not by a TPU kernel: %s", said)
    return paged_xla


def no_int8(reason: str) -> str:
    """What is said where `auto` finds nobody for it."""
    return f"kv_cache_dtype=int8: on TPU {reason}; should be same, or what it takes"


def why_not(name: str, spec: ModelSpec, settings: EngineSettings, tensor: int) -> str:
    """What a backend cannot do of this on `tensor` devices a replica; empty where it can do all."""
    kv_heads, shipped, int8 = spec.kv_heads // tensor, name == "tpu", settings.kv_cache_dtype == "int8"
    if name not in KERNELS:
        return ""
    if spec.windowed:
        return "it is given no windows that differ between layers"
    if int8 and shipped:
        return "of eight bits it has one scale for all keys, not one for each; tpu_fused has"
    if int8:
        sizes = kv_heads, spec.head_dim, settings.dtype, settings.page_size
        return paged_steps.why_not(*sizes, settings.draft_tokens)
    if not shipped and (reason := paged_fused.why_not(kv_heads, spec.head_dim, settings.dtype, settings.page_size)):
        return reason
    # Heads of 128 are read from prompts by the shipped kernel in any case.
    if shipped or spec.head_dim == 128:
        return _why_not_shipped(spec, settings, kv_heads, settings.rows if shipped else 1)
    return ""


def _why_not_shipped(spec: ModelSpec, settings: EngineSettings, kv_heads: int, rows: int) -> str:
    table = 4 * max(rows, settings.prefill_pieces) * settings.pages_per_slot
    if spec.head_dim != 128:
        return f"it takes heads of 128 numbers, not {spec.head_dim}"
    if kv_heads not in (1, 2, 4) and kv_heads % 8:
        return f"it takes 1, 2, 4 or a multiple of 8 key/value heads on a device, not {kv_heads}"
    if jnp.dtype(settings.dtype) not in (jnp.bfloat16, jnp.float32):
        return f"it takes bfloat16 and float32, not {settings.dtype}"
    if table > TABLE_BYTES:
        return f"a page table of {table} bytes (slots x pages of a slot) is more than {TABLE_BYTES}: take larger pages"
    return ""
