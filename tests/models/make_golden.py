"""Makes golden.npz: what transformers computes for a tiny random model of every family. Needs torch; run it once.

    python tests/models/make_golden.py

Per case: the config.json, the weights (bfloat16 bits, so that the file stays small) and the float32 logits of one
plain sequence. `cases()` and `build()` are also what test_parity.py compares with where torch is installed.
"""

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden.npz"
TOKENS = 40
SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,  # so short that all three bands of the stretching are met
}
SMOLLM3 = {"model_type": "smollm3", "pad_token_id": None}  # whose own number is beyond so small a vocabulary

GEMMA3 = {
    "model_type": "gemma3_text",
    "pad_token_id": None,
    "head_dim": 12,
    "query_pre_attn_scalar": 12,
    "sliding_window": 8,
    "sliding_window_pattern": 2,
    "tie_word_embeddings": True,
}


def cases() -> dict[str, dict]:
    """Name -> what differs from SIZES."""
    return {
        "qwen2_tied": {"model_type": "qwen2", "tie_word_embeddings": True},
        "qwen2_untied": {"model_type": "qwen2", "tie_word_embeddings": False, "num_key_value_heads": 4},
        "qwen3_tied": {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 16},
        "qwen3_untied": {"model_type": "qwen3", "tie_word_embeddings": False, "head_dim": 6},
        "llama_tied": {"model_type": "llama", "tie_word_embeddings": True, "num_key_value_heads": 1},
        "llama_untied": {"model_type": "llama", "tie_word_embeddings": False},
        "llama3_rope_tied": {"model_type": "llama", "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
        "llama3_rope_untied": {"model_type": "llama", "tie_word_embeddings": False, "rope_parameters": LLAMA3_ROPE},
        # As the 1b and 3b of Llama 3.2: tied, four queries a key, the rope stretched 32 times.
        "llama32": {
            "model_type": "llama",
            "tie_word_embeddings": True,
            "num_attention_heads": 8,
            "head_dim": 8,
            "rms_norm_eps": 1e-5,
            "rope_parameters": LLAMA3_ROPE | {"factor": 32.0, "rope_theta": 500000.0},
        },
        "mistral": {"model_type": "mistral", "tie_word_embeddings": False, "head_dim": 12, "sliding_window": None},
        "smollm3_every_second": {
            "model_type": "smollm3",
            "pad_token_id": None,
            "no_rope_layer_interval": 2,
            "tie_word_embeddings": True,
        },
        "smollm3_as_listed": {
            "model_type": "smollm3",
            "pad_token_id": None,
            "no_rope_layers": [0, 1, 1],
            "tie_word_embeddings": False,
        },
        # As 270m and 1b are, and stretched as the larger ones; the text is five windows long.
        "gemma3": GEMMA3,
        "gemma3_stretched": GEMMA3
        | {
            "query_pre_attn_scalar": 24,
            "num_key_value_heads": 1,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    }


def build(case: dict, seed: int = 0, sizes: dict = SIZES):
    """A transformers model whose norms and biases are random too, in values that bfloat16 holds."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = sizes | case
    config = AutoConfig.for_model(settings["model_type"], **{k: v for k, v in settings.items() if k != "model_type"})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn_like(value)
            value.copy_((1 + 0.3 * noise if "norm" in name else 0.3 * noise).bfloat16().float())
    return model


def tokens_of(seed: int = 0) -> np.ndarray:
    """[1, TOKENS] of one sequence."""
    return np.random.default_rng(seed).integers(0, SIZES["vocab_size"], (1, TOKENS))


def logits_of(model, tokens: np.ndarray) -> np.ndarray:
    """Float32 [1, T, V]."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.float().numpy()


def main() -> None:
    """Writes the file."""
    import torch

    arrays = {}
    for name, case in cases().items():
        model = build(case)
        arrays[f"{name}/config"] = np.array(json.dumps(model.config.to_dict(), sort_keys=True))
        arrays[f"{name}/logits"] = logits_of(model, tokens_of())
        for key, value in model.state_dict().items():
            if not (key == "lm_head.weight" and case["tie_word_embeddings"]):
                arrays[f"{name}/w/{key}"] = value.bfloat16().view(torch.uint16).numpy()
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
