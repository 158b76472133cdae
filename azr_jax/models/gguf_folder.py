"""From a GGUF file to an ordinary Hugging Face folder: config, weights in float32, tokenizer, chat template.

Only what the embedded model needs: the `llama` architecture with tied embeddings and SmolLM's byte-level tokenizer.
Anything else is refused by name, for a tokenizer that is nearly right shows nowhere and costs everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Progress = Callable[[str, float], None]  # (what is being done, share done between 0 and 1)

UNDERSTOOD = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.add_bos_token": False,
}
CONTROL = 3  # the GGUF token type of special tokens

# A GGUF name, between `blk.<layer>.` and `.weight`, and its Hugging Face counterpart.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class UnsupportedGGUF(ValueError):
    """The file is a GGUF, but not of the kind this module rebuilds exactly."""


def write_folder(gguf_file: Path, folder: Path, progress: Progress) -> None:
    """Fills an existing empty folder. Not atomic: the caller renames it when it is whole."""
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf_file))
    facts = {name: field.contents() for name, field in reader.fields.items()}
    for name, wanted in UNDERSTOOD.items():
        if facts.get(name) != wanted:
            raise UnsupportedGGUF(f"{gguf_file.name}: {name} is {facts.get(name)!r}, should be {wanted!r}")
    config = _config(facts)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ends)
    _write_tokenizer(facts, folder)
    _write_weights(reader, config, folder, progress)


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": facts["llama.vocab_size"],
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.rope.dimension_count"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": facts["llama.rope.freq_base"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # SmolLM cuts digits out first and one by one, so in "a  1" both spaces are one token. With the byte-level
    # pattern alone, which is what transformers' GGUF reader builds, the second space would go with the digit.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = facts["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
    }
    _write_json(folder / "special_tokens_map.json", roles)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
        "chat_template": facts["tokenizer.chat_template"],
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_weights(reader: Any, config: dict[str, Any], folder: Path, progress: Progress) -> None:
    from gguf import dequantize
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for number, tensor in enumerate(reader.tensors, start=1):
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            array = _halves_of_rope(array, config["head_dim"])
        tensors[their_name(tensor.name)] = np.ascontiguousarray(array)
        progress("unpacking the weights", number / len(reader.tensors))
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod((folder / "config.json").stat().st_mode)  # safetensors gives it to its owner alone


def their_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight."""
    parts = name.removesuffix(".weight").split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
    return f"{NAMES[parts[0]]}.weight"


def _halves_of_rope(array: np.ndarray, head_dim: int) -> np.ndarray:
    """GGUF interleaves the two halves that rope turns into each other; Hugging Face keeps them one after the other."""
    rows, width = array.shape
    pairs = array.reshape(rows // head_dim, head_dim // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(rows, width)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
