"""Added tokens that a base never learned are written with those it did learn, and are drawn by nobody.

Qwen3's bases: their tokenizer knows <think> as one token, whose embedding is untrained, and the model writes nonsense.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from azr_jax.config.schema import Config, ConfigError, RolloutConfig
from azr_jax.export import generation_config
from azr_jax.learner.objective import token_logprobs_and_entropy
from azr_jax.learner.terms import Tokens
from azr_jax.models.attention import segment_attention
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.models.spelling import CannotSpell, spell_out, spelled_out_in
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.run.build import spelled_out
from azr_jax.selfplay.prompting import Prompter
from azr_jax.tasks.types import Kind, Triplet

WORDS = ("<think>", "</think>")
TASK = Triplet("def f(x):\n    return x", "1", "1", "int:1")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A byte-level tokenizer like Qwen3's: the end, a tool, the two words, and another word behind them."""
    backend = Tokenizer(models.BPE({c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    backend.add_tokens([AddedToken(word, special=False, normalized=False) for word in ("<tool>", *WORDS, "<last>")])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(tmp_path)
    return tmp_path


def test_the_words_are_spelled_out_and_every_other_token_stays_what_it_is(folder):
    plain, spelled = (AutoTokenizer.from_pretrained(folder) for _ in range(2))
    ids = spell_out(spelled, WORDS)
    assert ids == tuple(plain.convert_tokens_to_ids(list(WORDS)))
    text = "<think>é</think><tool><last><|endoftext|> <th"
    tokens = spelled.encode(text)
    assert set(ids) <= set(plain.encode(text)) and not set(ids) & set(tokens)
    assert spelled.decode(tokens) == text == plain.decode(plain.encode(text))
    for word in ("<tool>", "<last>", "<|endoftext|>"):
        assert spelled.encode(word) == plain.encode(word) == [plain.convert_tokens_to_ids(word)]
    assert len(spelled) == len(plain) and spelled.eos_token_id == plain.eos_token_id


def test_a_prompt_of_the_think_style_holds_none_of_them_and_the_folder_is_not_touched(folder):
    before = (folder / "tokenizer.json").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompter = Prompter(tokenizer, folder, Config(rollout=RolloutConfig(max_prompt_tokens=9000)))
    ids = tokenizer.convert_tokens_to_ids(list(WORDS))
    assert set(ids) & set(prompter.solve(Kind.DEDUCTION, TASK).tokens)
    assert spell_out(tokenizer, WORDS) == tuple(ids)
    assert not set(ids) & set(prompter.solve(Kind.DEDUCTION, TASK).tokens)
    assert (folder / "tokenizer.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"), [(("<thunk>",), "is no added token"), (("<|endoftext|>",), "ends texts or pads them")]
)
def test_what_cannot_be_spelled_out_is_named(folder, words, named):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(CannotSpell, match=named):
        spell_out(tokenizer, words)
    config = SimpleNamespace(model=SimpleNamespace(spell_out=words))
    with pytest.raises(ConfigError, match=rf"model\.spell_out=.*{named}"):
        spelled_out(config, tokenizer)


def test_an_export_says_what_is_never_generated_and_an_evaluation_reads_it(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    never = spell_out(tokenizer, WORDS)
    assert spelled_out_in(folder) == ()
    (name, text), *_ = generation_config(folder, tokenizer, (), never).items()
    (folder / name).write_text(text)
    assert json.loads(text)["suppress_tokens"] == sorted(never) and spelled_out_in(folder) == WORDS


# --- sampler and learner

SPEC = ModelSpec("qwen3", 120, 32, 2, 4, 2, 8, 64, True)
NEVER = tuple(range(0, 120, 2))


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 3 * x, params)


def drawn(model, never):
    sizes = {"slots": 4, "max_prompt_tokens": 20, "max_new_tokens": 30, "page_size": 8}
    engine = Engine(model[0], SPEC, EngineSettings(**sizes, never=never), seed=1)
    engine.load_weights(model[1], 1)
    engine.submit(Request(1, (5, 6, 7), 30, n=4))
    return list(engine.drain())


def scored(model, rollout, never):
    """The completion's log-probabilities as the learner has them, in chunks."""
    whole = jnp.array([*rollout.request.prompt, *rollout.tokens])[None]
    net = nnx.merge(*model)
    segments, positions = jnp.ones_like(whole), jnp.arange(whole.shape[1])[None]
    hidden, _ = net.hidden(whole, positions, segment_attention("xla", positions, segments), dtype=jnp.float32)
    first, count = len(rollout.request.prompt) - 1, len(rollout.tokens)
    zeros = jnp.zeros((1, count))
    index = jnp.arange(first, first + count)[None]
    tokens = Tokens(index, whole[:, first + 1 :], jnp.ones((1, count), jnp.int32), zeros + 1, zeros, zeros)
    return token_logprobs_and_entropy(hidden, net.embed[...], tokens, 1.0, 16, never)


def test_they_are_never_drawn_and_the_learner_leaves_out_the_same(model):
    masked = drawn(model, NEVER)
    assert not set(NEVER) & {token for r in masked for token in r.tokens}
    logprobs, entropies = scored(model, masked[0], NEVER)
    assert np.allclose(logprobs[0], masked[0].logprobs, atol=1e-4)
    others, _ = scored(model, masked[0], ())
    assert np.abs(others[0] - np.array(masked[0].logprobs)).max() > 1e-3, "another distribution without them"
    assert np.isfinite(entropies).all()
