"""config.json to ModelSpec: what is read, and what is refused by name before a weight is read."""

import json
from dataclasses import replace

import pytest
from tiny_models import CASES, golden_config

from azr_jax.models.rope import Llama3Rope
from azr_jax.models.spec import PRESETS, UnsupportedModel, config_from_spec, load_spec, spec_from_config

QWEN25_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 152064,
}


def test_qwen25_7b():
    spec = spec_from_config(QWEN25_7B)
    assert (spec.width, spec.depth, spec.heads, spec.kv_heads, spec.head_dim) == (3584, 28, 28, 4, 128)
    assert spec.qkv_bias and not spec.qk_norm and not spec.tied and spec.rope_theta == 1e6
    # By hand: a layer has q 3584*3584 + k, v 2*512*3584 + biases 4608 + o 3584*3584 + mlp 3*3584*18944 + norms 7168.
    layer = 3584 * 3584 * 2 + 2 * 512 * 3584 + 4608 + 3 * 3584 * 18944 + 7168
    assert spec.parameters() == 28 * layer + 2 * 152064 * 3584 + 3584 == 7_615_616_512


def test_qwen3_has_heads_of_128_unless_told():
    config = QWEN25_7B | {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560}
    spec = spec_from_config(config)
    assert spec.head_dim == 128 and spec.qk_norm and not spec.qkv_bias


def test_llama3_rope_in_the_old_and_the_new_place():
    rope = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    base = QWEN25_7B | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    old = base | {"rope_theta": 500000.0, "rope_scaling": rope | {"rope_type": "llama3"}}
    new = {k: v for k, v in base.items() if k != "rope_theta"}
    new |= {"rope_parameters": rope | {"rope_type": "llama3", "rope_theta": 500000.0}}
    assert spec_from_config(old) == spec_from_config(new)
    assert spec_from_config(old).rope_scaling == Llama3Rope(32.0, 1.0, 4.0, 8192)


@pytest.mark.parametrize("case", CASES)
def test_a_config_written_from_a_spec_gives_the_spec_back(case):
    spec = spec_from_config(golden_config(case))
    assert spec_from_config(config_from_spec(spec)) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma2"}, "model_type='gemma2' is not supported: it should be one of qwen2, qwen3, llama"),
        ({"model_type": "qwen3_moe"}, "model_type='qwen3_moe' is not supported, it needs experts: it should be one of"),
        ({"model_type": "qwen3_5"}, "'qwen3_5' is not supported, it needs gated linear attention in three layers"),
        ({"model_type": None}, "model_type=None"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, r"architectures=\['Qwen2ForSequenceClassification'\]"),
        ({"use_sliding_window": True, "max_window_layers": 21}, "sliding_window=131072 is used by 7 of 28 layers"),
        (
            {"layer_types": ["full_attention"] * 27 + ["sliding_attention"]},
            "sliding_attention is used by 1 of 28 layers",
        ),
        ({"layer_types": ["full_attention"]}, "should be a list of num_hidden_layers=28 kinds"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type='yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type='linear' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type='llama3' lacks low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported: it should be 'silu' or absent"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config=.* is not supported"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_attention_heads": 30, "num_key_value_heads": 30}, "hidden_size=3584 does not divide by .*30"),
        ({"num_key_value_heads": 5}, "heads=28 does not divide into kv_heads=5"),
        ({"vocab_size": "many"}, "vocab_size='many': should be a whole number"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(change, message):
    with pytest.raises(UnsupportedModel, match=message):
        spec_from_config(QWEN25_7B | change)


def test_sliding_window_that_no_layer_uses_is_fine():
    assert spec_from_config(QWEN25_7B | {"use_sliding_window": True, "max_window_layers": 28}).depth == 28


def test_errors_name_the_file(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"config\.json does not exist"):
        load_spec(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match=r"config\.json is not JSON"):
        load_spec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UnsupportedModel, match=r"config\.json: model_type='mamba'"):
        load_spec(tmp_path)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UnsupportedModel, match="head_dim=15: should be even"):
        replace(PRESETS["tiny"], head_dim=15)
    with pytest.raises(UnsupportedModel, match="depth=0: should be a whole number of at least 1"):
        replace(PRESETS["tiny"], depth=0)
