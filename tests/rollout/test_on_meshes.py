"""Eight virtual devices: replicas side by side say what one device says, and layers split over devices nearly so."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.sharding import LearnerRules, random_model, shardings
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh, reshard
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.rollout.programs import Programs

SPEC = ModelSpec("qwen2", 320, 32, 2, 4, 2, 8, 64, True)
SETTINGS = EngineSettings(
    slots=16, max_prompt_tokens=100, max_new_tokens=40, page_size=8, prefill_tokens=32, decode_steps=8
)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(lambda x: 4 * x, nnx.split(random_model(SPEC, 0))[1])


def requests(temperature: float) -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request(
            i, tuple(rng.integers(0, 300, rng.integers(1, 90)).tolist()), 30, n=2, temperature=temperature, top_p=0.9
        )
        for i in range(24)
    ]


def sample(
    params,
    mesh,
    wanted: list[Request],
    slots: int = SETTINGS.slots,
    never: tuple[int, ...] = (),
    dropped_V: np.ndarray | None = None,
) -> dict:
    graph, _ = nnx.split(nnx.eval_shape(lambda: random_model(SPEC, 0)))
    settings = dataclasses.replace(SETTINGS, slots=slots, never=never, limits=dropped_V is not None)
    engine = Engine(graph, SPEC, settings, seed=1, mesh=mesh)
    engine.load_weights(params, 3, dropped_V)
    for request in wanted:
        engine.submit(request)
    found = {(r.request.id, r.sample): (r.tokens, r.logprobs, r.finish) for r in engine.drain()}
    assert engine.metrics()["compilations"] == 0
    return found


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_eight_replicas_say_what_one_device_says_to_the_last_bit(params, slots):
    """Slots are those of a replica: with other numbers of rows XLA adds up in another order, and rounds otherwise."""
    mesh = make_mesh(8, 1)
    learner_layout = reshard(params, shardings(SPEC, mesh, LearnerRules()))
    assert sample(learner_layout, mesh, requests(1.0), slots) == sample(params, None, requests(1.0), slots)


def test_limited_requests_do_without_dropped_tokens_and_others_are_what_they_were(params):
    dropped_V = np.random.default_rng(2).random(SPEC.vocab) < 0.5
    limited = [dataclasses.replace(request, limited=request.id % 2 == 0) for request in requests(1.0)]
    plain, some = sample(params, None, requests(1.0)), sample(params, None, limited, dropped_V=dropped_V)
    for (number, index), (tokens, logprobs, _) in some.items():
        if number % 2:
            assert tokens == plain[number, index][0]
            np.testing.assert_allclose(logprobs, plain[number, index][1], atol=1e-5)
        else:
            assert not dropped_V[list(tokens)].any()
    assert any(dropped_V[list(tokens)].any() for (number, _), (tokens, *_) in plain.items() if number % 2 == 0)
    # On a mesh the same, to the bit where a layer is not split.
    learner_layout = reshard(params, shardings(SPEC, make_mesh(8, 1), LearnerRules()))
    assert sample(learner_layout, make_mesh(8, 1), limited, dropped_V=dropped_V) == some
    greedy = [dataclasses.replace(request, limited=True) for request in requests(0.0)]
    alone, split = (sample(params, mesh, greedy, dropped_V=dropped_V) for mesh in (None, make_mesh(4, 2)))
    assert {key: tokens for key, (tokens, _, _) in split.items()} == {key: r[0] for key, r in alone.items()}
    with pytest.raises(ValueError, match="limited=True, should be False: this engine has no limits"):
        sample(params, None, limited)


def test_layers_split_over_two_devices_say_the_same_when_greedy(params):
    """Sums over two halves round differently, so numbers agree to 1e-4 and not to the bit."""
    alone, split = sample(params, None, requests(0.0)), sample(params, make_mesh(4, 2), requests(0.0))
    assert {key: tokens for key, (tokens, _, _) in split.items()} == {key: r[0] for key, r in alone.items()}
    for key, (_, logprobs, _) in alone.items():
        np.testing.assert_allclose(split[key][1], logprobs, atol=1e-4)


def test_what_is_never_drawn_is_drawn_on_no_device(params):
    never = tuple(range(0, SPEC.vocab, 2))
    split = sample(params, make_mesh(4, 2), requests(1.0)[:6], never=never)
    assert all(token % 2 for tokens, _, _ in split.values() for token in tokens)


def test_every_program_can_be_lowered_from_shapes_alone():
    names = [program.name for program in Programs(SPEC, SETTINGS, make_mesh(4, 2)).listing() if program.lower()]
    with_limits = Programs(SPEC, dataclasses.replace(SETTINGS, limits=True), make_mesh(4, 2)).listing()[-1]
    without = Programs(SPEC, SETTINGS, make_mesh(4, 2)).listing()[-1]
    mask = f"tensor<{SPEC.vocab}xi1>"
    assert mask in with_limits.lower().as_text() and mask not in without.lower().as_text()
    assert names == ["prefill of 8 tokens", "prefill of 16 tokens", "prefill of 32 tokens", "copy", "decode"]
