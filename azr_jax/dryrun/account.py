"""The account of one recipe on one slice: lays it out, compiles each program, and tries knobs where it is too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from azr_jax.config.flags import replaced
from azr_jax.config.schema import Config
from azr_jax.dryrun import topology as slices
from azr_jax.dryrun.measure import DoesNotFit, Measured, measure
from azr_jax.dryrun.programs import Job, Shape, engine_jobs_of, other_jobs, sampler_settings, shape_of, train_job
from azr_jax.dryrun.report import Account
from azr_jax.dryrun.shapes import spec_of
from azr_jax.models.slice_layout import Layout, tensor_sizes
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel import flags
from azr_jax.parallel.mesh import make_mesh, regrouped
from azr_jax.rollout.requests import EngineSettings
from azr_jax.run.memory_plan import lay_out, page_bytes

GIB = 2**30


def take(
    c: Config, recipe: str, topology: slices.Topology, only: str, sequences: int, say: Callable[[str], None]
) -> tuple[Account, dict[str, str]]:
    """The account, and each program's compiled text."""
    spec = spec_of(c.model.name, c.model.cache_dir or None)
    layout = plan(c, spec, topology)
    c = for_tpu(c, spec)
    jobs, shape, settings = _jobs(c, spec, topology, layout, only, sequences)
    account = Account(
        recipe=recipe,
        topology=topology,
        layout=layout,
        shape=shape,
        measured=[],
        settings=settings,
        page_bytes=page_bytes(settings, spec, layout.rollout_tensor),
        only=only,
        sampled=len(c.tasks.kinds) * c.batch_size * (2 + c.tasks.estimate_attempts),
    )
    options, texts = flags.of_chip(topology.name.split(":")[0]), {}
    for job in jobs:
        say(f"compiling {job.name}")
        try:
            measured = measure(job, options)
        except DoesNotFit as error:
            account.too_large[job.name] = error.wanted_gib
            continue
        account.measured.append(measured)
        texts[job.name] = measured.text
    too_much = [m.job.name for m in account.measured if m.with_neighbours_gib > topology.chip.memory_gib]
    if any(name.startswith("train") for name in [*account.too_large, *too_much]):
        account.tried = list(_knobs(c, spec, topology, sequences, options, say))
    return account, texts


def for_tpu(c: Config, spec: ModelSpec) -> Config:
    """The config with what `auto` means on a TPU written out: the compiler's target is not this machine."""
    if c.model.attention == "auto":
        return replaced(c, "model.attention", "xla" if spec.windowed else "splash")
    return c


def plan(c: Config, spec: ModelSpec, topology: slices.Topology) -> Layout:
    return lay_out(c, spec, topology.chips, topology.chip.memory_gib * GIB, topology.chip, topology.slices)


def _jobs(
    c: Config, spec: ModelSpec, topology: slices.Topology, layout: Layout, only: str, sequences: int
) -> tuple[list[Job], Shape, EngineSettings]:
    devices = slices.devices(topology)
    learner = make_mesh(layout.fsdp, layout.tensor, devices, data=layout.data)
    rollout = regrouped(learner, layout.rollout_tensor)
    shape = shape_of(c, spec, learner, sequences)
    settings = sampler_settings(c, spec, learner, rollout, topology.chip.memory_gib * GIB, layout.slots)
    jobs: list[Job] = []
    if only != "engine":
        train = train_job(c, shape, learner)
        if settings.kv_cache == "keep":  # of completions under way
            cache = page_bytes(settings, spec, layout.rollout_tensor) * settings.pool
            train = replace(train, beside=train.beside + cache)
        jobs.append(train)
    if only == "all":
        jobs += other_jobs(c, shape, learner, rollout)
    if only != "train":
        jobs += engine_jobs_of(c, settings, shape, learner, rollout)
    return jobs, shape, settings


def _knobs(
    c: Config,
    spec: ModelSpec,
    topology: slices.Topology,
    sequences: int,
    options: dict[str, str],
    say: Callable[[str], None],
):
    """(knob, what came of it), each tried by itself on the train step."""
    knobs: list[tuple[str, Any]] = []
    if c.pipeline.ahead and c.pipeline.kv_cache == "keep":
        knobs.append(("pipeline.kv_cache", "recompute"))
    if c.model.remat != "full":
        knobs.append(("model.remat", "full"))
    knobs += [("learner.optimizer", name) for name in ("adamw_bf16", "adamw_factored") if name != c.learner.optimizer]
    if plan(c, spec, topology).data > topology.slices:
        knobs.append(("mesh.data", topology.slices))
    knobs += [("mesh.tensor", n) for n in tensor_sizes(spec, topology.chips) if n > c.mesh.tensor][:1]
    if c.learner.microbatch > topology.chips:
        knobs.append(("learner.microbatch", topology.chips))
    for field, value in knobs:
        say(f"trying {field}={value}")
        other = replaced(c, field, value)
        try:
            job = _jobs(other, spec, topology, plan(other, spec, topology), "train", sequences)[0][0]
            yield f"{field}={value}", _told(measure(job, options), topology)
        except DoesNotFit as error:
            yield f"{field}={value}", f"wants {error.wanted_gib:.2f} GiB: still too much"


def _told(m: Measured, topology: slices.Topology) -> str:
    fits = "fits" if m.with_neighbours_gib <= topology.chip.memory_gib else "still too much"
    return f"{m.with_neighbours_gib:.2f} GiB, ratio {m.flops_ratio:.3f}: {fits}"
