"""What the fields of a Gemma 3 folder mean, and what is refused of them."""

import pytest

from azr_jax.models.spec import UnsupportedModel, config_from_spec, spec_from_config

CONFIG = {  # of gemma-3-1b-it, as its folder has it
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
    "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
    "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "vocab_size": 262144,
}  # fmt: skip
GLOBAL, LOCAL = "full_attention", "sliding_attention"
LINEAR = {"rope_type": "linear", "factor": 8.0}


def test_the_1b_is_read_and_written_back():
    spec = spec_from_config(CONFIG)
    assert [layer for layer in range(26) if layer not in spec.windowed] == [5, 11, 17, 23] and spec.window == 512
    assert (spec.rope_theta, spec.local_rope_theta, spec.rope_factor) == (1e6, 1e4, 1.0)
    assert spec.tied and spec.qk_norm and spec.score_scalar == 256
    assert spec.parameters() == 999_885_952  # as its card says: 1 billion, 302 million of them the embedding
    assert spec_from_config(config_from_spec(spec)) == spec


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"rope_scaling": LINEAR}, "rope_factor", 8.0),
        ({"rope_theta": None, "rope_parameters": {GLOBAL: LINEAR | {"rope_theta": 5e5}}}, "rope_factor", 8.0),
        ({"rope_parameters": {GLOBAL: {"rope_theta": 5e5}, LOCAL: {"rope_theta": 2e4}}}, "rope_theta", 5e5),
        ({"rope_parameters": {GLOBAL: {"rope_theta": 5e5}, LOCAL: {"rope_theta": 2e4}}}, "local_rope_theta", 2e4),
        ({"layer_types": [LOCAL] * 25 + [GLOBAL]}, "windowed", tuple(range(25))),
        ({"sliding_window_pattern": 2}, "windowed", tuple(range(0, 26, 2))),
        ({"query_pre_attn_scalar": 168}, "score_scalar", 168),
    ],
)
def test_fields_that_change_the_numbers_are_taken(change, field, value):
    config = {name: each for name, each in (CONFIG | change).items() if each is not None}
    assert getattr(spec_from_config(config), field) == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gemma3"}, "it needs a vision model to leave out"),
        ({"hidden_activation": "gelu"}, "hidden_activation='gelu' is not supported"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0 is not supported"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type='yarn': should be 'default'"),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_scaling=.*: should be a rope_type with its factor"),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters.rope_theta: should be under 'full_attention'"),
        ({"rope_parameters": {LOCAL: LINEAR}}, "rope_parameters.sliding_attention.rope_type='linear'"),
        ({"rope_scaling": LINEAR, "rope_parameters": {LOCAL: {"rope_theta": 1e4}}}, "without rope_parameters beside"),
        ({"layer_types": [LOCAL] * 3}, "layer_types=.*: should be a list of num_hidden_layers=26 times"),
        ({"sliding_window": None}, "sliding_window is missing"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar=0: should be a whole number"),
    ],
)
def test_what_is_refused_is_named(change, said):
    with pytest.raises(UnsupportedModel, match=said):
        spec_from_config(CONFIG | change)
