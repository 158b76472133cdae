"""Calls that read pieces of several prompts: the text is the one it is alone, and few rows hold nothing."""

from collections import deque

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.sharding import random_model
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout.engine import Engine, EngineSettings
from azr_jax.rollout.pieces import Reading, by_row, fill, nothing
from azr_jax.rollout.scheduler import Placement
from tests.rollout.test_engine import SPEC, engine_of, requests, sample

ROWS = 48  # one piece of 32 tokens and half of the next


@pytest.fixture(scope="module")
def model():
    graph, params = nnx.split(random_model(SPEC, 0))
    return graph, jax.tree.map(lambda x: 4 * x, params)


FEW_PAGES = {"prefill_rows": ROWS, "pages": 25}  # one set of programs for most of these: compiling takes the time


@pytest.fixture(scope="module")
def together(model):
    engine = engine_of(model, **FEW_PAGES)
    return sample(engine, requests()), engine.metrics()


def test_text_is_what_it_is_where_a_call_reads_one_piece(model, together):
    found, numbers = together
    for key, (tokens, logprobs, _, finish) in sample(engine_of(model), requests()).items():
        assert (found[key][0], found[key][3]) == (tokens, finish)
        np.testing.assert_allclose(found[key][1], logprobs, atol=2e-5)
    assert numbers["compilations"] == 0 and numbers["shared_prefix_tokens"] > 0
    assert numbers["preemptions"] > 0  # some were read twice
    assert 0.6 < numbers["prefill_occupancy"] <= 1


def test_text_is_the_same_in_any_order_and_alone_to_the_last_bit(model, together):
    engine = engine_of(model, **FEW_PAGES)
    assert sample(engine, requests()[::-1]) == together[0]
    for request in requests(6):
        engine.load_weights(model[1], 3)  # nothing is known of its prompt
        alone = sample(engine, [request])
        assert alone == {key: value for key, value in together[0].items() if key[0] == request.id}


@pytest.mark.slow
def test_replicas_say_the_same_to_the_last_bit(model, together):
    settings = engine_of(model, **FEW_PAGES).settings
    engine = Engine(model[0], SPEC, settings, seed=1, mesh=make_mesh(4, 1, jax.devices()[:4]))
    engine.load_weights(model[1], 3)
    assert sample(engine, requests()) == together[0]


def test_pieces_stand_side_by_side_and_what_does_not_fit_goes_on_in_the_next_call():
    one = Placement(tuple(range(100, 165)), 0, [3, 4, 5], (), None)
    two = Placement(tuple(range(200, 221)), 0, [6, 7], (), None)
    todo = deque([Reading(one, 16, 40, 64), Reading(two, 0, 20, 64), Reading(one, 0, 64, 64)])
    call = nothing(1, 64, 4, 4)
    assert fill(call, 0, todo, tile=16) == 24 + 20
    assert call.row[0].tolist() == [0, 32, 64, 64] and call.end[0].tolist() == [40, 20, 0, 0]
    assert call.token[0, 32:52].tolist() == list(range(200, 220)) and call.table[0, 0].tolist() == [3, 4, 5, 0]
    rows = by_row(jax.tree.map(lambda of_1: of_1[0], call))
    assert np.flatnonzero(rows.live).tolist() == [*range(24), *range(32, 52)]
    assert np.asarray(rows.position)[[0, 23, 32, 51]].tolist() == [16, 39, 0, 19]
    call = nothing(1, 64, 4, 4)
    todo.appendleft(Reading(two, 0, 20, 64))
    assert fill(call, 0, todo, tile=1) == 64
    assert call.row[0].tolist() == [0, 20, 64, 64] and todo == deque([Reading(one, 44, 64, 64)])


def test_rows_that_are_not_whole_tiles_are_refused():
    with pytest.raises(
        ValueError, match=r"prefill_rows=100: should be 0 \(a call reads one piece\) or a multiple of 16"
    ):
        EngineSettings(4, 8, 8, prefill_rows=100)


def test_tiles_divide_calls_and_chunks():
    """A prompt is cut where a call ends, and found again chunk by chunk: both at the beginning of a tile."""
    settings = EngineSettings(4, 100, 8, page_size=16, prefill_tokens=48, prefill_rows=320)
    assert (settings.tile(128), settings.tile(16), settings.tile(1)) == (16, 16, 1)
    wide = EngineSettings(4, 100, 8, page_size=64, prefill_tokens=128, prefill_rows=512)
    assert (wide.tile(128), wide.tile(16)) == (128, 16)
    assert EngineSettings(4, 100, 8, prefill_rows=0).tile(128) == 0  # a call reads one piece, all its rows are one tile
