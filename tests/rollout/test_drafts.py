"""Guessed tokens change how soon a text is there, and not the text: the same bits as without, whatever is guessed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_jax.models.sharding import random_model
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout import drafts
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from tests.rollout.test_engine import SPEC, STOP, engine_of, requests, sample


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 4 * x, params)


@pytest.fixture(scope="module")
def plain(model):
    return sample(engine_of(model), requests())


FEW = {"slots": 16, "pages": 25}  # one pair of programs for most of these: compiling takes the time


@pytest.mark.parametrize("sizes", [{"slots": 4}, FEW])
def test_text_and_log_probabilities_are_those_without_guesses_to_the_last_bit(model, plain, sizes):
    without = plain if sizes["slots"] == 4 else sample(engine_of(model, **sizes), requests())
    engine = engine_of(model, draft_tokens=5, **sizes)
    assert sample(engine, requests()) == without
    assert {key: value[0] for key, value in without.items()} == {key: value[0] for key, value in plain.items()}
    assert engine.metrics()["tokens_per_slot_step"] > 1 and engine.metrics()["compilations"] == 0


def test_alone_every_row_guesses_and_the_text_is_the_same(model):
    engine, without = engine_of(model, draft_tokens=5, **FEW), engine_of(model, **FEW)
    for request in requests(6):
        assert sample(engine, [request]) == sample(without, [request])


def test_a_text_that_repeats_itself_comes_several_tokens_at_a_time(model):
    """Greedy small models run in circles: then most guesses hold."""
    wanted = [Request(0, (5, 6, 7, 8) * 12, 40, temperature=0.0)]
    engine = engine_of(model, draft_tokens=5, **FEW)
    assert sample(engine, wanted) == sample(engine_of(model, **FEW), wanted)
    assert 1 < engine.metrics()["tokens_per_slot_step"] <= 6


def test_stop_and_length_end_a_text_within_a_row_of_guesses(model):
    """What was guessed and drawn behind the end is not said."""
    engine, without = engine_of(model, draft_tokens=5, **FEW), engine_of(model, **FEW)
    for new in range(1, 12):
        wanted = [Request(new, (5, 6, 7, 8) * 9, new, n=2, temperature=0.3, stop_ids=(STOP,))]
        assert sample(engine, wanted) == sample(without, wanted)


@pytest.mark.slow
def test_several_replicas(model):
    found = []
    for draft in (0, 4):
        sizes = EngineSettings(4, 100, 40, page_size=8, prefill_tokens=32, decode_steps=8, draft_tokens=draft)
        engine = Engine(model[0], SPEC, sizes, seed=1, mesh=make_mesh(2, 2, jax.devices()[:4]))
        engine.load_weights(model[1], 3)
        found.append({key: value[0] for key, value in sample(engine, requests()).items()})
    assert found[0] == found[1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_guess_is_what_followed_the_longest_of_the_last_three_tokens(history, draft):
    padded = np.zeros((1, 40), np.int32)
    padded[0, : len(history)] = history
    found = np.asarray(drafts.guesses(jnp.asarray(padded), jnp.array([len(history) - 1]), draft))[0].tolist()

    def alike(at: int) -> int:
        last = len(history) - 1
        return next((n for n in range(3) if at < n or last < n or history[at - n] != history[last - n]), 3)

    places = [at for at in range(len(history) - 1) if alike(at)]
    if not places:
        assert found == history[-1:] * draft
        return
    best = max(places, key=lambda at: (alike(at), at))
    after = history[best + 1 :]
    assert found == [after[number % len(after)] for number in range(draft)]


def test_fewer_than_no_guesses_are_refused():
    with pytest.raises(ValueError, match="draft_tokens=-1: should be 0"):
        EngineSettings(4, 8, 8, draft_tokens=-1)
