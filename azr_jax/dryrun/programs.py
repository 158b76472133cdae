"""Every program a run compiles, with abstract arguments on a named slice: nothing is allocated, no weight is read.

A `Job` says what its program should cost by arithmetic, to hold against what the compiler made of it: products of
matrices (`wanted_flops`), and the bytes that must be read at the least (`floor_bytes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.config.schema import Config
from azr_jax.learner.lora import join
from azr_jax.learner.packing import Batch
from azr_jax.learner.step import TrainState, init_state, step_program
from azr_jax.models.int8 import is_quantized, matrix_bytes, quantized_layout, quantized_shapes
from azr_jax.models.products import product_dtype
from azr_jax.models.sharding import LearnerRules, RolloutRules, abstract_params, shardings
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import bytes_per_device, mover, row_axes, sharing_a_copy, targets
from azr_jax.rollout import decode_kernel, paged_steps, paged_tpu
from azr_jax.rollout.programs import Programs
from azr_jax.rollout.requests import EngineSettings
from azr_jax.run.memory_plan import page_bytes, with_pages
from azr_jax.run.settings import engine_settings, learner_settings, row_tokens

GIB = 2**30


@dataclass(frozen=True)
class Job:
    """A program to compile. Figures are per chip; `beside`: bytes on the chip meanwhile that are not its own."""

    name: str
    lower: Callable[[], jax.stages.Lowered]
    wanted_flops: float = 0.0
    model_flops: float = 0.0
    floor_bytes: float = 0.0
    unknown_trips: tuple[int, ...] = ()
    kernel_reads: Mapping[str, float] = field(default_factory=dict)  # of the cache, by one call of a kernel
    beside: float = 0.0
    cache_bytes: float = 0.0  # of the cache it is compiled with
    spared: tuple[str, ...] = ()  # files whose conditionals take the branch that does least, as this recipe runs them


@dataclass(frozen=True)
class Shape:
    """Sizes of a run on a slice that several programs share."""

    spec: ModelSpec
    row_tokens: int
    rows: int  # of a microbatch, over all chips
    microbatches: int
    sequences: int  # trained on in one iteration, at most

    @property
    def unembedding(self) -> int:
        return self.spec.vocab * self.spec.width


def shape_of(c: Config, spec: ModelSpec, mesh: Mesh, sequences: int = 0) -> Shape:
    rows = c.learner.microbatch or mesh.size // mesh.shape["tensor"]
    sequences = sequences or len(c.tasks.kinds) * c.batch_size * (1 + c.tasks.train_proposer)
    minibatch = math.ceil(sequences / c.learner.minibatches)
    microbatches = 1 << (math.ceil(minibatch / rows) - 1).bit_length()
    return Shape(spec, row_tokens(c, "tpu"), rows, microbatches, sequences)


def abstract_state(c: Config, spec: ModelSpec, mesh: Mesh) -> TrainState:
    """The learner's state on the slice: weights, moments and counters."""
    layout = shardings(spec, mesh, LearnerRules())
    params = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract_params(spec), layout
    )
    with jax.set_mesh(mesh):
        state = jax.eval_shape(lambda params: init_state(params, learner_settings(c)), params)
    return jax.tree.map(partial(_on, mesh), state)


def _on(mesh: Mesh, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The abstract array, on the mesh's own devices."""
    layout = leaf.sharding.spec if getattr(leaf, "sharding", None) is not None else P()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, layout))


def train_job(c: Config, shape: Shape, mesh: Mesh) -> Job:
    """One optimizer step on the longest rows."""
    state = abstract_state(c, shape.spec, mesh)
    place = NamedSharding(mesh, P(None, row_axes(mesh), None))
    sizes = (shape.microbatches, shape.rows, shape.row_tokens)
    whole, real = (jax.ShapeDtypeStruct(sizes, kind, sharding=place) for kind in (jnp.int32, jnp.float32))
    batch = Batch(*(cast("jax.Array", part) for part in [whole] * 8 + [real] * 2))
    if c.rollout.propose_vocab_dropout:
        limited = jax.ShapeDtypeStruct(sizes, jnp.bool_, sharding=place)
        words = (shape.microbatches, shape.spec.vocab)
        dropped = jax.ShapeDtypeStruct(words, jnp.bool_, sharding=NamedSharding(mesh, P()))
        batch = replace(batch, limited=limited, dropped=dropped)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(shape.spec, rngs=nnx.Rngs(0))))
    settings = learner_settings(c)
    if settings.oldest:
        batch = replace(batch, ages=whole)

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return step_program(graphdef, settings).lower(state, batch)

    s, tokens = shape.spec, math.prod(sizes) / mesh.size
    down = s.depth * s.width * s.mlp
    again = {"full": 2 * (shape.spec.layer_matrices - down), "dots": 0, "none": 0}[settings.remat]
    wanted = tokens * (6 * shape.spec.layer_matrices + again + 6 * shape.unembedding)
    causal = 2 * shape.row_tokens * s.heads * s.head_dim * s.depth  # of a token, forward: scores and sums
    model = tokens * (6 * (shape.spec.layer_matrices + shape.unembedding) + 3 * causal)
    return Job(f"train step, {shape.microbatches} x {shape.rows} rows", lower, wanted, model)


def other_jobs(c: Config, shape: Shape, learner: Mesh, rollout: Mesh) -> list[Job]:
    """Weights as they start, and learner -> sampler. Left out: what makes eight bits of matrices, one by one."""
    state = abstract_state(c, shape.spec, learner)

    def init() -> jax.stages.Lowered:
        layout = jax.tree.map(lambda leaf: leaf.sharding, state.params)
        make = lambda: nnx.state(Transformer(shape.spec, rngs=nnx.Rngs(0)))  # noqa: E731
        return jax.jit(make, out_shardings=layout).lower()

    params, beside = _handed_over(c, state)
    to = shardings(shape.spec, rollout, RolloutRules())
    to = quantized_layout(to) if c.rollout.quantization == "int8" else to

    def reshard() -> jax.stages.Lowered:
        leaves = jax.tree.leaves(params)
        program, names, mesh = mover(leaves, targets(leaves, to, learner_settings(c).rounded_to))
        leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=name) for leaf, name in zip(leaves, names)]
        with nullcontext() if mesh is None else jax.set_mesh(mesh):
            return program.lower(leaves)

    return [
        Job("initial weights", init),
        Job("learner -> sampler", reshard, beside=beside),
    ]


def _handed_over(c: Config, state: TrainState) -> tuple[nnx.State, float]:
    """The weights that go to the sampler, and the bytes that lie beside them meanwhile."""
    dtype, held, int8 = learner_settings(c).rounded_to, bytes_per_device(state), c.rollout.quantization == "int8"
    if isinstance(state.params, nnx.State):
        params = join(state.params, state.base)
        stay = {path: leaf for path, leaf in nnx.to_flat_state(params) if not (int8 and is_quantized(path))}
        held -= bytes_per_device(stay)  # the learner's own go as they are
    else:  # corrections: merged, the weights are other arrays, lying as those that are corrected
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding), state.base)
        held += bytes_per_device(params) * int8
    return quantized_shapes(params, dtype) if int8 else params, held


def sampler_settings(
    c: Config, spec: ModelSpec, learner: Mesh, mesh: Mesh, memory: float, slots: int
) -> EngineSettings:
    """What a run on the slice would give its engine; `memory`: bytes of a chip."""
    held = bytes_per_device(abstract_state(c, spec, learner))
    sizes = mesh.shape["tensor"], memory, held, sharing_a_copy(learner)
    return with_pages(engine_settings(c, slots), spec, *sizes)


def engine_jobs_of(c: Config, settings: EngineSettings, shape: Shape, learner: Mesh, mesh: Mesh) -> list[Job]:
    """The engine's programs; the learner's state lies on the chips meanwhile."""
    beside = bytes_per_device(abstract_state(c, shape.spec, learner))
    tensor, s = mesh.shape["tensor"], shape.spec
    weights = (shape.spec.layer_matrices + shape.unembedding) / tensor
    itemsize = product_dtype(settings.dtype, settings.matmul_dtype).itemsize
    read = (matrix_bytes(settings.quantization, itemsize) * s.layer_matrices + itemsize * shape.unembedding) / tensor
    a_page = page_bytes(settings, s, tensor)
    cached, cache_bytes = a_page * settings.longest / settings.page_size, a_page * settings.pool
    cuts = c.rollout.top_k > 0 or c.rollout.top_p < 1
    spared = () if cuts else ("rollout/sampling.py",)  # what is likeliest need not be looked for
    programs, jobs = Programs(s, settings, mesh), []
    for program in programs.listing():
        wanted, floor, passes, block = 0.0, 0.0, 0, 1
        if program.name == "decode":
            wanted = 2.0 * settings.decode_steps * settings.rows * weights
            floor = settings.decode_steps * (read + settings.rows * cached)
            passes, block = settings.rows, programs.backend.slot_block(settings.page_size)
        elif program.name.startswith("prefill"):
            tokens = int(program.name.split()[2])
            wanted = 2.0 * tokens * (weights - shape.unembedding / tensor)
            passes = math.ceil(tokens / paged_tpu.chunk_tokens(tokens, s.heads // tensor))
            passes += math.ceil(tokens / settings.chunk) - 1  # a pass ends where a piece does; pieces of a chunk each
            block = programs.backend.chunk_block(settings.page_size)
        block = min(block, settings.pages_per_slot * settings.page_size)
        blocks = math.ceil(settings.longest / block)
        # A kernel reads whole blocks of the cache of one layer, once per pass.
        a_call = passes * blocks * block * cached / settings.longest / s.depth
        if program.name == "decode" and programs.backend is paged_steps:
            a_call += settings.rows * paged_steps.sent_back(settings.page_size, s.kv_heads // tensor, s.head_dim)
        reads = {paged_tpu.KERNEL: a_call, decode_kernel.NAME: a_call}
        moved = floor, (blocks,), reads
        jobs.append(Job(program.name, program.lower, wanted, wanted, *moved, beside, cache_bytes, spared))
    return jobs
