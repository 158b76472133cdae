"""What a config.json means: variants of small ones, and the facts that transformers makes of each.

    python tests/models/meanings.py

writes golden/meanings.json, which stands in for transformers where torch is not installed. A fact is what decides the
numbers: shapes, biases, epsilon, angles of rope, layers without rope, windows, whether the unembedding is tied.
"""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden" / "meanings.json"
BASE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
WIDE = {"hidden_size": 128, "num_attention_heads": 32}  # in which 2, 4, 8 and 32 groups can be told apart
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
OLD = {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ORIGINAL = {"original_max_position_embeddings": 16}
FULL, SLIDING = "full_attention", "sliding_attention"
ABSENT = object()

# What differs from BASE; asked of every family.
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no groups": {**WIDE, "num_key_value_heads": ABSENT},
    "null groups": {**WIDE, "num_key_value_heads": None},
    "heads of 12": {"head_dim": 12},
    "null heads": {"head_dim": None},
    "width that heads do not divide": {"hidden_size": 34, "head_dim": 8},
    "no tie": {"tie_word_embeddings": ABSENT},
    "tied": {"tie_word_embeddings": True},
    "untied": {"tie_word_embeddings": False},
    "no epsilon": {"rms_norm_eps": ABSENT},
    "epsilon": {"rms_norm_eps": 1e-5},
    "no context": {"max_position_embeddings": ABSENT},
    "no activation": {"hidden_act": ABSENT},
    "gelu": {"hidden_act": "gelu"},
    "biases": {"attention_bias": True},
    "biases of the mlp": {"mlp_bias": True},
    "no theta": {"rope_theta": ABSENT},
    "theta": {"rope_theta": 5e5},
    "whole theta": {"rope_theta": 500_000},
    "theta, new place": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "theta in both places": {"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "theta in the old scaling": {"rope_theta": 1e4, "rope_scaling": {"rope_type": "default", "rope_theta": 5e5}},
    "null scaling": {"rope_theta": 5e5, "rope_scaling": None},
    "empty scaling": {"rope_theta": 5e5, "rope_scaling": {}, "rope_parameters": {"rope_theta": 3e5}},
    "no type": {"rope_parameters": {"rope_theta": 5e5}},
    "llama3, old place": {"rope_theta": 5e5, "rope_scaling": LLAMA3 | ORIGINAL},
    "llama3, old name": {"rope_theta": 5e5, "rope_scaling": OLD | ORIGINAL},
    "llama3, new place": {"rope_parameters": LLAMA3 | ORIGINAL | {"rope_theta": 5e5}},
    "llama3, no original": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
    "llama3, original above it": {"rope_theta": 5e5, "rope_scaling": LLAMA3, **ORIGINAL},
    "llama3, two originals": {"rope_scaling": LLAMA3 | ORIGINAL, "original_max_position_embeddings": 32},
    "llama3, the same twice": {"rope_scaling": LLAMA3 | ORIGINAL, **ORIGINAL},
    "scaling beside parameters": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "rope_scaling": LLAMA3 | ORIGINAL,
    },
    "scaling beside parameters of another theta": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        "rope_scaling": LLAMA3 | ORIGINAL,
    },
    "yarn beside parameters": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, **ORIGINAL},
    },
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, **ORIGINAL}},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "half of the heads": {"partial_rotary_factor": 0.5},
    "half, new place": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "all of the heads": {"partial_rotary_factor": 1.0},
    "original without scaling": ORIGINAL,
    "window, no size": {"use_sliding_window": True, "max_window_layers": 2},
    "window of null": {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": None},
    "window of 8": {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8},
    "window, no layers": {"use_sliding_window": True, "sliding_window": 8},
    "window, above all": {"use_sliding_window": True, "max_window_layers": 4, "sliding_window": 8},
    "window, null layers": {
        "use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8, "layer_types": None,
    },
    "window not used": {"use_sliding_window": False, "sliding_window": 8},
    "window alone": {"sliding_window": 8},
    "null window": {"sliding_window": None},
    "all full": {"layer_types": [FULL] * 4},
    "all full, window": {"layer_types": [FULL] * 4, "use_sliding_window": True, "sliding_window": 8},
    "one sliding": {"layer_types": [FULL] * 3 + [SLIDING], "use_sliding_window": True, "sliding_window": 8},
    "no rope in every second": {"no_rope_layer_interval": 2},
    "no rope as listed": {"no_rope_layers": [0, 1, 1, 0]},
    "no rope, more than layers": {"no_rope_layers": [0, 1, 1, 0, 1, 1]},
    "no rope, fewer than layers": {"no_rope_layers": [0, 1]},
}  # fmt: skip
FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "smollm3")


def configs() -> dict[str, dict[str, Any]]:
    """`family: change` -> a config.json."""
    found = {}
    for family in FAMILIES:
        # A window is what Mistral has where nothing is said: so it is said, but where the change is about windows.
        quiet = {"sliding_window": None} if family == "mistral" else {}
        for name, change in CHANGES.items():
            config = {"model_type": family, **BASE, **quiet, **change}
            found[f"{family}: {name}"] = {key: value for key, value in config.items() if value is not ABSENT}
    found["mistral: no window said"] = {"model_type": "mistral", **BASE}
    return found


GEMMA = {**BASE, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8, "sliding_window_pattern": 2}
LINEAR = {"rope_type": "linear", "factor": 4.0}
GEMMA_CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no pattern": {"sliding_window_pattern": ABSENT},
    "layers": {"layer_types": [FULL, SLIDING, SLIDING, FULL]},
    "all full, gemma": {"layer_types": [FULL] * 4},
    "all sliding": {"layer_types": [SLIDING] * 4},
    "no window said": {"sliding_window": ABSENT},
    "window of 1": {"sliding_window": 1},
    "window of null, gemma": {"sliding_window": None},
    "no groups": {"num_key_value_heads": ABSENT},
    "no heads said": {"head_dim": ABSENT},
    "heads of 12": {"head_dim": 12},
    "no scalar": {"query_pre_attn_scalar": ABSENT},
    "scalar": {"query_pre_attn_scalar": 20},
    "thetas": {"rope_theta": 5e5, "rope_local_base_freq": 2e3},
    "linear, old place": {"rope_theta": 5e5, "rope_scaling": LINEAR},
    "linear, old name": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear and a theta": {"rope_scaling": LINEAR | {"rope_theta": 3e5}},
    "linear, new place": {"rope_parameters": {FULL: LINEAR | {"rope_theta": 5e5}, SLIDING: {"rope_type": "default"}}},
    "one kind alone": {"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 5e5}}, "rope_theta": 3e5},
    "theta of the other kind": {"rope_parameters": {SLIDING: {"rope_type": "default", "rope_theta": 3e3}}},
    "flat parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "untied": {"tie_word_embeddings": False},
    "epsilon": {"rms_norm_eps": 1e-5},
    "an activation of another name": {"hidden_act": "silu"},
    "gelu, gemma": {"hidden_activation": "gelu"},
    "soft caps": {"final_logit_softcapping": 30.0},
    "soft caps of scores": {"attn_logit_softcapping": 50.0},
    "both ways": {"use_bidirectional_attention": True},
    "biases": {"attention_bias": True},
}


def gemma_configs() -> dict[str, dict[str, Any]]:
    """The same for Gemma 3, whose fields are its own; compared by what is computed (benchmarks/parity.py)."""
    found = {}
    for name, change in GEMMA_CHANGES.items():
        found[f"gemma3_text: {name}"] = {key: value for key, value in (GEMMA | change).items() if value is not ABSENT}
    return found


def ask(config: dict[str, Any]) -> dict[str, Any]:
    """The facts, or {"refused": the error}."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {key: value for key, value in json.loads(json.dumps(config)).items() if key != "model_type"}
    try:
        made = AutoConfig.for_model(config["model_type"], **settings)
        model = AutoModelForCausalLM.from_config(made, attn_implementation="eager")
    except Exception as error:  # there, whatever an odd config runs into
        return {"refused": type(error).__name__}
    layers = [layer.self_attn for layer in model.model.layers]
    window = made.sliding_window if config["model_type"] == "mistral" else None
    angles = model.model.rotary_emb.inv_freq
    ones = torch.ones(1, 1, dtype=torch.long)
    cos, sin = model.model.rotary_emb(torch.zeros(1, 1, made.hidden_size), ones)
    return {
        "q": list(layers[0].q_proj.weight.shape),
        "k": list(layers[0].k_proj.weight.shape),
        "qkv_bias": layers[0].q_proj.bias is not None,
        "o_bias": layers[0].o_proj.bias is not None,
        "mlp_bias": model.model.layers[0].mlp.up_proj.bias is not None,
        "qk_norm": hasattr(layers[0], "q_norm"),
        "activation": type(model.model.layers[0].mlp.act_fn).__name__,
        "eps": model.model.norm.variance_epsilon,
        "tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "positions": made.max_position_embeddings,
        "rotated": 2 * len(angles),
        "cos": [round(float(x), 5) for x in cos[0, 0, : len(angles)]],
        "sin": [round(float(x), 5) for x in sin[0, 0, : len(angles)]],
        "dynamic": model.model.rotary_emb.rope_type == "dynamic",
        "without_rope": [i for i, layer in enumerate(layers) if not getattr(layer, "use_rope", True)],
        "windows": [getattr(layer, "sliding_window", None) or window for layer in layers],
    }


if __name__ == "__main__":
    answers = {name: ask(config) for name, config in configs().items()}
    GOLDEN.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in answers.items()) + "\n}\n")
    print(f"{GOLDEN}: {len(answers)} configs, {sum('refused' in a for a in answers.values())} refused by transformers")
