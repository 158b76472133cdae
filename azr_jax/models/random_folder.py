"""A Hugging Face folder of random weights with a byte-level tokenizer: for tests, not for learning."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from azr_jax.models.hf import their_tensors
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer

ENDS = ("<|end|>", "<|pad|>")


def write_random_folder(spec: ModelSpec, folder: Path, seed: int = 0) -> Path:
    """The same bytes for the same spec and seed. An existing folder is kept."""
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / "made"
        made.mkdir()
        model = Transformer(spec, rngs=nnx.Rngs(seed))
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in their_tensors(model)}
        save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
        (made / "config.json").write_text(json.dumps(_config(spec), indent=2))
        _write_tokenizer(made)
        made.rename(folder)
    return folder


def _config(spec: ModelSpec) -> dict:
    return {
        "architectures": [
            {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[spec.family]
        ],
        "model_type": spec.family,
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_positions,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "tie_word_embeddings": spec.tied,
        "hidden_act": "silu",
        "eos_token_id": 256,
        "pad_token_id": 257,
        "torch_dtype": "float32",
    }


def _write_tokenizer(folder: Path) -> None:
    """One token per byte, and two special ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ENDS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ENDS[0], "pad_token": ENDS[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
