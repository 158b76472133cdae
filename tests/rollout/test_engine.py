"""A request's text depends on itself alone, and is what the model says: shown on a small random model, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.attention import segment_attention
from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import Engine, EngineSettings, Request

SPEC = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True)
STOP = 7


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 4 * x, params)  # sharper than at birth, so that words differ in likelihood


def requests(count: int = 20) -> list[Request]:
    """Lengths, knobs and common beginnings of every sort, always the same."""
    rng = np.random.default_rng(0)
    common = tuple(rng.integers(0, 300, 40).tolist())
    return [
        Request(
            i,
            (common if i % 2 else ()) + tuple(rng.integers(0, 300, rng.integers(1, 60)).tolist()),
            int(rng.integers(1, 41)),
            n=int(rng.integers(1, 4)),
            temperature=(0.0, 1.0, 0.7)[i % 3],
            top_k=(0, 5)[i % 2],
            top_p=(1.0, 0.9)[i % 2],
            stop_ids=(STOP,),
        )
        for i in range(count)
    ]


def engine_of(model, **changes) -> Engine:
    sizes = {"slots": 4, "max_prompt_tokens": 100, "max_new_tokens": 40, "page_size": 8, "prefill_tokens": 32}
    graph, params = model
    engine = Engine(graph, SPEC, EngineSettings(**(sizes | {"decode_steps": 8} | changes)), seed=1)
    engine.load_weights(params, 3)
    return engine


def sample(engine: Engine, wanted: list[Request]) -> dict:
    for request in wanted:
        engine.submit(request)
    return {(r.request.id, r.sample): (r.tokens, r.logprobs, r.sampler_logprobs, r.finish) for r in engine.drain()}


@pytest.fixture(scope="module")
def together(model):
    engine = engine_of(model)
    return sample(engine, requests()), engine.metrics()


def test_every_sample_of_every_request_comes_back_once_and_ends_as_it_should(together):
    rollouts, numbers = together
    assert set(rollouts) == {(request.id, sample) for request in requests() for sample in range(request.n)}
    by_id = {request.id: request for request in requests()}
    for (request_id, _), (tokens, logprobs, _, finish) in rollouts.items():
        assert len(tokens) == len(logprobs) <= by_id[request_id].max_new_tokens
        assert finish == ("stop" if tokens[-1] == STOP else "length")
    assert numbers["compilations"] == 0 and numbers["shared_prefix_tokens"] > 0


def test_text_is_the_same_in_any_order_to_the_last_bit(model, together):
    assert sample(engine_of(model), requests()[::-1]) == together[0]


def test_text_is_the_same_when_pages_run_out_and_completions_are_put_off(model, together):
    engine = engine_of(model, pages=25)
    assert sample(engine, requests()) == together[0]
    assert engine.metrics()["preemptions"] > 0


def test_text_is_the_same_alone(model, together):
    engine = engine_of(model)
    for request in requests(4):
        alone = sample(engine, [request])
        assert alone == {key: value for key, value in together[0].items() if key[0] == request.id}


def test_text_is_the_same_alone_where_prompts_are_read_in_pieces_of_512(model):
    """Long prompts, some with a common beginning that is read once; the last piece of each has a shape of its own."""
    rng, sizes = np.random.default_rng(2), {"max_prompt_tokens": 1200, "prefill_tokens": 512, "page_size": 64}
    common = tuple(rng.integers(0, 300, 600).tolist())
    wanted = [
        Request(number, (common if number % 2 else ()) + tuple(rng.integers(0, 300, length).tolist()), 6)
        for number, length in enumerate((513, 40, 700, 511))
    ]
    engine = engine_of(model, **sizes)
    found = sample(engine, wanted)
    assert engine.metrics()["shared_prefix_tokens"] == 512
    alone = engine_of(model, **sizes)
    for request in wanted:
        assert sample(alone, [request]) == {key: value for key, value in found.items() if key[0] == request.id}


def test_text_is_the_same_with_as_many_slots_as_recipes_have():
    """Heads as wide as nano's, and 64 slots of which many are taken, or few: log-probabilities differed by 1e-5."""
    spec = ModelSpec("llama", 300, 160, 2, 5, 5, 32, 128, True)
    model, rng = nnx.split(random_model(spec, 0)), np.random.default_rng(3)
    wanted = [
        Request(number, tuple(rng.integers(0, 300, length).tolist()), 24, n=2)
        for number, length in enumerate(rng.integers(2, 90, 40))
    ]
    settings = EngineSettings(slots=64, max_prompt_tokens=100, max_new_tokens=40, page_size=32, decode_steps=8)
    engine = Engine(model[0], spec, settings, seed=1)
    engine.load_weights(model[1], 3)
    found = sample(engine, wanted)
    assert sample(engine, wanted[::-1]) == found
    alone = [sample(engine, [request]) for request in wanted[:6]]
    assert {key: value for one in alone for key, value in one.items()} == {
        key: found[key] for one in alone for key in one
    }


def test_text_is_the_same_after_a_restart(model, together):
    """An engine that has played another iteration, and a new one that takes over in the middle of this."""
    wanted, engine = requests(), engine_of(model)
    engine.load_weights(model[1], 2)
    before = sample(engine, wanted)
    assert before.keys() == together[0].keys() and before != together[0]
    engine.load_weights(model[1], 3)
    found = sample(engine, wanted[:7]) | sample(engine_of(model), wanted[7:])
    assert found == together[0]


def test_log_probabilities_are_those_of_a_plain_forward_and_greedy_is_its_likeliest(model, together):
    graph, params = model

    @jax.jit
    def logprobs(tokens_1xT):
        positions = jnp.arange(tokens_1xT.shape[1])[None]
        network = nnx.merge(graph, params)
        attend = segment_attention("xla", positions, jnp.ones_like(positions))
        return jax.nn.log_softmax(network.logits(network.hidden(tokens_1xT, positions, attend, dtype=jnp.float32)[0]))

    by_id = {request.id: request for request in requests()}
    for (request_id, _), (tokens, found, _, _) in together[0].items():
        request = by_id[request_id]
        whole = np.zeros((1, 160), np.int32)
        whole[0, : len(request.prompt) + len(tokens)] = request.prompt + tokens
        plain_NxV = np.asarray(logprobs(whole))[0, len(request.prompt) - 1 :][: len(tokens)]
        np.testing.assert_allclose(plain_NxV[np.arange(len(tokens)), tokens], found, atol=1e-4)
        if request.temperature == 0:
            assert plain_NxV.argmax(axis=1).tolist() == list(tokens)


def test_nothing_is_left_in_the_cache_at_the_end(model):
    engine = engine_of(model)
    sample(engine, requests(6))
    assert engine._scheduler.pages_in_use == 0 and not engine.busy


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": ()}, "prompt"),
        ({"prompt": (1,) * 101}, "100"),
        ({"prompt": (1, 300)}, "299"),
        ({"n": 0}, "n="),
        ({"max_new_tokens": 41}, "40"),
    ],
)
def test_a_wrong_request_is_refused_by_name(model, changes, named):
    fields = {"id": 5, "prompt": (1, 2), "max_new_tokens": 4} | changes
    with pytest.raises(ValueError, match=named):
        engine_of(model).submit(Request(**fields))


def test_at_rest_it_holds_nothing_and_afterwards_all_is_as_before(model, together):
    engine = engine_of(model)
    pool = sum(array.nbytes for array in jax.tree.leaves(engine._cache))
    before = sum(array.nbytes for array in jax.live_arrays())
    engine.release_memory()
    assert sum(array.nbytes for array in jax.live_arrays()) <= before - pool
    with pytest.raises(RuntimeError, match="without load_weights"):
        engine.step()
    engine.load_weights(model[1], 3)
    assert sample(engine, requests()) == together[0]
    assert engine.metrics()["compilations"] == 0
    engine.submit(requests(1)[0])
    with pytest.raises(RuntimeError, match="under way"):
        engine.release_memory()
