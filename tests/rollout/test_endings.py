"""How completions end other than by their own length: stop strings, cancelling, NaN, callbacks that fail."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import random_model
from azr_jax.rollout.engine import Engine, EngineSettings, Request

SPEC = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, True)
POISON = 299  # its row of the embedding is NaN in the poisoned model


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 4 * x, params)


def text_of(tokens) -> str:
    return "".join(chr(0x4E00 + token) for token in tokens)


def engine_of(model, params=None) -> Engine:
    sizes = {"slots": 4, "max_prompt_tokens": 100, "max_new_tokens": 40, "page_size": 8, "prefill_tokens": 32}
    engine = Engine(model[0], SPEC, EngineSettings(**sizes, decode_steps=8), seed=1, decode_text=text_of)
    engine.begin(model[1] if params is None else params, 3)
    return engine


def sample(engine: Engine, *wanted: Request) -> dict:
    for request in wanted:
        engine.submit(request)
    return {(r.request.id, r.sample): r for r in engine.drain()}


def test_a_stop_string_cuts_after_the_first_token_that_completes_it(model):
    engine = engine_of(model)
    free = sample(engine, Request(1, (5, 6, 7), 30))[1, 0]
    stop = text_of(free.tokens[9:11])
    at = text_of(free.tokens).index(stop) + len(stop)
    stopped = sample(engine, Request(1, (5, 6, 7), 30, stop_strings=(stop,)))[1, 0]
    assert (stopped.finish, stopped.tokens, stopped.logprobs) == ("stop", free.tokens[:at], free.logprobs[:at])


def test_a_stop_string_that_never_comes_changes_nothing(model):
    engine = engine_of(model)
    free = sample(engine, Request(1, (5, 6, 7), 30))[1, 0]
    other = sample(engine, Request(1, (5, 6, 7), 30, stop_strings=("never",)))[1, 0]
    assert (other.finish, other.tokens) == ("length", free.tokens)


def test_cancelling_gives_back_what_was_written_and_what_had_not_begun(model):
    engine = engine_of(model)
    whole = sample(engine, Request(2, (9,) * 20, 40))[2, 0]
    engine.submit(Request(1, (5, 6, 7), 40, n=6))
    engine.submit(Request(2, (9,) * 20, 40))
    engine.step()
    gone = engine.cancel(1)
    assert len(gone) == 6 and {r.finish for r in gone} == {"cancelled"}
    assert sorted(len(r.tokens) for r in gone)[:2] == [0, 0] and max(len(r.tokens) for r in gone) > 0
    left = list(engine.drain())
    assert [(r.request.id, r.tokens) for r in left] == [(2, whole.tokens)]
    assert engine._scheduler.pages_in_use == 0


def test_nan_ends_its_own_request_and_no_other_even_in_reused_pages():
    untied = ModelSpec("qwen2", 300, 32, 2, 4, 2, 8, 64, False)
    graph, clean = nnx.split(random_model(untied, 0))
    clean = jax.tree.map(lambda x: 4 * x, clean)
    poisoned = jax.tree.map(lambda x: x, clean)
    poisoned["embed"][...] = clean["embed"][...].at[POISON].set(jnp.nan)
    sizes = {"slots": 2, "max_prompt_tokens": 60, "max_new_tokens": 20, "page_size": 8, "pages": 12}
    engine = Engine(graph, untied, EngineSettings(**sizes, prefill_tokens=16, decode_steps=4), seed=1)
    healthy = [Request(i, tuple(range(i, i + 25)), 12) for i in range(10, 16)]
    engine.begin(clean, 0)
    expected = {key: r.tokens for key, r in sample(engine, *healthy).items()}
    engine.begin(poisoned, 0)
    sick = [Request(i, (3,) * 30 + (POISON,) + (4,) * 10, 12) for i in range(3)]
    mixed = sample(engine, *[r for pair in zip(sick, healthy) for r in pair], *healthy[3:])
    nan = {key for key, r in mixed.items() if r.finish == "nan"}
    assert {(0, 0), (1, 0), (2, 0)} <= nan and engine.metrics()["nan"] == len(nan)
    for key, tokens in expected.items():
        if POISON not in tokens:
            assert mixed[key].tokens == tokens


def test_a_failing_callback_stops_nobody(model):
    engine, seen = engine_of(model), []

    def fails(rollout):
        seen.append(rollout.request.id)
        raise RuntimeError("the caller's fault")

    done = sample(engine, Request(1, (5,), 5, on_done=fails), Request(2, (6,), 9, on_done=lambda r: seen.append(2)))
    assert set(done) == {(1, 0), (2, 0)} and seen == [1, 2]
    assert engine.metrics()["failed_callbacks"] == 1


def test_a_callback_may_submit_more(model):
    engine = engine_of(model)
    more = Request(2, (6, 7), 4)
    done = sample(engine, Request(1, (5,), 5, on_done=lambda r: engine.submit(more)))
    assert set(done) == {(1, 0), (2, 0)}


def test_a_limit_the_cache_can_never_hold_is_refused(model):
    settings = EngineSettings(slots=2, max_prompt_tokens=100, max_new_tokens=40, page_size=8, pages=10)
    engine = Engine(model[0], SPEC, settings, seed=0)
    with pytest.raises(ValueError, match="at most 72"):
        engine.submit(Request(1, (5,) * 60, 20))


def test_begin_is_refused_while_something_is_under_way(model):
    engine = engine_of(model)
    engine.submit(Request(1, (5,), 5))
    with pytest.raises(RuntimeError, match="under way"):
        engine.begin(model[1], 4)
