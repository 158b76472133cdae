"""The compiled programs of the engine, for one device or for a mesh: every shape is known here, and there are few.

The mesh's `fsdp` axis counts replicas: each holds all weights, its own slots and its own pages, and decodes by itself.
The `tensor` axis splits a layer inside a replica. A replica's program is the one-device program (steps.py); the only
thing replicas tell each other is when to look up. What was drawn is gathered once per call, so that every process of a
run with several sees the same and can decide the same.

`Programs(spec, settings, mesh).listing()` names every program with abstract arguments: enough to `lower()` it for a
device that is not there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from azr_jax.models.balance import balanced, key_powers
from azr_jax.models.bits import as_bits
from azr_jax.models.int8 import quantized, quantized_layout
from azr_jax.models.products import product_dtype
from azr_jax.models.sharding import RolloutRules, abstract_params, shardings
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import make_mesh, place, reshard
from azr_jax.parallel.trees import PyTree
from azr_jax.rollout import attention, steps
from azr_jax.rollout.pieces import nothing
from azr_jax.rollout.requests import STOP_IDS, EngineSettings
from azr_jax.rollout.sampling import SamplingParams
from azr_jax.rollout.slots import State

REPLICAS = PartitionSpec("fsdp")
EVERYWHERE = PartitionSpec()


class Program(NamedTuple):
    """A jitted function and what it is called with: shapes, types and layouts."""

    name: str
    run: jax.stages.Wrapped
    arguments: tuple[Any, ...]
    mesh: Mesh

    def lower(self) -> jax.stages.Lowered:
        with jax.set_mesh(self.mesh):
            return self.run.lower(*self.arguments)


@functools.cache
def programs_of(graphdef: nnx.GraphDef[Any], spec: ModelSpec, settings: EngineSettings, mesh: Mesh | None) -> Programs:
    """Engines alike share what is compiled."""
    return Programs(spec, settings, mesh, graphdef=graphdef)


class Programs:
    """`prefill`, `copy` and `decode`, called inside `jax.set_mesh(mesh)`; the cache they get is theirs to overwrite."""

    def __init__(
        self,
        spec: ModelSpec,
        settings: EngineSettings,
        mesh: Mesh | None = None,
        *,
        graphdef: nnx.GraphDef[Any] | None = None,
    ):
        self.spec, self.settings = spec, settings
        self.mesh = mesh or make_mesh(1, 1, jax.devices()[:1])
        self.replicas: int = self.mesh.shape["fsdp"]
        self.slots = settings.rows  # of one replica, like all numbers of slots and pages
        self.pages = settings.pool
        self.dtype = jnp.dtype(settings.dtype)
        self.params_dtype = product_dtype(settings.dtype, settings.matmul_dtype)
        types = steps.Types(self.dtype, self.params_dtype)
        self.backend = attention.choose(spec, settings, self.mesh)
        self.tile = settings.tile(self.backend.tile_of(spec.head_dim))
        graphdef = graphdef or nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))[0]
        per_replica, alike = REPLICAS, EVERYWHERE
        pool = PartitionSpec(None, "fsdp")
        self.quantized = settings.quantization == "int8"
        layout = shardings(spec, self.mesh, RolloutRules())
        self.params_layout = quantized_layout(layout) if self.quantized else layout
        self.prefill = self._compiled(
            partial(steps.prefill, graphdef, types, self.backend, self.tile),
            (alike, pool, per_replica),
            (pool, per_replica),
            donated=1,
            gathered=False,
        )
        self.copy = self._compiled(
            lambda cache, from_1xC, to_1xC: steps.copy_pages(self.backend, cache, from_1xC[0], to_1xC[0]),
            (pool, per_replica, per_replica),
            pool,
            donated=0,
        )
        drawn = PartitionSpec(None, "fsdp")
        static = (graphdef, types, self.backend, settings.decode_steps, settings.never)
        ahead = settings.draft_tokens
        self.decode = self._compiled(
            partial(steps.decode_ahead, *static, ahead) if ahead else partial(steps.decode, *static),
            (alike, pool, per_replica, alike, alike, alike),
            (pool, drawn, drawn, per_replica) if ahead else (pool, drawn, drawn),
            donated=1,
        )

    def _compiled(
        self, body: Callable[..., Any], in_specs: PyTree, out_specs: PyTree, *, donated: int, gathered: bool = True
    ) -> jax.stages.Wrapped:
        """One program for all replicas. All that is not the cache comes out whole on every device, where `gathered`."""
        each = jax.shard_map(
            body, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, axis_names={"fsdp"}, check_vma=False
        )

        def program(*args: object) -> PyTree:
            out = each(*args)
            if isinstance(out_specs, PartitionSpec) or not gathered:  # the cache alone, or all as it lies
                return out
            cache, *rest = out
            return cache, *jax.tree.map(lambda x: jax.reshard(x, NamedSharding(self.mesh, EVERYWHERE)), rest)

        return jax.jit(program, donate_argnums=donated)

    def key_powers(self, params: nnx.State) -> jax.Array | None:
        """By which keys in a cache of eight bits are made alike: the same as long as those in it are looked at."""
        return key_powers(params, self.spec) if self.settings.kv_cache_dtype == "int8" else None

    def weights(self, params: nnx.State, powers_LxGxK: jax.Array | None = None) -> nnx.State:
        """Weights in any layout as the programs take them: used where they are if they lie so, not copied."""
        params = balanced(params, self.spec, powers_LxGxK)
        if self.quantized:
            params = quantized(params, self.params_dtype)
        params = reshard(params, self.params_layout, self.params_dtype)
        return as_bits(params) if self._on_cpu else params

    @property
    def _on_cpu(self) -> bool:
        return self.mesh.devices.flat[0].platform == "cpu"

    @functools.cached_property
    def empty_cache(self) -> Callable[[], attention.Cache]:
        return jax.jit(self._make_cache, out_shardings=NamedSharding(self.mesh, self.backend.POOL))

    def _make_cache(self) -> attention.Cache:
        spec, pages, dtype = self.spec, self.pages * self.replicas, jnp.dtype(self.settings.pool_dtype)
        sizes = spec.depth, pages, self.settings.page_size, spec.kv_heads, spec.head_dim
        return self.backend.empty_cache(*sizes, dtype)

    def place(self, tree: PyTree, spec: PartitionSpec = REPLICAS) -> PyTree:
        """Numbers of the host on their devices."""
        return place(tree, NamedSharding(self.mesh, spec))

    def listing(self) -> list[Program]:
        """Every program that a run can need, with abstract arguments: no device memory is touched."""

        def array(shape: tuple[int, ...], dtype: DTypeLike, spec: PartitionSpec = REPLICAS) -> PyTree:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(self.mesh, spec))

        params = abstract_params(self.spec, self.params_dtype)
        if self.quantized:
            params = jax.eval_shape(partial(quantized, dtype=self.params_dtype), params)
        params = jax.tree.map(
            lambda leaf, layout: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout),
            params,
            self.params_layout,
        )
        if self._on_cpu:
            params = jax.eval_shape(as_bits, params)
        pools = jax.eval_shape(self._make_cache)
        cache = tuple(array(pool.shape, pool.dtype, self.backend.POOL) for pool in pools)
        R, S, M = self.replicas, self.replicas * self.slots, self.settings.pages_per_slot
        pages_RxS = array((R, self.slots), jnp.int32)
        calls = [
            jax.tree.map(lambda x: array(x.shape, x.dtype), nothing(R, rows, self.settings.prefill_pieces, M))
            for rows in self.settings.prefill_shapes
        ]
        words: PyTree = array((S,), jnp.int32)
        reals: PyTree = array((S,), jnp.float32)
        state = State(
            token=words, position=words, generated=words, remaining=words, active=array((S,), jnp.bool_),
            iteration=array((S,), jnp.uint32), request=array((S,), jnp.uint32), sample=array((S,), jnp.uint32),
            params=SamplingParams(reals, words, reals, reals),
            stop_ids=array((S, STOP_IDS), jnp.int32), table=array((S, M), jnp.int32),
            limited=array((S,), jnp.bool_) if self.settings.limits else None,
            capacity=words if self.settings.draft_tokens else None,
            history=array((S, self.settings.longest), jnp.int32) if self.settings.draft_tokens else None,
        )  # fmt: skip
        key = jax.eval_shape(lambda: jax.random.key(0))
        key = array(key.shape, key.dtype, EVERYWHERE)
        refill_threshold = array((), jnp.int32, EVERYWHERE)
        dropped = array((self.spec.vocab,), jnp.bool_, EVERYWHERE) if self.settings.limits else None
        return [
            *(
                Program(f"prefill of {call.token.shape[1]} tokens", self.prefill, (params, cache, call), self.mesh)
                for call in calls
            ),
            Program("copy", self.copy, (cache, pages_RxS, pages_RxS), self.mesh),
            Program("decode", self.decode, (params, cache, state, key, refill_threshold, dropped), self.mesh),
        ]
