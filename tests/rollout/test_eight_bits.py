"""Sampling from weights of eight bits: the same text alone and in any batch, and close to what the learner thinks."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import AutoTokenizer

from azr_jax.models import hf
from azr_jax.models.attention import segment_attention
from azr_jax.models.sharding import LearnerRules, random_model
from azr_jax.models.source import ModelNotFound, resolve
from azr_jax.models.spec import ModelSpec, load_spec
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout.engine import Engine, EngineSettings, Request

SPEC = ModelSpec("qwen2", 304, 32, 2, 4, 2, 8, 64, False)
SIZES = EngineSettings(
    slots=4, max_prompt_tokens=64, max_new_tokens=24, page_size=8, prefill_tokens=32, decode_steps=8,
    weights_dtype="int8",
)  # fmt: skip
PROGRAMS = (
    "def f(x):\n    return x + 1\n",
    "def f(s):\n    return s[::-1]\n\nassert f(",
    "def f(a, b):\n    if a > b:\n        return a\n",
    "def f(items):\n    out = []\n    for item in items:\n",
)


def sample(engine: Engine, wanted: list[Request]) -> dict:
    for request in wanted:
        engine.submit(request)
    return {(r.request.id, r.sample): (r.tokens, r.logprobs) for r in engine.drain()}


def requests(temperature: float = 1.0) -> list[Request]:
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(0, 300, length).tolist()) for length in (1, 33, 40, 64, 17)]
    return [
        Request(number, prompt, 24 - 3 * number, n=1 + number % 2, temperature=temperature)
        for number, prompt in enumerate(prompts)
    ]


def test_text_is_the_same_alone_and_in_any_batch_to_the_last_bit():
    graph, params = nnx.split(random_model(SPEC, 0))
    params = jax.tree.map(lambda x: 4 * x, params)
    engine = Engine(graph, SPEC, SIZES, seed=0)
    engine.load_weights(params, 0)
    together = sample(engine, requests())
    assert engine.metrics()["compilations"] == 0
    alone = Engine(graph, SPEC, SIZES, seed=0)
    alone.load_weights(params, 0)
    for request in requests()[::-1]:
        assert sample(alone, [request]) == {key: value for key, value in together.items() if key[0] == request.id}
    plain = Engine(graph, SPEC, dataclasses.replace(SIZES, weights_dtype="same"), seed=0)
    plain.load_weights(params, 0)
    assert sample(plain, requests()) != together


def test_on_a_mesh_the_learner_s_shards_become_integers_where_they_lie():
    """Learner over four devices, sampler two replicas of two: the same greedy text as on one device."""
    learner = make_mesh(4, 1, jax.devices()[:4])
    graph, params = nnx.split(random_model(SPEC, 0, mesh=learner, rules=LearnerRules()))
    engine = Engine(graph, SPEC, SIZES, seed=0, mesh=make_mesh(2, 2, jax.devices()[:4]))
    engine.load_weights(params, 0)
    weight = engine._params["layers"]["gate"][...]
    assert weight.whole.dtype == jnp.int8
    assert tuple(weight.whole.sharding.spec) == (None, "tensor", None)
    assert tuple(weight.scale.sharding.spec) == (None, "tensor")
    one = Engine(graph, SPEC, SIZES, seed=0)
    one.load_weights(jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), params), 0)
    found, wanted = sample(engine, requests(0.0)), sample(one, requests(0.0))
    assert {key: tokens for key, (tokens, _) in found.items()} == {key: tokens for key, (tokens, _) in wanted.items()}


def gaps(folder: Path, prompts: list[tuple[int, ...]], n: int, tokens: int) -> np.ndarray:
    """Between the log-probabilities of the sampler and those of the learner's weights, of every token drawn."""
    spec = load_spec(folder)
    graph, params = nnx.split(hf.load(folder))
    sizes = EngineSettings(
        slots=4, max_prompt_tokens=max(map(len, prompts)), max_new_tokens=tokens, page_size=16, weights_dtype="int8"
    )
    engine = Engine(graph, spec, sizes, seed=0)
    engine.load_weights(params, 0)
    for number, prompt in enumerate(prompts):
        engine.submit(Request(number, prompt, tokens, n=n))
    rollouts = list(engine.drain())
    engine.close()

    @jax.jit
    def logprobs(tokens_1xT):
        positions_1xT = jnp.arange(sizes.longest)[None]
        attend = segment_attention("xla", positions_1xT, jnp.ones_like(positions_1xT))
        model = nnx.merge(graph, params)
        hidden_1xTxD, _ = model.hidden(tokens_1xT, positions_1xT, attend, dtype=jnp.float32)
        return jax.nn.log_softmax(model.logits(hidden_1xTxD))

    found = []
    for rollout in rollouts:
        whole, start = [*rollout.request.prompt, *rollout.tokens], len(rollout.request.prompt)
        by_learner = logprobs(np.pad(whole, (0, sizes.longest - len(whole)))[None])[0]
        places = np.arange(start, len(whole)) - 1
        found.append(np.asarray(rollout.sampler_logprobs) - np.asarray(by_learner)[places, whole[start:]])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("nano:base", 48),
        pytest.param("HuggingFaceTB/SmolLM2-135M-Instruct", 32, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_the_gap_to_the_learner_is_below_0_02_nats_on_average(name, tokens):
    try:
        folder = resolve(name)
    except ModelNotFound as error:
        pytest.skip(str(error))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = gaps(folder, [tuple(tokenizer.encode(text)) for text in PROGRAMS], 2, tokens)
    print(f"{name}: mean {np.abs(found).mean():.4f}, largest {np.abs(found).max():.3f} of {len(found)} tokens")
    assert 0 < np.abs(found).mean() < 0.02
