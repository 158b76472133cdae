"""A GGUF becomes a Hugging Face folder exactly, and what is not understood is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_gguf import QWEN_TOKENS, small_llama, small_qwen
from tokenizers import Tokenizer

from azr_jax.models.gguf_folder import UnsupportedGGUF, their_name, write_folder
from azr_jax.selfplay.prompting import stop_ids


def silent(what: str, share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    write_folder(small_llama(tmp_path / "small.gguf"), tmp_path, silent)
    return tmp_path


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    write_folder(small_qwen(tmp_path / "small.gguf"), tmp_path, silent)
    return tmp_path


def rows(folder: Path, name: str) -> list[float]:
    return load_file(folder / "model.safetensors")[f"model.layers.0.self_attn.{name}.weight"][:, 0].tolist()


def test_rope_halves_are_put_back_one_after_the_other(llama: Path) -> None:
    """GGUF's rows 0..7 of a head of 8 are the pairs (0, 4), (1, 5), (2, 6), (3, 7): even rows are the first half."""
    for name in ("q_proj", "k_proj"):
        assert rows(llama, name) == [0, 2, 4, 6, 1, 3, 5, 7]
    for name in ("v_proj", "o_proj"):
        assert rows(llama, name) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_qwens_rows_stay_as_they_are_and_its_biases_come_along(qwen: Path) -> None:
    """GGUF turns the rows of `llama` only: turned, the model would still write English, and badly."""
    tensors = load_file(qwen / "model.safetensors")
    for name in ("q_proj", "k_proj", "v_proj"):
        assert rows(qwen, name) == [0, 1, 2, 3, 4, 5, 6, 7]
        assert tensors[f"model.layers.0.self_attn.{name}.bias"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_shapes_are_out_by_in(llama: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    assert tensors["model.layers.0.mlp.down_proj.weight"].shape == (8, 4)
    assert tensors["model.embed_tokens.weight"][1].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def test_of_two_roundings_of_the_embedding_the_finer_serves_both_ends(qwen: Path) -> None:
    """10/3 is exact to 24 bits in output.weight, to 11 in token_embd.weight (3.334)."""
    tensors = load_file(qwen / "model.safetensors")
    assert tensors["model.embed_tokens.weight"][1, 2] == np.float32(10) / np.float32(3)
    assert "lm_head.weight" not in tensors
    assert json.loads((qwen / "config.json").read_text())["tie_word_embeddings"] is True


def test_names() -> None:
    assert their_name("blk.12.ffn_gate.weight") == "model.layers.12.mlp.gate_proj.weight"
    assert their_name("blk.3.attn_q.bias") == "model.layers.3.self_attn.q_proj.bias"
    assert their_name("output_norm.weight") == "model.norm.weight"


def test_smollm_cuts_digits_out_before_words(llama: Path) -> None:
    """'a  12': two spaces are one token. Cut the GPT-2 way first, the second space would stand with the digits."""
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    assert tokenizer.encode("a  12 a<|im_end|>").tokens == ["a", "ĠĠ", "1", "2", "Ġa", "<|im_end|>"]


def test_qwen_cuts_its_own_way(qwen: Path) -> None:
    """NFC first; of several spaces the last stays alone before a digit; letters take one other character along."""
    tokenizer = Tokenizer.from_file(str(qwen / "tokenizer.json"))
    assert tokenizer.encode("e\u0301").tokens == ["Ã©"]
    assert tokenizer.encode("a  12").tokens == ["a", "Ġ", "Ġ", "1", "2"]
    assert tokenizer.encode("a's").tokens == ["a", "'s"]
    assert tokenizer.encode("1-a").tokens == ["1", "-", "a"]


def test_added_tokens_are_whole_and_padding_is_no_token(qwen: Path) -> None:
    tokenizer = Tokenizer.from_file(str(qwen / "tokenizer.json"))
    assert tokenizer.encode("a<tool_call><|im_end|>").ids == [0, 17, 16]
    assert tokenizer.decode([0, 17, 16]) == "a<tool_call>"  # control tokens are left out, user-defined ones are text
    assert tokenizer.get_vocab_size() == len(QWEN_TOKENS) - 1
    assert json.loads((qwen / "config.json").read_text())["vocab_size"] == len(QWEN_TOKENS)


def test_qwen_ends_at_the_end_of_a_turn_and_of_a_text(qwen: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    assert stop_ids(PreTrainedTokenizerFast.from_pretrained(qwen), qwen) == (14, 16)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "qwen3"}, "general.architecture is 'qwen3', should be 'llama' or 'qwen2'"),
        ({"architecture": "qwen2"}, "tokenizer.ggml.pre is 'smollm', should be 'qwen2'"),
        ({"pre": "gpt-2"}, "tokenizer.ggml.pre is 'gpt-2', should be 'smollm'"),
    ],
)
def test_another_kind_of_gguf_is_refused_by_name(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    with pytest.raises(UnsupportedGGUF, match=said):
        write_folder(small_llama(tmp_path / "other.gguf", **changed), tmp_path, silent)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fact": "qwen2.rope.scaling.type"}, "other.gguf: qwen2.rope.scaling.type='yarn' is not understood"),
        ({"tensor": "blk.0.attn_q_norm.weight"}, "the tensor blk.0.attn_q_norm.weight is not understood"),
        ({"untied": True}, "output.weight is another matrix than token_embd.weight"),
    ],
)
def test_what_would_change_the_numbers_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    """A stretched rope, norms of heads, an unembedding of its own: left out in silence, the model would be another."""
    with pytest.raises(UnsupportedGGUF, match=said):
        write_folder(small_qwen(tmp_path / "other.gguf", **changed), tmp_path, silent)


DAMAGE = {
    "empty": (lambda data: b"", "cannot mmap"),
    "cut": (lambda data: data[:500], "is damaged"),
    "cut in the numbers": (lambda data: data[:-40], "cannot reshape"),
    "a web page": (lambda data: b"<html>sorry</html>" * 9, "GGUF magic invalid"),
    "a text of 2**63 bytes": (lambda data: data[:24] + (2**63).to_bytes(8, "little") + data[32:], "is damaged"),
    "two tensors of one name": (lambda data: data.replace(b"attn_q.weight", b"attn_k.weight"), "duplicated tensor"),
    "a fact less": (lambda data: data.replace(b"qwen2.block_count", b"other.block_count"), "'qwen2.block_count'"),
    "no chat template": (lambda data: data.replace(b"chat_template", b"chat_temporal"), "'tokenizer.chat_template'"),
    "a tensor of no block": (lambda data: data.replace(b"blk.0.attn_q.", b"blk_0_attn_q_"), "is damaged"),
    "no embedding": (
        lambda data: data.replace(b"token_embd", b"taken_embd").replace(b"output.w", b"autput.w"),
        "empty",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_gguf_is_one_line_with_its_name(what: str, tmp_path: Path) -> None:
    """Whatever gguf, numpy and tokenizers say of it."""
    file = small_qwen(tmp_path / "other.gguf")
    damage, said = DAMAGE[what]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UnsupportedGGUF, match=rf"^other\.gguf: .*{said}") as caught:
        write_folder(file, tmp_path, silent)
    assert str(caught.value).isprintable()
