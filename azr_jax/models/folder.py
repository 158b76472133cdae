"""One way into a model's folder, for training, evaluation and export: every file is looked at before anything is done.

`open_folder` reads what is small (config.json, generation_config.json, the headers of the weights, the tokenizer) and
checks it against each other. What is wrong is one line: file, field, value, and what would be right. Nothing is
compiled and no weight is read but a tied embedding that is stored twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_jax.models import hf
from azr_jax.models.endings import HfTokenizer, stop_ids
from azr_jax.models.fields import Fields, UnsupportedModel, one_line, read_json, read_text, shown
from azr_jax.models.source import resolve
from azr_jax.models.spec import ModelSpec, load_spec
from azr_jax.models.tensors import BadWeights, Tensor, WeightFile, find_tensors

# Files beside config.json that hold an object each; none of them has to be there.
OBJECTS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
NUMBERED = ("added_tokens.json", "vocab.json")  # tokens and their numbers
TEXTS = ("chat_template.jinja", "merges.txt")
# What generation_config.json may say besides the tokens of an end (endings.py): another program stumbles over the rest.
DTYPES = ("float32", "float16", "bfloat16", "float64", "auto", None)
NUMBERS = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "length_penalty")
COUNTS = ("max_length", "max_new_tokens", "min_length", "num_beams", "bos_token_id", "pad_token_id")
FLAGS = ("do_sample", "use_cache")
# And tokenizer_config.json, whose reader looks at these late or not at all.
TOKENIZER_FLAGS = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "clean_up_tokenization_spaces",
    "legacy",
    "split_special_tokens",
)
SAMPLE = "def f(x):\n    return x + 1"  # a text that every tokenizer takes apart and puts together


class BadFolder(ValueError):
    """A model's folder is damaged, not whole, or not supported; the message is one line."""

    def __init__(self, message: object):
        super().__init__(one_line(message))


@dataclass(frozen=True)
class ModelFolder:
    """A folder in which everything was found right."""

    path: Path
    spec: ModelSpec
    tokenizer: HfTokenizer
    stop_ids: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    readers: tuple[int, ...] = (0,)  # the processes that can read the weights


def open_folder(
    folder: str | Path,
    *,
    elsewhere: Mapping[str, WeightFile] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> ModelFolder:
    """Raises BadFolder. `elsewhere`: the weight files where they are not in the folder; `tensors`: those that another
    process has found and looked through.
    """
    folder = Path(folder)
    try:
        spec = load_spec(folder)
        # Links too that lead nowhere, as in a cache whose files are gone: what they said would be passed over.
        for name in filter(lambda name: os.path.lexists(folder / name), (*OBJECTS, *TEXTS)):
            read_json(folder / name) if name in OBJECTS else read_text(folder / name)
        _check_config(folder / "config.json")
        _check_generation(folder / "generation_config.json", spec)
        _check_tokenizer_config(folder / "tokenizer_config.json")
        for name in NUMBERED:
            _check_numbered(folder / name)
        if tensors is None:
            tensors = find_tensors(folder, elsewhere)
            hf.check_names(folder, tensors, spec)
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
    return ModelFolder(folder, spec, tokenizer, ends, tensors)


SMALL_BYTES = 64 * 2**20  # of a file that a fingerprint reads whole


def sample(mark: hashlib._Hash, name: str, path: Path) -> None:
    """Adds a file to a fingerprint: its name, its size and its bytes; of a large one, some of every megabyte."""
    size = path.stat().st_size
    mark.update(f"{name} {size}".encode())
    with path.open("rb") as file:
        for start in range(0, size, 2**20):  # training may have changed a few matrices alone
            file.seek(start)
            mark.update(file.read(2**20 if size <= SMALL_BYTES else 4_096))


def run_config(workdir: Path) -> dict[str, Any]:
    """The config.json that a run wrote into its folder, as far as it says which model it started from, and how that was
    asked.
    """
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
        Fields(model, "model").texts("spell_out")
        Fields(config).table("rollout")
        Fields(config).table("tasks")
    except UnsupportedModel as error:
        raise BadFolder(str(error)) from error
    return config


def started_from(workdir: Path) -> Path:
    """The folder of the model that a run started from. May raise ModelNotFound."""
    model = run_config(workdir)["model"]
    return resolve(model["name"], cache_dir=model.get("cache_dir") or None)


def _check_config(path: Path) -> None:
    """What spec.py has no use for, and an export copies."""
    fields = Fields(read_json(path))
    try:
        for name in ("bos_token_id", "pad_token_id"):
            if type(fields.values.get(name)) not in (int, type(None)):
                raise fields.refuse(name, "a token's number, or null")
        for name in ("dtype", "torch_dtype"):
            fields.one_of(name, DTYPES)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def _check_numbered(path: Path) -> None:
    for token, number in (read_json(path) if path.exists() else {}).items():
        if type(number) is not int or number < 0:
            raise UnsupportedModel(f"{path}: {shown(token)}={shown(number)}: should be a token's number")


def _check_generation(path: Path, spec: ModelSpec) -> None:
    """Whatever of it is used, here or by whoever gets an export, and the tokens never to be sampled (spelling.py)."""
    values = read_json(path) if path.exists() else {}
    fields = Fields(values)
    try:
        never = values.get("suppress_tokens")
        if never is not None and not (isinstance(never, list) and all(type(token) is int for token in never)):
            raise fields.refuse("suppress_tokens", "a list of token ids")
        if any(not 0 <= token < spec.vocab for token in never or ()):
            raise fields.refuse("suppress_tokens", f"tokens below config.json's vocab_size={spec.vocab}")
        for name in (*NUMBERS, *COUNTS, *FLAGS):
            value = values.get(name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            right, words = {
                name in NUMBERS: (number, "a number"),
                name in COUNTS: (type(value) is int, "a whole number"),
                name in FLAGS: (isinstance(value, bool), "true or false"),
            }[True]
            if value is not None and not right:
                raise fields.refuse(name, f"{words}, or absent")
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def _check_tokenizer_config(path: Path) -> None:
    values = read_json(path) if path.exists() else {}
    fields = Fields(values)
    try:
        template = values.get("chat_template")
        named = isinstance(template, list) and template and all(_is_template(each) for each in template)
        if template is not None and not isinstance(template, str) and not named:
            raise fields.refuse("chat_template", "a text, or a list of {name: ..., template: ...}")
        if values.get("model_max_length") is not None:
            fields.number("model_max_length")
        if not isinstance(values.get("tokenizer_class") or "", str):
            raise fields.refuse("tokenizer_class", "a name")
        fields.table("auto_map")
        for name in TOKENIZER_FLAGS:
            if values.get(name) is not None:
                fields.flag(name, False)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def _is_template(each: object) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(name), str) for name in ("name", "template"))


def _tokenizer(folder: Path, spec: ModelSpec) -> HfTokenizer:
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
        if type(error).__name__.startswith("StrictDataclass"):  # it looks at the model's fields on its way
            raise UnsupportedModel(f"{folder / 'config.json'}: {_in_words(error)}") from None
        raise UnsupportedModel(f"{folder}: the tokenizer {doing}: {_in_words(error)}") from None
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= spec.vocab:
        raise UnsupportedModel(
            f"{folder}: the tokenizer has a token with id {largest}: should be below config.json's "
            f"vocab_size={spec.vocab}; tokenizer and weights are not of one model"
        )
    return tokenizer


def _in_words(error: BaseException) -> str:
    said = one_line(error)  # all of it: the first line may only say that the next one says what is wrong
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
