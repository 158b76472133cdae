"""A model to be evaluated, by folder, hub name, or `workdir@iteration` of a run (`workdir` alone: its latest)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError
from azr_jax.models import hf
from azr_jax.models.source import ModelNotFound, resolve
from azr_jax.models.spec import ModelSpec, UnsupportedModel, load_spec
from azr_jax.models.tensors import BadWeights
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import abstract_params


class NoModel(ValueError):
    """--model names nothing that can be evaluated."""


@dataclass(frozen=True)
class Found:
    """A model before its weights are read."""

    name: str
    folder: Path  # of the tokenizer, and of the weights unless they are a checkpoint's
    spec: ModelSpec
    workdir: Path | None = None
    iteration: int | None = None

    @property
    def slug(self) -> str:
        """A name for its results."""
        last = Path(self.name.partition("@")[0].rstrip("/")).name
        return re.sub(r"[^\w.-]+", "_", last) + (f"@{self.iteration}" if self.iteration is not None else "")

    def weights(self, dtype: str) -> tuple[nnx.GraphDef, Any]:
        if self.workdir is None:
            graphdef, params = nnx.split(hf.load(self.folder))
        else:
            graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(self.spec, rngs=nnx.Rngs(0))))
            params = _restored(self.workdir, self.iteration, self.spec)
        return graphdef, jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree))(params)


def find(name: str, cache_dir: str | None = None) -> Found:
    """Raises NoModel, saying what was tried."""
    path, _, step = name.partition("@")
    try:
        if (Path(path) / "checkpoints").is_dir():
            workdir = Path(path).resolve()
            model = json.loads((workdir / "config.json").read_text())["model"]
            folder = resolve(model["name"], cache_dir=model.get("cache_dir") or cache_dir)
            return Found(name, folder, load_spec(folder), workdir, _iteration(name, workdir, step))
        if step:
            raise NoModel(f"--model={name}: {path} holds no checkpoints; @<iteration> goes with the workdir of a run")
        folder = resolve(name, cache_dir=cache_dir)
        return Found(name, folder, load_spec(folder))
    except (ModelNotFound, UnsupportedModel, BadWeights, OSError, KeyError) as error:
        raise NoModel(f"--model={name}: {error}") from error


def _iteration(name: str, workdir: Path, step: str) -> int:
    there = sorted(int(each.name) for each in (workdir / "checkpoints").iterdir() if each.name.isdigit())
    if not there:
        raise NoModel(f"--model={name}: the run has no checkpoint yet")
    if not step:
        return there[-1]
    if not step.isdigit() or int(step) not in there:
        raise NoModel(f"--model={name}: there is no checkpoint {step}, but {', '.join(map(str, there))}")
    return int(step)


def _restored(workdir: Path, iteration: int | None, spec: ModelSpec) -> Any:
    checkpointer = Checkpointer(workdir)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract_params(spec)
    )
    try:
        return checkpointer.restore_params(like=like, iteration=iteration)
    except CheckpointError as error:
        raise NoModel(f"--model={workdir}@{iteration}: {error}") from error
    finally:
        checkpointer.close()
