"""The Transformer computes what transformers computes, however its tokens are laid out."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import CASES, TOKENS, cached_attend, empty_cache, golden_folder, golden_logits, logits

from azr_jax.models import embedded, hf
from azr_jax.models.source import default_cache, missing

REAL = {"smollm2": embedded.SMOLLM2.name, "qwen05b_coder": embedded.QWEN05B_CODER.name}


def worst(ours, theirs) -> float:
    """The largest difference over the largest logit."""
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def model(case, tmp_path_factory):
    return hf.load(golden_folder(case, tmp_path_factory.mktemp(case)))


def test_golden_logits_are_met(case, model):
    assert worst(jax.jit(logits)(model, TOKENS), golden_logits(case)) <= 1e-4


def test_two_packed_segments_give_what_each_gives_alone(model):
    # 13 and 20 tokens in one row of 40; the padding behind them must not be felt.
    one, two = TOKENS[:, :13], TOKENS[:, 13:33]
    positions = jnp.asarray([[*range(13), *range(20), *[0] * 7]], jnp.int32)
    segments = jnp.asarray([[1] * 13 + [2] * 20 + [0] * 7], jnp.int32)
    packed = np.asarray(jax.jit(logits)(model, TOKENS, positions, segments))
    assert worst(packed[:, :13], np.asarray(jax.jit(logits)(model, one))) <= 1e-5
    assert worst(packed[:, 13:33], np.asarray(jax.jit(logits)(model, two))) <= 1e-5
    assert np.isfinite(packed).all()


def test_a_cache_filled_in_three_parts_gives_the_plain_sequence(model):
    # 17 tokens at once (prefill), 3 more at once, then one by one, as a sampler reads them.
    plain = np.asarray(jax.jit(logits)(model, TOKENS))

    @jax.jit
    def step(tokens, positions, cache):
        x, cache = model.hidden(tokens, positions, cached_attend(positions), cache, dtype=jnp.float32)
        return model.logits(x), cache

    cache, parts = empty_cache(model.spec, 1, 64), []
    for start, end in [(0, 17), (17, 20), *((i, i + 1) for i in range(20, 40))]:
        positions = jnp.arange(start, end, dtype=jnp.int32)[None]
        part, cache = step(jnp.asarray(TOKENS[:, start:end], jnp.int32), positions, cache)
        parts.append(np.asarray(part))
    assert worst(np.concatenate(parts, axis=1), plain) <= 1e-5


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_remat_changes_no_gradient(remat, tmp_path):
    model = hf.load(golden_folder("qwen3_tied", tmp_path))

    def loss(model, remat):
        return jnp.mean(jnp.square(logits(model, TOKENS, remat=remat)))

    kept, again = (jax.jit(jax.grad(loss), static_argnums=1)(model, name) for name in ("none", remat))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_unknown_remat_is_named(tmp_path):
    model = hf.load(golden_folder("llama_tied", tmp_path))
    with pytest.raises(ValueError, match="remat='some': should be one of none, dots, full"):
        logits(model, TOKENS, remat="some")


def test_bfloat16_compute_stays_near_and_gives_float32_logits(model):
    # Eight bits of mantissa through three layers of large random weights: a few percent on average.
    near = jax.jit(lambda model: logits(model, TOKENS, dtype=jnp.bfloat16))(model)
    exact = np.asarray(jax.jit(logits)(model, TOKENS))
    assert near.dtype == jnp.float32
    assert 0 < np.sqrt(np.mean((near - exact) ** 2) / np.mean(exact**2)) < 0.05


def test_live_logits_of_transformers(case, tmp_path):
    """Another seed than the golden one, both ways: our reading of their folder, their reading of ours."""
    pytest.importorskip("torch")
    from make_golden import build, cases, logits_of, tokens_of
    from transformers import AutoModelForCausalLM

    theirs = build(cases()[case], seed=7)
    theirs.save_pretrained(tmp_path / "theirs")
    tokens = tokens_of(seed=7)
    expected = logits_of(theirs, tokens)
    ours = hf.load(tmp_path / "theirs")
    assert worst(jax.jit(logits)(ours, tokens), expected) <= 1e-4

    hf.save(ours, tmp_path / "ours", source=tmp_path / "theirs")
    back, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    np.testing.assert_array_equal(logits_of(back.eval(), tokens), expected)

    hf.save(ours, tmp_path / "bare")  # config.json written from the spec alone
    back, info = AutoModelForCausalLM.from_pretrained(tmp_path / "bare", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert worst(logits_of(back.eval(), tokens), expected) <= 3e-6  # by another of its attentions


@pytest.fixture(scope="module", params=REAL)
def real(request):
    """An embedded model's name and folder, wherever this machine has built it."""
    folder = default_cache() / "models" / embedded.MODELS[REAL[request.param]].folder_name
    if missing(folder):
        pytest.skip(f"{folder} is not there; resolving {REAL[request.param]} makes it")
    return request.param, folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("real", ["smollm2"], indirect=True)  # token by token the other one takes too long
def test_a_real_model_says_the_same_64_greedy_tokens_on_8_prompts(real):
    """Expected tokens: transformers' greedy `generate` in float32 (make_greedy.py)."""
    name, folder = real
    story = json.loads((Path(__file__).parent / f"{name}_greedy.json").read_text())
    model = hf.load(folder)

    @jax.jit
    def step(model, tokens, positions, cache):
        x, cache = model.hidden(tokens, positions, cached_attend(positions), cache, dtype=jnp.float32)
        return jnp.argmax(model.logits(x[:, -1]), axis=-1), cache

    for prompt, expected in zip(story["prompts"], story["tokens"], strict=True):
        assert len(expected) == 64
        positions = jnp.arange(len(prompt), dtype=jnp.int32)[None]
        token, cache = step(model, jnp.asarray([prompt], jnp.int32), positions, empty_cache(model.spec, 1, 128))
        said = [int(token[0])]
        while len(said) < 64:
            position = jnp.asarray([[len(prompt) + len(said) - 1]], jnp.int32)
            token, cache = step(model, token[:, None], position, cache)
            said.append(int(token[0]))
        assert said == expected


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_models_logits_and_export_are_those_of_transformers(real, tmp_path):
    """Float32 against torch on the same weights; and what we write out says the golden tokens over there."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    name, folder = real
    story = json.loads((Path(__file__).parent / f"{name}_greedy.json").read_text())
    ours = hf.load(folder)
    hf.save(ours, tmp_path / "out", source=folder)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    compute = jax.jit(logits)
    for prompt, said in zip(story["prompts"], story["tokens"], strict=True):
        tokens = np.asarray([prompt + said])
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens)).logits.numpy()
        assert expected[0, len(prompt) - 1 : -1].argmax(-1).tolist() == said  # greedy over there, token by token
        found = np.asarray(compute(ours, tokens))
        assert found[0, len(prompt) - 1 : -1].argmax(-1).tolist() == said
        assert worst(found, expected) <= 1e-4
