"""From a GGUF file to an ordinary Hugging Face folder: config, weights in float32, tokenizer, chat template.

Only what the embedded models need: `llama` with SmolLM's tokenizer and `qwen2` with its own, both with tied embeddings.
Anything else is refused by name, for a tokenizer that is nearly right shows nowhere and costs everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from azr_jax.models.fields import one_line

if TYPE_CHECKING:
    from gguf import GGUFReader
    from gguf.gguf_reader import ReaderTensor
    from tokenizers.pre_tokenizers import Sequence as PreTokenizers

Progress = Callable[[str, float], None]  # (what is being done, share done between 0 and 1)


@dataclass(frozen=True)
class GgufModel:
    """What is understood of one GGUF architecture, and what Hugging Face calls it."""

    architecture: str
    tokenizer: str  # the GGUF's name of the pre-tokenizer
    permuted: bool  # q and k rows interleave the halves that rope turns into each other
    facts: tuple[str, ...]  # all that may be said under the architecture's own name


SIZES = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base",
)  # fmt: skip
KNOWN = {
    "llama": GgufModel("LlamaForCausalLM", "smollm", True, (*SIZES, "vocab_size", "rope.dimension_count")),
    "qwen2": GgufModel("Qwen2ForCausalLM", "qwen2", False, SIZES),
}
SAME_FOR_ALL = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.add_bos_token": False}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # GGUF token types: special tokens, added ones that are text, padding
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

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
EMBEDDING, UNEMBEDDING = "token_embd.weight", "output.weight"
SAME_MATRIX = 0.2  # relative distance of two roundings of one matrix (5 and 8 bits: 0.044); of two matrices: above 1


class UnsupportedGGUF(ValueError):
    """The file is a GGUF, but not of the kind this module rebuilds exactly."""


def write_folder(gguf_file: Path, folder: Path, progress: Progress) -> None:
    """Fills an existing empty folder. Not atomic: the caller renames it when it is whole."""
    try:
        _write(gguf_file, folder, progress)
    except (OSError, SafetensorError, MemoryError, ImportError):  # of the machine
        raise
    except UnsupportedGGUF as error:
        raise UnsupportedGGUF(f"{gguf_file.name}: {error}") from None
    except Exception as error:  # of a damaged file gguf, numpy and tokenizers raise whatever there is
        said = one_line(f"{type(error).__name__}: {error}")[:300]
        raise UnsupportedGGUF(f"{gguf_file.name}: is damaged, or not of this kind: {said}") from error


def _write(gguf_file: Path, folder: Path, progress: Progress) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf_file))
    facts = {name: field.contents() for name, field in reader.fields.items()}
    known = _understood(facts)
    embedding = _embedding(reader)
    config = _config(facts, known)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if ends["pad_token_id"] != ends["eos_token_id"]:  # Qwen pads with <|endoftext|>, with which its base models end
        ends["eos_token_id"] = [ends["eos_token_id"], ends["pad_token_id"]]
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ends)
    _write_tokenizer(facts, known, folder)
    _write_weights(reader, embedding, config, known, folder, progress)


def _understood(facts: dict[str, Any]) -> GgufModel:
    """Which of KNOWN it is, all else refused: an unknown fact may change the numbers."""
    name = facts.get("general.architecture")
    if name not in KNOWN:
        raise UnsupportedGGUF(f"general.architecture is {name!r}, should be {' or '.join(map(repr, KNOWN))}")
    for fact, wanted in {**SAME_FOR_ALL, "tokenizer.ggml.pre": KNOWN[name].tokenizer}.items():
        if facts.get(fact) != wanted:
            raise UnsupportedGGUF(f"{fact} is {facts.get(fact)!r}, should be {wanted!r}")
    for fact in facts:
        if fact.startswith(f"{name}.") and fact.removeprefix(f"{name}.") not in KNOWN[name].facts:
            raise UnsupportedGGUF(f"{fact}={facts[fact]!r} is not understood")
    return KNOWN[name]


def _config(facts: dict[str, Any], known: GgufModel) -> dict[str, Any]:
    name = facts["general.architecture"]
    width, heads = facts[f"{name}.embedding_length"], facts[f"{name}.attention.head_count"]
    return {
        "architectures": [known.architecture],
        "model_type": name,
        "vocab_size": facts.get(f"{name}.vocab_size", len(facts["tokenizer.ggml.tokens"])),
        "hidden_size": width,
        "intermediate_size": facts[f"{name}.feed_forward_length"],
        "num_hidden_layers": facts[f"{name}.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": facts[f"{name}.attention.head_count_kv"],
        "head_dim": facts.get(f"{name}.rope.dimension_count", width // heads),
        "max_position_embeddings": facts[f"{name}.context_length"],
        "rms_norm_eps": facts[f"{name}.attention.layer_norm_rms_epsilon"],
        "rope_theta": facts[f"{name}.rope.freq_base"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def _write_tokenizer(facts: dict[str, Any], known: GgufModel, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    # Rows of the embedding beyond the last token are called [PAD...] in the file; as text they are nothing special.
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != UNUSED}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    if known.tokenizer == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(known.tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens([AddedToken(token, normalized=False, special=kind == CONTROL)])
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    given = {role: facts.get(f"tokenizer.ggml.{name}_token_id") for role, name in ids.items()}
    roles = {f"{role}_token": tokens[number] for role, number in given.items() if number is not None}
    _write_json(folder / "special_tokens_map.json", roles)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts[f"{facts['general.architecture']}.context_length"],
        "chat_template": facts["tokenizer.chat_template"],
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _pre_tokenizer(kind: str) -> PreTokenizers:
    from tokenizers import Regex, pre_tokenizers

    if kind == "qwen2":
        words = pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated")
        return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    # SmolLM cuts digits out first and one by one, so in "a  1" both spaces are one token. With the byte-level
    # pattern alone, which is what transformers' GGUF reader builds, the second space would go with the digit.
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _embedding(reader: GGUFReader) -> np.ndarray:
    """The one matrix of both ends. A file may hold it twice, rounded differently: the finer one, if it is the same."""
    from gguf import GGML_QUANT_SIZES, dequantize

    found = [tensor for tensor in reader.tensors if tensor.name in (EMBEDDING, UNEMBEDDING)]

    def bytes_per_number(tensor: ReaderTensor) -> float:
        numbers, size = GGML_QUANT_SIZES[tensor.tensor_type]
        return size / numbers

    finest = max(found, key=bytes_per_number)
    array = np.asarray(dequantize(finest.data, finest.tensor_type), np.float32)
    for other in found:
        if other is finest:
            continue
        coarse = np.asarray(dequantize(other.data, other.tensor_type), np.float32)
        if array.shape != coarse.shape or np.linalg.norm(array - coarse) > SAME_MATRIX * np.linalg.norm(array):
            raise UnsupportedGGUF(f"{UNEMBEDDING} is another matrix than {EMBEDDING}, should be the same (tied)")
    return array


def _write_weights(
    reader: GGUFReader,
    embedding: np.ndarray,
    config: dict[str, Any],
    known: GgufModel,
    folder: Path,
    progress: Progress,
) -> None:
    from gguf import dequantize
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {their_name(EMBEDDING): embedding}
    for number, tensor in enumerate(reader.tensors, start=1):
        progress("unpacking the weights", number / len(reader.tensors))
        if tensor.name in (EMBEDDING, UNEMBEDDING):
            continue
        array = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if known.permuted and (".attn_q." in tensor.name or ".attn_k." in tensor.name):
            array = _halves_of_rope(array, config["head_dim"])
        tensors[their_name(tensor.name)] = np.ascontiguousarray(array)
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod((folder / "config.json").stat().st_mode)  # safetensors gives it to its owner alone


def their_name(name: str) -> str:
    """blk.3.attn_q.bias -> model.layers.3.self_attn.q_proj.bias."""
    *block, module, kind = name.split(".")
    if module not in NAMES or kind not in ("weight", "bias"):
        raise UnsupportedGGUF(f"the tensor {name} is not understood")
    return f"model.layers.{block[1]}.{NAMES[module]}.{kind}" if block else f"{NAMES[module]}.{kind}"


def _halves_of_rope(array: np.ndarray, head_dim: int) -> np.ndarray:
    """GGUF interleaves the two halves that rope turns into each other; Hugging Face keeps them one after the other."""
    rows, width = array.shape
    pairs = array.reshape(rows // head_dim, head_dim // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(rows, width)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
