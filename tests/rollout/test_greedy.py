"""Greedy text equals a plain loop without a cache, token for token: a tiny model of each family, and SmolLM2-135M."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models import hf
from azr_jax.models.attention import segment_attention
from azr_jax.models.sharding import random_model
from azr_jax.models.source import ModelNotFound, resolve
from azr_jax.models.spec import ModelSpec, load_spec
from azr_jax.rollout.engine import Engine, EngineSettings, Request

FAMILIES = {
    "qwen2": ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True),
    "qwen3": ModelSpec("qwen3", 300, 32, 2, 4, 2, 16, 64, False),
    "llama": ModelSpec("llama", 300, 32, 2, 4, 1, 8, 64, True),
    "gemma3": ModelSpec(
        "gemma3_text", 300, 32, 3, 4, 1, 16, 64, True, windowed=(0, 2), window=11, rope_factor=2.0, score_scalar=9
    ),
}
WRITTEN = 8  # tokens of each completion


def prompts_of(count: int, longest: int, vocab: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    return [tuple(rng.integers(0, vocab, rng.integers(1, longest + 1)).tolist()) for _ in range(count)]


def plain_loop(graph, params, prompts, rows: int) -> list[tuple[int, ...]]:
    """Reads the whole text again for every token. Rows are padded at the end, which nothing before it sees."""
    longest = max(map(len, prompts)) + WRITTEN

    @jax.jit
    def likeliest(tokens_BxT, last_B):
        positions_BxT = jnp.broadcast_to(jnp.arange(longest), tokens_BxT.shape)
        model = nnx.merge(graph, params)
        attend = segment_attention("xla", positions_BxT, jnp.ones_like(positions_BxT))
        x_BxTxD = model.hidden(tokens_BxT, positions_BxT, attend, dtype=jnp.float32)[0]
        return model.logits(x_BxTxD[jnp.arange(rows), last_B]).argmax(axis=-1)

    found = []
    for start in range(0, len(prompts), rows):
        chosen = prompts[start : start + rows]
        tokens_BxT, length_B = np.zeros((rows, longest), np.int32), np.ones(rows, np.int32)
        for row, prompt in enumerate(chosen):
            tokens_BxT[row, : len(prompt)], length_B[row] = prompt, len(prompt)
        for step in range(WRITTEN):
            tokens_BxT[np.arange(rows), length_B + step] = likeliest(tokens_BxT, length_B + step - 1)
        found += [tuple(tokens_BxT[row, length_B[row] :][:WRITTEN].tolist()) for row in range(len(chosen))]
    return found


def engine_texts(graph, params, spec, prompts, **sizes) -> list[tuple[int, ...]]:
    settings = EngineSettings(max_prompt_tokens=max(map(len, prompts)), max_new_tokens=WRITTEN, **sizes)
    engine = Engine(graph, spec, settings, seed=0)
    engine.load_weights(params, 0)
    for number, prompt in enumerate(prompts):
        engine.submit(Request(number, prompt, WRITTEN, temperature=0.0))
    found = {rollout.request.id: rollout.tokens for rollout in engine.drain()}
    return [found[number] for number in range(len(prompts))]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hundred_prompts_on_a_tiny_model_of_each_family(family):
    spec = FAMILIES[family]
    graph, params = nnx.split(random_model(spec, 0))
    params = jax.tree.map(lambda x: 4 * x, params)
    prompts = prompts_of(100, 90, spec.vocab)
    ours = engine_texts(graph, params, spec, prompts, slots=8, page_size=8, prefill_tokens=32)
    assert ours == plain_loop(graph, params, prompts, rows=20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_prompts_on_smollm2():
    try:
        folder = resolve("HuggingFaceTB/SmolLM2-135M-Instruct")
    except ModelNotFound as error:
        pytest.skip(str(error))
    spec = load_spec(folder)
    graph, params = nnx.split(hf.load(folder))
    prompts = prompts_of(100, 120, spec.vocab)
    ours = engine_texts(graph, params, spec, prompts, slots=16, page_size=32)
    assert ours == plain_loop(graph, params, prompts, rows=10)
