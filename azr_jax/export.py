"""A run's weights as a Hugging Face folder, on any machine, whatever mesh they were trained on.

    python -m azr_jax.export --workdir=runs/first --out=first-hf
    python -m azr_jax.export --workdir=runs/first --out=first-hf --iteration=200 --dtype=bfloat16 --overwrite
    python -m azr_jax.export --workdir=runs/lora --out=first-lora --adapter

Reads <workdir>/config.json for the model the run started from, whose tokenizer, templates and configuration are copied
and whose types are kept unless --dtype says otherwise, and the latest checkpoint (or that of --iteration).

Of the other files one may change: generation_config.json names every token that ends a text and, where the run stopped
its sampling at the end of an answer (rollout.stop_at_answer), the string that it stopped at (transformers then wants
`generate(..., tokenizer=...)`), and the tokens that it never drew (model.spell_out).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
from absl import app, flags
from flax import nnx

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError, iterations_in
from azr_jax.learner.peft_adapter import CONFIG as ADAPTER_CONFIG
from azr_jax.learner.peft_adapter import save_adapter
from azr_jax.models.endings import HfTokenizer, stop_ids
from azr_jax.models.fields import read_json
from azr_jax.models.folder import BadFolder, open_folder, run_config, started_from
from azr_jax.models.hf import check_free, save
from azr_jax.models.sharding import LearnerRules, abstract_params, shardings
from azr_jax.models.source import ModelNotFound, is_ours
from azr_jax.models.spelling import CannotSpell, spell_out
from azr_jax.models.tensors import BadWeights
from azr_jax.models.transformer import Transformer
from azr_jax.monitor.console import quiet_libraries
from azr_jax.parallel.mesh import make_mesh
from azr_jax.storage import folders
from azr_jax.storage.errors import StorageError
from azr_jax.storage.reading import Reader
from azr_jax.tasks.prompts import answer_stop

WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder or gs:// address, with config.json and checkpoints.", required=True
)
OUT = flags.DEFINE_string("out", None, "The folder to make, here or at a gs:// address.", required=True)
ITERATION = flags.DEFINE_integer("iteration", None, "Which checkpoint; the latest when not given.")
DTYPE = flags.DEFINE_enum("dtype", None, ["float32", "bfloat16", "float16"], "Type; the source's when not given.")
SOURCE = flags.DEFINE_string("source", None, "The original model's folder, where the run's own is not on this machine.")
ADAPTER = flags.DEFINE_bool("adapter", False, "Of a run with learner.lora.rank: the corrections alone, for PEFT.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a model folder that stands at --out.")
JSON = flags.DEFINE_bool("json", False, "End with one line of JSON.")


class CannotExport(ValueError):
    """The run's folder or the flags are not what an export needs."""


def export(
    workdir: Path,
    out: Path,
    *,
    home: str | None = None,
    source: Path | None = None,
    iteration: int | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    adapter: bool = False,
) -> Path:
    """The checkpoint's weights, laid out over the devices of this machine, written as a folder.

    `home` is where the checkpoints are, where that is not the folder. With `adapter` only what a LoRA run trained, in
    PEFT's format; otherwise it is merged into the weights.
    """
    if adapter and dtype is not None:
        raise CannotExport(f"--dtype={dtype}: an adapter is float32, as it was trained; leave it out with --adapter")
    check_free(out, overwrite, mark=ADAPTER_CONFIG if adapter else "config.json")
    config = run_config(workdir)
    start = open_folder(source or started_from(workdir))
    source, spec = start.path, start.spec
    never = spell_out(start.tokenizer, config["model"].get("spell_out") or ())
    texts = generation_config(source, start.tokenizer, _stop_strings(config), never)
    if not iterations_in(home or workdir):
        raise CannotExport(f"--workdir={home or workdir}: holds no checkpoints")
    checkpointer = Checkpointer(home or workdir)
    try:
        if adapter:
            corrections = checkpointer.restore_corrections(iteration)
            named = config["model"]["name"]
            base = str(source) if is_ours(named) else named  # PEFT should find it
            return save_adapter(corrections, spec, out, base=base, overwrite=overwrite)
        params = checkpointer.restore_params(like=_targets(spec), iteration=iteration)
    finally:
        checkpointer.close()
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))
    model = nnx.merge(graphdef, params)
    return save(model, out, source=source, dtype=dtype, overwrite=overwrite, texts=texts)


def generation_config(
    folder: Path, tokenizer: HfTokenizer, stop_strings: Sequence[str] = (), never: Sequence[int] = ()
) -> dict[str, str]:
    """generation_config.json with what ends a text, by its name; nothing where the folder's own says so already."""
    path = folder / "generation_config.json"
    known = read_json(path) if path.exists() else {}
    named = known.get("eos_token_id")
    ends = stop_ids(tokenizer, folder)
    wanted = dict(known)
    if set(ends) != set(named if isinstance(named, list) else [named]):
        wanted["eos_token_id"] = list(ends)
    if not path.exists():  # transformers would take these from config.json as long as there is no such file
        others = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
        wanted |= {name: token for name, token in others.items() if token is not None}
    if stop_strings:
        wanted["stop_strings"] = list(stop_strings)
    if never:
        wanted["suppress_tokens"] = sorted({*never, *(known.get("suppress_tokens") or ())})
    return {} if wanted == known else {path.name: json.dumps(wanted, indent=2) + "\n"}


def _stop_strings(config: dict[str, Any]) -> tuple[str, ...]:
    if not (config.get("rollout") or {}).get("stop_at_answer"):
        return ()
    try:
        return answer_stop((config.get("tasks") or {}).get("prompt_style", ""))
    except (ValueError, TypeError) as error:
        raise CannotExport(f"config.json of the run: {error}") from None


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
    quiet_libraries()
    try:
        with Reader(WORKDIR.value, wanted=lambda name: name == "config.json") as read:
            if "://" in OUT.value:
                size = _into_bucket(OUT.value, read)
            else:
                out = _from_flags(read, Path(OUT.value))
                size = sum(file.stat().st_size for file in out.iterdir())
    except StorageError as error:
        print(f"--workdir={error}", file=sys.stderr)
        sys.exit(2)
    except (CannotExport, CannotSpell, CheckpointError, ModelNotFound, BadFolder, BadWeights, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{OUT.value}: {size / 1e9:.2f} GB")
    if JSON.value:
        print(json.dumps({"out": OUT.value, "bytes": size}))


def _from_flags(read: Reader, out: Path) -> Path:
    try:
        return export(
            read.folder,
            out,
            home=read.home,
            source=Path(SOURCE.value) if SOURCE.value else None,
            iteration=ITERATION.value,
            dtype=DTYPE.value,
            overwrite=OVERWRITE.value,
            adapter=ADAPTER.value,
        )
    except BadFolder as error:  # of a bucket there is a copy here, whose name says nothing to anybody
        raise BadFolder(str(error).replace(str(read.folder), read.home)) from error


def _into_bucket(url: str, read: Reader) -> int:
    """Made below TMPDIR, and sent."""
    mark = ADAPTER_CONFIG if ADAPTER.value else "config.json"
    try:
        bucket = folders.check_free(url, mark, OVERWRITE.value)
    except StorageError as error:
        raise CannotExport(f"--out={error}") from error
    with TemporaryDirectory() as place:
        out = _from_flags(read, Path(place) / "out")
        try:
            return folders.send(out, bucket, mark)
        except StorageError as error:
            raise CannotExport(f"--out={error}") from error


if __name__ == "__main__":
    app.run(main)
