"""Shapes of the models the recipes name, so that a dry run needs neither weights nor network.

The numbers are those of each model's public config.json, in its own words. A name that is not here is looked for the
way a run does (a local folder, the caches, the hub), which then fetches the weights too.
"""

from __future__ import annotations

from typing import Any

from azr_jax.models.source import resolve
from azr_jax.models.spec import PRESETS, ModelSpec, load_spec, spec_from_config

# width, layers, heads, key/value heads, mlp, vocabulary
_COLUMNS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
)  # fmt: skip
_QWEN2 = {"model_type": "qwen2", "rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}
_QWEN3 = _QWEN2 | {"model_type": "qwen3", "head_dim": 128}
_LLAMA = {"model_type": "llama", "rope_theta": 5e5, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072}
_LLAMA["rope_scaling"] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_SMOLLM2 = {"model_type": "llama", "rope_theta": 1e5, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192}
_GEMMA3 = {"model_type": "gemma3_text", "head_dim": 256, "sliding_window": 512, "max_position_embeddings": 32768}


def _config(family: dict[str, Any], tied: bool, *sizes: int) -> dict[str, Any]:
    return family | dict(zip(_COLUMNS, sizes, strict=True)) | {"tie_word_embeddings": tied}


KNOWN: dict[str, dict[str, Any]] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": _config(_SMOLLM2, True, 576, 30, 9, 3, 1536, 49152),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _config(_QWEN2, True, 896, 24, 14, 2, 4864, 151936),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": _config(_QWEN2, True, 1536, 28, 12, 2, 8960, 151936),
    "Qwen/Qwen2.5-Coder-3B": _config(_QWEN2, True, 2048, 36, 16, 2, 11008, 151936),
    "Qwen/Qwen2.5-7B": _config(_QWEN2, False, 3584, 28, 28, 4, 18944, 152064),
    "Qwen/Qwen2.5-Coder-7B": _config(_QWEN2, False, 3584, 28, 28, 4, 18944, 152064),
    "Qwen/Qwen2.5-14B": _config(_QWEN2, False, 5120, 48, 40, 8, 13824, 152064),
    "Qwen/Qwen2.5-Coder-14B": _config(_QWEN2, False, 5120, 48, 40, 8, 13824, 152064),
    "Qwen/Qwen3-4B-Base": _config(_QWEN3, True, 2560, 36, 32, 8, 9728, 151936),
    "google/gemma-3-1b-it": _config(_GEMMA3, True, 1152, 26, 4, 1, 6912, 262144),
    "meta-llama/Llama-3.1-8B": _config(_LLAMA, False, 4096, 32, 32, 8, 14336, 128256),
}


def spec_of(name: str, cache_dir: str | None = None) -> ModelSpec:
    """The shape of the model a recipe names."""
    if name.startswith("random:") and name.removeprefix("random:") in PRESETS:
        return PRESETS[name.removeprefix("random:")]
    if name in KNOWN:
        return spec_from_config(KNOWN[name])
    return load_spec(resolve(name, cache_dir=cache_dir))
