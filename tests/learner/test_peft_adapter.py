"""Corrections written as PEFT has them, and read back; where peft is installed it computes the same with them."""

import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from azr_jax.evals.models import NoModel, find
from azr_jax.learner.lora import merged
from azr_jax.learner.peft_adapter import CONFIG, WEIGHTS, load_adapter, save_adapter
from azr_jax.models import hf
from azr_jax.models.fields import UnsupportedModel
from azr_jax.models.spec import OUTPUTS
from azr_jax.models.tensors import BadWeights

sys.path.append(str(Path(__file__).parents[1] / "models"))
from damaged_folders import change, whole_folder
from tiny_models import golden_folder, logits

RANK = 3


def corrections(spec, targets=tuple(OUTPUTS), seed=0):
    rng = np.random.default_rng(seed)
    weights = {weight.path[-1]: weight.shape for weight in spec.weights() if weight.per_layer}
    made = {}
    for name in targets:
        outs, ins = weights[name][: OUTPUTS[name]], weights[name][OUTPUTS[name] :]
        made[name] = {
            "a": jnp.asarray(rng.standard_normal((spec.depth, RANK, *ins)), jnp.float32) * 0.3,
            "b": jnp.asarray(rng.standard_normal((spec.depth, *outs, RANK)), jnp.float32) * 0.3,
        }
    return made


@pytest.fixture
def model(tmp_path):
    return hf.load(golden_folder("llama_untied", tmp_path / "base"))


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for factor in ("a", "b"):
            np.testing.assert_array_equal(one[name][factor], other[name][factor])


def test_what_is_written_is_read_back(model, tmp_path):
    made = corrections(model.spec)
    out = save_adapter(made, model.spec, tmp_path / "adapter", base="some/model")
    same(load_adapter(out, model.spec), made)


def test_the_format_is_that_of_peft(model, tmp_path):
    """Names, shapes and the meaning: W + (lora_alpha / r) B A, with heads and their numbers as one axis."""
    made = corrections(model.spec, ("q", "down"))
    out = save_adapter(made, model.spec, tmp_path / "adapter", base="some/model")
    config = json.loads((out / CONFIG).read_text())
    assert (config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]) == ("LORA", "CAUSAL_LM", 3, 3)
    assert config["target_modules"] == ["down_proj", "q_proj"] and config["base_model_name_or_path"] == "some/model"
    tensors = load_file(out / WEIGHTS)
    assert len(tensors) == 2 * 2 * model.spec.depth
    start = "base_model.model.model.layers.1.self_attn.q_proj"
    a, b = (tensors[f"{start}.lora_{factor}.weight"] for factor in "AB")
    assert (a.shape, b.shape) == ((3, 32), (32, 3))
    assert tensors["base_model.model.model.layers.2.mlp.down_proj.lora_A.weight"].shape == (3, 48)
    graphdef, params = nnx.split(model)
    grown = nnx.merge(graphdef, merged(made, params))
    ours = np.asarray(grown.layers.q[...][1] - model.layers.q[...][1]).reshape(32, 32)
    np.testing.assert_allclose(ours, b @ a, atol=1e-5)


def test_a_scale_is_folded_into_b(model, tmp_path):
    made = corrections(model.spec, ("v",))
    out = save_adapter(made, model.spec, tmp_path / "adapter", base="some/model")
    for fields, scale in (({"lora_alpha": 6}, 2.0), ({"lora_alpha": 6, "use_rslora": True}, 6 / 3**0.5)):
        change(out / CONFIG, **fields)
        found = load_adapter(out, model.spec)
        np.testing.assert_array_equal(found["v"]["a"], made["v"]["a"])
        np.testing.assert_allclose(found["v"]["b"], scale * np.asarray(made["v"]["b"]), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type='IA3': should be 'LORA'"),
        ({"bias": "all"}, "bias='all': should be 'none'"),
        ({"use_dora": True}, "use_dora=True: should be absent"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=.*: should be absent"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern=.*: should be absent"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "target_modules=.*should be a list of some of q_proj"),
        ({"target_modules": "all-linear"}, "target_modules='all-linear': should be a list"),
        ({"r": 4}, r"lora_A.weight is \[3, 32\]: should be \[4, 32\]"),
        ({"r": "3"}, "r='3': should be a whole number"),
        ({"lora_alpha": None}, "lora_alpha is missing"),
        ({"target_modules": ["q_proj", "v_proj"]}, "v_proj.lora_A.weight is absent: should be"),
        ({"target_modules": ["v_proj"]}, "v_proj.lora_A.weight is absent"),
    ],
)
def test_what_these_corrections_cannot_be_is_refused(fields, said, model, tmp_path):
    out = save_adapter(corrections(model.spec, ("q",)), model.spec, tmp_path / "adapter", base="some/model")
    change(out / CONFIG, **fields)
    with pytest.raises((UnsupportedModel, BadWeights), match=said) as caught:
        load_adapter(out, model.spec)
    assert "\n" not in str(caught.value)


def test_tensors_beside_the_targets_are_not_ignored(model, tmp_path):
    out = save_adapter(corrections(model.spec, ("q", "k")), model.spec, tmp_path / "adapter", base="some/model")
    change(out / CONFIG, target_modules=["q_proj"])
    with pytest.raises(BadWeights, match=r"k_proj\.lora_A.weight corrects nothing"):
        load_adapter(out, model.spec)


def test_an_adapter_is_evaluated_by_its_folder(tmp_path):
    base = whole_folder(tmp_path / "base")
    plain = find(str(base))
    made = corrections(plain.spec, ("o",))
    adapter = save_adapter(made, plain.spec, tmp_path / "adapter", base=str(base))
    found = find(str(adapter))
    assert found.folder == base and found.fingerprint != plain.fingerprint
    _, params = found.weights("float32")
    _, before = plain.weights("float32")
    gained = np.asarray(params["layers"]["o"][...] - before["layers"]["o"][...])
    expected = np.einsum("ldr,lrhk->ldhk", *(np.asarray(made["o"][factor]) for factor in "ba"))
    np.testing.assert_allclose(gained, expected, atol=1e-5)
    arrays = load_file(adapter / WEIGHTS)
    save_file(dict(list(arrays.items())[1:]), adapter / WEIGHTS)
    with pytest.raises(NoModel, match="is absent: should be"):
        find(str(adapter))


def test_peft_computes_the_same(model, tmp_path):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    made = corrections(model.spec, seed=4)
    save_adapter(made, model.spec, tmp_path / "adapter", base=str(tmp_path / "base"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    tokens = np.arange(20)[None] % 96
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens)).logits.numpy()
    graphdef, params = nnx.split(model)
    ours = np.asarray(logits(nnx.merge(graphdef, merged(made, params)), tokens))
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(np.asarray(logits(model, tokens)) - expected).max() > 0.1 * np.abs(expected).max()

    again = peft.get_peft_model(  # written by peft, read by us, scale and all
        AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32),
        peft.LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    ).eval()
    again.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        expected = again(torch.from_numpy(tokens)).logits.numpy()
    found = load_adapter(tmp_path / "theirs", model.spec)
    ours = np.asarray(logits(nnx.merge(graphdef, merged(found, params)), tokens))
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("field", ["use_qalora", "layer_replication", "alora_invocation_tokens", "target_parameters"])
def test_what_else_peft_can_do_is_refused_by_name(model, tmp_path, field):
    """These were passed over, and the sums came out otherwise."""
    spec = model.spec
    out = save_adapter(corrections(spec), spec, tmp_path / "out", base="base")
    change(out / CONFIG, **{field: [[0, 1]]})
    with pytest.raises(UnsupportedModel, match=rf"{field}=.*should be absent"):
        load_adapter(out, spec)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_corrections_that_are_no_numbers_are_refused(model, tmp_path, value):
    spec = model.spec
    out = save_adapter(corrections(spec), spec, tmp_path / "out", base="base")
    arrays = load_file(out / WEIGHTS)
    next(iter(arrays.values()))[0, 0] = value
    save_file(arrays, out / WEIGHTS)
    with pytest.raises(BadWeights, match="hold NaN or infinity"):
        load_adapter(out, spec)
