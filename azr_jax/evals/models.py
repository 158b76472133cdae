"""A model to be evaluated, by folder (of weights, or of an adapter in PEFT's format), hub name, or a run's workdir;
folders and workdirs may be in a bucket.

`workdir@iteration` is one of its checkpoints, `workdir` alone the latest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import jax
from flax import nnx

from azr_jax.learner import peft_adapter
from azr_jax.learner.checkpoint import Checkpointer, CheckpointError, iterations_in
from azr_jax.learner.lora import merged
from azr_jax.models import hf
from azr_jax.models.endings import HfTokenizer
from azr_jax.models.fields import UnsupportedModel, one_line
from azr_jax.models.folder import BadFolder, open_folder, run_config, sample, started_from
from azr_jax.models.sharding import abstract_params
from azr_jax.models.source import ModelNotFound, resolve
from azr_jax.models.spec import ModelSpec
from azr_jax.models.spelling import CannotSpell, spell_out, spelled_out_in
from azr_jax.models.tensors import BadWeights
from azr_jax.models.transformer import Transformer
from azr_jax.storage.bucket import Bucket, is_bucket
from azr_jax.storage.errors import StorageError
from azr_jax.storage.reading import Reader


class NoModel(ValueError):
    """--model names nothing that can be evaluated."""


@dataclass(frozen=True)
class Found:
    """A model before its weights are read."""

    name: str  # as it was asked for
    path: str  # the same without an iteration
    folder: Path  # of the tokenizer, and of the weights unless they are a checkpoint's
    spec: ModelSpec
    tokenizer: HfTokenizer
    home: str | None = None  # of a run: the folder or gs:// address with its checkpoints
    iteration: int | None = None
    never: tuple[int, ...] = ()  # tokens that it was not trained with: not drawn, and its tokenizer spells them out
    adapter: Path | None = None  # whose corrections are added to the folder's weights

    @property
    def slug(self) -> str:
        """A name for its results: the last two parts of its own."""
        whole = Path(self.path).resolve() if Path(self.path).is_dir() else Path(self.path)
        last = "_".join(each for each in whole.parts[-2:] if each.strip("/."))
        return re.sub(r"[^\w.-]+", "_", last) + ("" if self.iteration is None else f"@{self.iteration}")

    @property
    def identity(self) -> str:
        return self.path if self.iteration is None else f"{self.path}@{self.iteration}"

    @property
    def fingerprint(self) -> str:
        """Of the weights: names, sizes and a sample of the bytes of their files; tells an export made anew."""
        mark = hashlib.sha256()
        if self.home and is_bucket(self.home):
            objects, _ = Bucket(self.home).list(f"checkpoints/{self.iteration}/")
            mark.update("".join(f"{each.name} {each.size} {each.crc32c} " for each in objects).encode())
            return mark.hexdigest()[:16]
        folder = Path(self.home) / "checkpoints" / str(self.iteration) if self.home else self.folder
        files = folder.rglob("*") if self.home else [*folder.glob("*.safetensors"), *self._adapter_files()]
        for path in sorted(files):
            if path.is_file():
                sample(mark, str(path.relative_to(folder) if path.is_relative_to(folder) else path.name), path)
        return mark.hexdigest()[:16]

    def _adapter_files(self) -> list[Path]:
        return (
            []
            if self.adapter is None
            else [self.adapter / name for name in (peft_adapter.CONFIG, peft_adapter.WEIGHTS)]
        )

    def weights(self, dtype: str) -> tuple[nnx.GraphDef, nnx.State]:
        if self.home is None:
            try:
                graphdef, params = nnx.split(hf.load(self.folder))
                if self.adapter is not None:
                    params = merged(peft_adapter.load_adapter(self.adapter, self.spec), params)
            except (BadWeights, UnsupportedModel, OSError) as error:
                raise NoModel(f"--model={self.name}: {error}") from error
        else:
            graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(self.spec, rngs=nnx.Rngs(0))))
            params = _restored(self.home, self.iteration, self.spec)
        return graphdef, jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree))(params)


def find(name: str, cache_dir: str | None = None) -> Found:
    """Raises NoModel, saying what was tried."""
    path, step = name, ""
    if "@" in name and not Path(name).is_dir():
        path, _, step = name.rpartition("@")
    path = path.rstrip("/") or path
    try:
        if "://" in path:
            with Reader(path, wanted=lambda file: file == "config.json") as read:
                if iterations_in(read.home):
                    return _of_run(name, path, read.folder, read.home, step)
            place = path if step else str(resolve(path, cache_dir=cache_dir))  # a copy of it
        elif (Path(path) / "checkpoints").is_dir():
            workdir = Path(path).resolve()
            return _of_run(name, path, workdir, str(workdir), step)
        else:
            place = path
        if step:
            raise NoModel(f"--model={name}: {path} holds no checkpoints; @<iteration> goes with the workdir of a run")
        if (Path(place) / peft_adapter.CONFIG).is_file():
            adapter = Path(place)
            model = open_folder(resolve(peft_adapter.base_of(adapter), cache_dir=cache_dir))
            peft_adapter.load_adapter(adapter, model.spec)  # small: whatever is wrong with it is told before sampling
            never = spell_out(model.tokenizer, spelled_out_in(model.path))
            return Found(name, path, model.path, model.spec, model.tokenizer, never=never, adapter=adapter)
        model = open_folder(resolve(place, cache_dir=cache_dir))
        never = spell_out(model.tokenizer, spelled_out_in(model.path))
        return Found(name, path, model.path, model.spec, model.tokenizer, never=never)
    except (ModelNotFound, BadFolder, BadWeights, UnsupportedModel, CannotSpell, StorageError, OSError) as error:
        # Of what was tried for a name there is a list; all else is one line, whatever a file's names hold.
        said = str(error) if isinstance(error, ModelNotFound) else one_line(error)
        raise NoModel(f"--model={name}: {said}") from error


def _of_run(name: str, path: str, folder: Path, home: str, step: str) -> Found:
    """A checkpoint of the run whose config.json is in `folder`."""
    model = open_folder(started_from(folder))
    iteration = _iteration(name, home, step)
    never = spell_out(model.tokenizer, run_config(folder)["model"].get("spell_out") or ())
    return Found(name, path, model.path, model.spec, model.tokenizer, home, iteration, never)


def _iteration(name: str, home: str, step: str) -> int:
    there = iterations_in(home)
    if not there:
        raise NoModel(f"--model={name}: the run has no checkpoint yet")
    if not step:
        return there[-1]
    if not step.isdecimal() or int(step) not in there:
        raise NoModel(f"--model={name}: there is no checkpoint {step}, but {', '.join(map(str, there))}")
    return int(step)


def _restored(workdir: str, iteration: int | None, spec: ModelSpec) -> nnx.State:
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
