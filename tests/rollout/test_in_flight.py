"""Weights that change beneath completions under way: these go on, and every token knows which weights drew it."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.sharding import random_model
from azr_jax.rollout.engine import Request
from azr_jax.rollout.requests import EngineSettings
from tests.rollout.test_engine import SPEC, engine_of, model, requests, sample, together  # noqa: F401 - fixtures

LONG = [Request(i, (9, 8, i + 1), 40) for i in range(3)]


def swapped(engine, params, wanted, *, after=2):
    """Samples with other weights from round `after` on, as an update between two decode calls brings them."""
    for request in wanted:
        engine.submit(request)
    found = [rollout for _ in range(after) for rollout in engine.step()]
    engine.release_memory()
    engine.load_weights(params, 4)
    return {(r.request.id, r.sample): r for r in (*found, *engine.drain())}


@pytest.fixture(scope="module")
def other():
    return jax.tree.map(lambda x: 4 * x, nnx.split(random_model(SPEC, 1))[1])


def test_with_the_same_weights_again_the_kept_cache_changes_not_a_bit(model, together):  # noqa: F811
    found = swapped(engine_of(model, kv_cache="keep"), model[1], [with_iteration(r, 3) for r in requests()])
    plain = {(i & 0xFFFFFFFF, s): (r.tokens, r.logprobs, r.sampler_logprobs, r.finish) for (i, s), r in found.items()}
    assert plain == together[0]
    assert {v for r in found.values() for v in r.versions} == {3, 4}
    assert all(len(r.versions) == len(r.tokens) and list(r.versions) == sorted(r.versions) for r in found.values())


def test_read_again_it_says_the_same_and_nothing_stayed_in_memory(model, together):  # noqa: F811
    engine = engine_of(model, kv_cache="recompute")
    wanted = [with_iteration(r, 3) for r in requests()]
    found = swapped(engine, model[1], wanted)
    for (number, one), rollout in found.items():
        tokens, logprobs, *_ = together[0][number & 0xFFFFFFFF, one]
        assert rollout.tokens == tokens
        np.testing.assert_allclose(rollout.logprobs, logprobs, atol=2e-5)
    assert engine._scheduler.pages_in_use == 0
    for request in LONG:
        engine.submit(request)
    engine.step()
    engine.release_memory()
    assert engine._cache is None and engine.busy


@pytest.mark.parametrize("cache", ["keep", "recompute"])
def test_what_comes_after_is_what_the_new_weights_say(model, other, cache):  # noqa: F811
    """Greedy, so that each text is a plain function of its weights: before the change the old ones', then the new's."""
    greedy = [dataclasses.replace(request, temperature=0.0) for request in LONG]
    old = sample(engine_of(model), greedy)
    engine = engine_of(model, kv_cache=cache)
    found = swapped(engine, other, greedy)
    for (number, _), rollout in found.items():
        before = rollout.versions.count(3)
        assert 0 < before < 40 and rollout.tokens[:before] == old[number, 0][0][:before]
        # Asked anew with what was written as its prompt: that is the text read again, and goes on as it did.
        whole = Request(number, (*greedy[number].prompt, *rollout.tokens[:before]), 40 - before, temperature=0.0)
        (again,) = sample(engine, [whole]).values()
        assert (again[0] == rollout.tokens[before:]) or cache == "keep"
        assert rollout.tokens[before:] != old[number, 0][0][before:]


def test_a_completion_put_off_for_want_of_pages_forgets_which_weights_drew_it(model, other):  # noqa: F811
    engine = engine_of(model, kv_cache="keep", pages=19)
    found = swapped(engine, other, [with_iteration(r, 3) for r in requests()], after=4)
    assert engine._scheduler.pages_in_use == 0 and len(found) == sum(r.n for r in requests())
    assert all(len(r.versions) == len(r.tokens) for r in found.values())


def with_iteration(request: Request, iteration: int) -> Request:
    return dataclasses.replace(request, id=iteration << 32 | request.id)


def test_the_iteration_in_an_id_is_whose_randomness_it_has(model, together):  # noqa: F811
    engine = engine_of(model)
    engine.load_weights(model[1], 77)
    found = sample(engine, [with_iteration(r, 3) for r in requests()])
    assert {(i & 0xFFFFFFFF, s): what for (i, s), what in found.items()} == together[0]


def test_two_iterations_may_ask_under_the_same_number_and_the_earlier_one_goes_first(model):  # noqa: F811
    engine = engine_of(model, slots=2)
    later, sooner = ([with_iteration(r, t) for r in LONG] for t in (5, 4))
    found = list(sample(engine, [*later, *sooner]))
    assert [i >> 32 for i, _ in found] == [4, 4, 4, 5, 5, 5]
    assert engine.has_room


def test_a_slot_is_free_for_more_only_where_nobody_waits(model):  # noqa: F811
    engine = engine_of(model, slots=2)
    rooms = []
    for request in LONG:
        engine.submit(request)
        engine.step()
        rooms.append(engine.has_room)
    assert rooms == [True, False, False]


def test_an_unknown_way_is_refused_by_name():
    with pytest.raises(ValueError, match="kv_cache='drop': should be empty, or one of keep, recompute"):
        EngineSettings(4, 8, 8, kv_cache="drop")
