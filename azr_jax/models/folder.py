"""One way into a model's folder, for training, evaluation and export: every file is looked at before anything is done.

`open_folder` reads what is small (config.json, generation_config.json, the headers of the weights, the tokenizer) and
checks it against each other. What is wrong is one line: file, field, value, and what would be right. Nothing is
compiled and no weight is read but a tied embedding that is stored twice.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_jax.models import hf
from azr_jax.models.endings import stop_ids
from azr_jax.models.fields import Fields, UnsupportedModel, read_json, shown
from azr_jax.models.source import resolve
from azr_jax.models.spec import ModelSpec, load_spec
from azr_jax.models.tensors import BadWeights, find_tensors

# Files beside config.json that hold an object each; none of them has to be there.
OBJECTS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
SAMPLE = "def f(x):\n    return x + 1"  # a text that every tokenizer takes apart and puts together


class BadFolder(ValueError):
    """A model's folder is damaged, not whole, or not supported; the message is one line."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder in which everything was found right."""

    path: Path
    spec: ModelSpec
    tokenizer: Any
    stop_ids: tuple[int, ...]


def open_folder(folder: str | Path) -> ModelFolder:
    """Raises BadFolder."""
    folder = Path(folder)
    try:
        spec = load_spec(folder)
        for name in OBJECTS:
            if (folder / name).exists():
                read_json(folder / name)
        _check_suppressed(folder / "generation_config.json")
        hf.check_names(folder, find_tensors(folder), spec)
        hf.check_tokenizer(folder, spec)
        tokenizer = _tokenizer(folder, spec)
        ends = stop_ids(tokenizer, folder)
        if ends and ends[-1] >= spec.vocab:
            raise UnsupportedModel(
                f"{folder}: eos_token_id={ends[-1]}: should be below config.json's vocab_size={spec.vocab}"
            )
    except (UnsupportedModel, BadWeights) as error:
        raise BadFolder(str(error)) from error
    except OSError as error:
        raise BadFolder(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    return ModelFolder(folder, spec, tokenizer, ends)


def run_config(workdir: Path) -> dict[str, Any]:
    """The config.json that a run wrote into its folder, as far as it says which model it started from."""
    path = workdir / "config.json"
    if not path.exists():
        raise BadFolder(f"{workdir}: holds no config.json, so it is not the folder of a run")
    try:
        config = read_json(path)
        model = config.get("model")
        if not isinstance(model, dict):
            raise UnsupportedModel(f"{path}: model={shown(model)}: should be an object with the model's name")
        for field, value in (("name", model.get("name")), ("cache_dir", model.get("cache_dir") or "")):
            if not isinstance(value, str) or (field == "name" and not value):
                raise UnsupportedModel(f"{path}: model.{field}={shown(value)}: should be a string, as a run writes it")
    except UnsupportedModel as error:
        raise BadFolder(str(error)) from error
    return config


def started_from(workdir: Path) -> Path:
    """The folder of the model that a run started from. May raise ModelNotFound."""
    model = run_config(workdir)["model"]
    return resolve(model["name"], cache_dir=model.get("cache_dir") or None)


def _check_suppressed(path: Path) -> None:
    """The tokens never to be sampled, which spelling.py looks up."""
    fields = Fields(read_json(path) if path.exists() else {})
    never = fields.values.get("suppress_tokens") or []
    if not isinstance(never, list) or not all(type(token) is int for token in never):
        raise UnsupportedModel(f"{path}: {fields.refuse('suppress_tokens', 'a list of token ids')}")


def _tokenizer(folder: Path, spec: ModelSpec) -> Any:
    """The tokenizer, once it has shown that it works."""
    # It would advise to install torch, when it is imported; and a broken tokenizer is told about at length.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    doing = "cannot be read"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            doing = "cannot encode a text and decode it"
            ids = tokenizer.encode(SAMPLE)
            if not tokenizer.decode(ids):
                raise ValueError("nothing comes back")
            if tokenizer.chat_template:
                doing = "has a chat template that cannot be rendered"
                tokenizer.apply_chat_template([{"role": "user", "content": SAMPLE}], tokenize=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises whatever there is, and its Rust part panics
        raise UnsupportedModel(f"{folder}: the tokenizer {doing}: {_first_line(error)}") from None
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= spec.vocab:
        raise UnsupportedModel(
            f"{folder}: the tokenizer has a token with id {largest}: should be below config.json's "
            f"vocab_size={spec.vocab}; tokenizer and weights are not of one model"
        )
    return tokenizer


def _first_line(error: BaseException) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
