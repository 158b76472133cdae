"""A Hugging Face folder of random weights with a byte-level tokenizer: for tests and dry runs, not for learning.

write_random_folder(PRESETS["tiny"], folder)      # what the model name `random:tiny` stands for
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from azr_jax.models.hf import save
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec

ENDS = ("<|end|>", "<|pad|>")


def write_random_folder(spec: ModelSpec, folder: Path, seed: int = 0) -> Path:
    """The same weights for the same spec and seed. An existing folder is kept. Of several processes any may call it."""
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = save(random_model(spec, seed), Path(work) / "made", alone=True)
        path = made / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 256, "pad_token_id": 257}, indent=2))
        _write_tokenizer(made)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / "config.json").exists():  # else another process was first, with the same weights
                raise
    return folder


def _write_tokenizer(folder: Path) -> None:
    """One token per byte, and two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ENDS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ENDS[0], "pad_token": ENDS[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
