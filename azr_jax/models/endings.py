"""The tokens that end a text: the tokenizer's, and those that the model's folder names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from azr_jax.models.fields import Fields, UnsupportedModel, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STOP_IDS = 8  # of one request, at most: what a slot of the engine has room for


class HfTokenizer(Protocol):
    """What is asked of a tokenizer of transformers."""

    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None
    chat_template: object
    backend_tokenizer: Tokenizer
    _tokenizer: Tokenizer

    @property
    def all_special_ids(self) -> Sequence[int]: ...
    def __len__(self) -> int: ...
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...
    def batch_decode(self, sequences: Sequence[Sequence[int]]) -> list[str]: ...
    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def save_pretrained(self, save_directory: Path) -> object: ...


def stop_ids(tokenizer: HfTokenizer, folder: Path) -> tuple[int, ...]:
    """Every token a text ends with: the tokenizer's, and those of generation_config.json.

    Where that file is absent config.json's count, which is what transformers makes of it.
    """
    ids = set[int]() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        if (folder / name).exists():
            try:
                ids |= _named(Fields(read_json(folder / name)))
            except UnsupportedModel as error:
                raise UnsupportedModel(f"{folder / name}: {error}") from None
            break
    if len(ids) > STOP_IDS:
        raise UnsupportedModel(
            f"{folder / name}: eos_token_id and the tokenizer name {len(ids)} tokens that end a text: "
            f"should be at most {STOP_IDS}"
        )
    return tuple(sorted(ids))


def _named(fields: Fields) -> set[int]:
    value = fields.values.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in ids):
        raise fields.refuse("eos_token_id", "a token's number, or a list of such")
    return set(ids)
