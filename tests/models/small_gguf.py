"""A GGUF of one layer, small enough to read its numbers, of either architecture that is understood."""

from pathlib import Path

import gguf
import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, "a", "Ġ", "ĠĠ", "1", "2", "Ġa"]
QWEN_TOKENS = [
    "a",
    "Ġ",
    "ĠĠ",
    "1",
    "2",
    "Ġa",
    "Ã",
    "©",
    "Ã©",
    "'",
    "s",
    "'s",
    "-",
    "Ċ",
    *SPECIAL,
    "<tool_call>",
    "[PAD18]",
]


def small_llama(file: Path, **changed: str) -> Path:
    """Width 8, one head of 8: q and k rows hold their own row number, so a permutation can be read off."""
    writer = _writer(file, changed.get("architecture", "llama"), changed.get("pre", "smollm"))
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(TOKENS))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * 6])
    writer.add_token_merges(["Ġ Ġ", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_tensor("token_embd.weight", np.arange(len(TOKENS) * 8, dtype=np.float32).reshape(-1, 8))
    return _finished(writer, file)


def small_qwen(file: Path, *, fact: str = "", tensor: str = "", untied: bool = False) -> Path:
    """With biases, and its embedding twice: in float16 as the input's, in float32 as the output's."""
    writer = _writer(file, "qwen2", "qwen2")
    writer.add_token_list(QWEN_TOKENS)
    writer.add_token_types([*[1] * 14, 3, 3, 3, 4, 5])
    writer.add_token_merges(["Ġ Ġ", "Ġ a", "Ã ©", "' s"])
    writer.add_bos_token_id(14)
    writer.add_eos_token_id(16)
    writer.add_pad_token_id(14)
    if fact:
        writer.add_string(fact, "yarn")
    embedding = np.arange(len(QWEN_TOKENS) * 8, dtype=np.float32).reshape(-1, 8) / 3
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    writer.add_tensor("output.weight", embedding[::-1].copy() if untied else embedding)
    for name in ("q", "k", "v"):
        writer.add_tensor(f"blk.0.attn_{name}.bias", np.arange(8, dtype=np.float32))
    if tensor:
        writer.add_tensor(tensor, np.zeros(8, np.float32))
    return _finished(writer, file)


def _writer(file: Path, architecture: str, pre: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(4)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    return writer


def _finished(writer: gguf.GGUFWriter, file: Path) -> Path:
    rows_8x8 = np.repeat(np.arange(8, dtype=np.float32)[:, None], 8, axis=1)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", rows_8x8)
    writer.add_tensor("blk.0.ffn_down.weight", np.arange(32, dtype=np.float32).reshape(8, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
