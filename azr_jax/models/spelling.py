"""Added tokens that a model never learned, written with the tokens that it did learn.

A base model's tokenizer may know a word such as <think> as one token whose embedding was never trained: Qwen3's bases
do. A prompt that holds it means nothing to the model. Spelled out, `<think>` is `<`, `think`, `>`, as where there is no
such token; and the token itself is never sampled, so that no text has two spellings. The model's folder stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from azr_jax.models.endings import HfTokenizer
from azr_jax.models.fields import read_json

NOBODY_WRITES = "\U0010fffd"  # a character without a meaning, the last of Unicode


def spelled_out_in(folder: Path) -> tuple[str, ...]:
    """The words that an export's generation_config.json says are never to be generated."""
    settings, tokens = (folder / name for name in ("generation_config.json", "tokenizer.json"))
    if not settings.exists() or not tokens.exists():
        return ()
    never = read_json(settings).get("suppress_tokens") or ()
    added = read_json(tokens).get("added_tokens") or ()
    return tuple(token["content"] for token in added if token["id"] in never)


class CannotSpell(ValueError):
    """The tokenizer has no such added token, or needs it."""


def spell_out(tokenizer: HfTokenizer, words: Sequence[str]) -> tuple[int, ...]:
    """From now on `tokenizer` writes these added tokens out. Gives their ids, which are never to be sampled.

    Each keeps its place under a name that nobody writes: removed, it would shift the numbers of those behind it.
    """
    if not words:
        return ()
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["content"]: token for token in content["added_tokens"]}
    ids = []
    for word in words:
        if word not in added:
            raise CannotSpell(f"{word}: is no added token of this model; its added tokens are {', '.join(added)}")
        if added[word]["id"] == tokenizer.eos_token_id or added[word]["id"] == tokenizer.pad_token_id:
            raise CannotSpell(f"{word}: ends texts or pads them, and is needed for that")
        ids.append(added[word]["id"])
        added[word]["content"] = f"{NOBODY_WRITES}{added[word]['id']}{NOBODY_WRITES}"
    vocabulary = content["model"]["vocab"]
    for word, token in zip(words, ids, strict=True):
        if isinstance(vocabulary, dict) and vocabulary.pop(word, None) is not None:  # some hold added tokens there too
            vocabulary[added[word]["content"]] = token
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    for word, token in zip(words, ids, strict=True):
        if token in tokenizer.encode(word, add_special_tokens=False):
            raise CannotSpell(f"{word}: this tokenizer cannot write it with other tokens")
    return tuple(ids)
