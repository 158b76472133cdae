"""A run's weights as a Hugging Face folder, on any machine, whatever mesh they were trained on.

    python -m azr_jax.export --workdir=runs/first --out=first-hf
    python -m azr_jax.export --workdir=runs/first --out=first-hf --iteration=200 --dtype=bfloat16 --overwrite

Reads <workdir>/config.json for the model the run started from, whose tokenizer, templates and configuration are copied
and whose types are kept unless --dtype says otherwise, and the latest checkpoint (or that of --iteration).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
from absl import app, flags
from flax import nnx

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError
from azr_jax.models.hf import check_free, save
from azr_jax.models.source import ModelNotFound, resolve
from azr_jax.models.spec import UnsupportedModel, load_spec
from azr_jax.models.tensors import BadWeights
from azr_jax.models.transformer import Transformer
from azr_jax.parallel.mesh import LearnerRules, abstract_params, make_mesh, shardings

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder, with config.json and checkpoints.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder to make.", required=True)
ITERATION = flags.DEFINE_integer("iteration", None, "Which checkpoint; the latest when not given.")
DTYPE = flags.DEFINE_enum("dtype", None, ["float32", "bfloat16", "float16"], "Type; the source's when not given.")
SOURCE = flags.DEFINE_string("source", None, "The original model's folder, where the run's own is not on this machine.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a model folder that stands at --out.")
JSON = flags.DEFINE_bool("json", False, "End with one line of JSON.")


class CannotExport(ValueError):
    """The run's folder or the flags are not what an export needs."""


def export(
    workdir: Path,
    out: Path,
    *,
    source: Path | None = None,
    iteration: int | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """The checkpoint's weights, laid out over the devices of this machine, written as a folder."""
    check_free(out, overwrite)
    source = source or _source(workdir)
    spec = load_spec(source)
    if not (workdir / "checkpoints").is_dir():
        raise CannotExport(f"--workdir={workdir}: holds no checkpoints")
    checkpointer = Checkpointer(workdir)
    try:
        params = checkpointer.restore_params(like=_targets(spec), iteration=iteration)
    finally:
        checkpointer.close()
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))
    return save(nnx.merge(graphdef, params), out, source=source, dtype=dtype, overwrite=overwrite)


def _source(workdir: Path) -> Path:
    path = workdir / "config.json"
    if not path.exists():
        raise CannotExport(f"--workdir={workdir}: holds no config.json, so it is not the folder of a run")
    try:
        model = json.loads(path.read_text())["model"]
        return resolve(model["name"], cache_dir=model.get("cache_dir") or None)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotExport(f"{path}: does not say model.name: {error!r}") from None


def _targets(spec):
    """Shapes, and as many of this machine's devices as divide the model."""
    for count in range(jax.device_count(), 0, -1):
        mesh = make_mesh(count, 1, jax.devices()[:count])
        try:
            layout = shardings(spec, mesh, LearnerRules())
        except ValueError:
            continue
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_params(spec),
            layout,
        )
    raise AssertionError("one device divides everything")


def main(argv: list[str]) -> None:
    """Flags to `export`; what is wrong with them is one line and exit code 2."""
    if len(argv) > 1:
        sys.exit(f"{argv[1]}: not understood; flags look like --workdir=...")
    try:
        out = export(
            Path(WORKDIR.value),
            Path(OUT.value),
            source=Path(SOURCE.value) if SOURCE.value else None,
            iteration=ITERATION.value,
            dtype=DTYPE.value,
            overwrite=OVERWRITE.value,
        )
    except (CannotExport, CheckpointError, ModelNotFound, UnsupportedModel, BadWeights, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size / 1e9:.2f} GB")
    if JSON.value:
        print(json.dumps({"out": str(out), "bytes": size}))


if __name__ == "__main__":
    app.run(main)
