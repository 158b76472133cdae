"""Sampling over a cache of eight bits: what it holds, that texts are the same alone and together, on one device and on
many, and how far its words are from those of the whole cache.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from azr_jax.config import flags
from azr_jax.models.sharding import LearnerRules, random_model, shardings
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import bytes_per_device, make_mesh, reshard
from azr_jax.rollout import paged_steps
from azr_jax.rollout.attention import CannotAttend, choose
from azr_jax.rollout.attention_check import check_attention
from azr_jax.rollout.eight_bits import in_eight_bits
from azr_jax.rollout.engine import Engine, EngineSettings
from azr_jax.rollout.programs import Programs
from azr_jax.run.memory_plan import page_bytes, with_pages
from tests.rollout.test_engine import SPEC as SMALL
from tests.rollout.test_engine import engine_of, model, sample  # noqa: F401 - fixtures
from tests.rollout.test_engine import requests as of_every_sort
from tests.rollout.test_int8 import SPEC, params, requests  # noqa: F401
from tests.rollout.test_int8 import sample as sample_int8

KEPT = {"quantization": "none", "kv_cache_dtype": "int8"}
SETTINGS = EngineSettings(
    slots=3, max_prompt_tokens=300, max_new_tokens=84, page_size=128, prefill_tokens=128, kv_cache_dtype="int8"
)
ON_TPU = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=128, mlp=64, tied=True)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-30, 30))
def test_a_number_is_off_by_half_a_step_at_the_most(seed, exponent):
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 10.0**exponent, (5, 2, 16)) * (rng.random((5, 2, 16)) < 0.5)).astype(np.float32)
    steps, scale = (np.asarray(of, np.float64) for of in in_eight_bits(jnp.asarray(x)))
    assert np.abs(steps).max(initial=0) <= 127 and (scale > 0).all()
    assert (np.abs(steps * scale[..., None] - x) <= 0.5001 * scale[..., None]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_pass_for_one(wrong):
    _, scale = in_eight_bits(jnp.ones((3, 16)).at[1, 4].set(wrong))
    assert np.isnan(np.asarray(scale)).tolist() == [False, True, False]


@pytest.fixture(scope="module")
def together(model):  # noqa: F811
    return sample(engine_of(model, kv_cache_dtype="int8"), of_every_sort())


@pytest.mark.parametrize("changes", [{}, {"pages": 25}, {"draft_tokens": 3}, {"prefill_rows": 64}])
def test_text_is_the_same_in_any_order_preempted_guessed_ahead_and_alone(model, together, changes):  # noqa: F811
    engine = engine_of(model, kv_cache_dtype="int8", **changes)
    if "prefill_rows" in changes:
        together = sample(engine, of_every_sort())  # another program reads prompts
    found = sample(engine, of_every_sort()[::-1])
    assert found == together
    assert ("pages" in changes) == (engine.metrics()["preemptions"] > 0)
    for request in of_every_sort(4):
        assert sample(engine, [request]) == {key: of for key, of in found.items() if key[0] == request.id}


def test_eight_replicas_say_what_one_device_says_to_the_last_bit(params):  # noqa: F811
    mesh = make_mesh(8, 1)
    there = reshard(params, shardings(SPEC, mesh, LearnerRules()))
    assert sample_int8(there, requests(1.0), mesh, **KEPT) == sample_int8(params, requests(1.0), **KEPT)


def test_a_layer_split_over_two_devices_says_the_same_when_greedy(params):  # noqa: F811
    mesh = make_mesh(4, 2)
    there = reshard(params, shardings(SPEC, mesh, LearnerRules()))
    split, alone = (sample_int8(*of, **KEPT) for of in ((there, requests(0.0), mesh), (params, requests(0.0))))
    assert all(split[key][0] == tokens for key, (tokens, *_) in alone.items())


@pytest.mark.parametrize("attention", ["xla", "gpu"])
def test_its_words_are_nearly_as_likely_as_those_of_the_whole_cache(params, attention):  # noqa: F811
    """Where both say the same greedily: the log-probability of each word by both."""
    eight = sample_int8(params, requests(0.0), attention=attention, **KEPT)
    whole = sample_int8(params, requests(0.0), attention=attention, quantization="none")
    gaps = [abs(a - b) for key in eight if eight[key][0] == whole[key][0] for a, b in zip(eight[key][1], whole[key][1])]
    assert len(gaps) > 100 and 0 < np.mean(gaps) < 0.05


def test_a_model_that_computes_nan_is_said_to(params):  # noqa: F811
    """Of values and keys that are none: their scale is none, too, so that it does not pass for a number."""
    spoiled = jax.tree.map(lambda x: x, params)
    spoiled["layers"]["v"].set_value(spoiled["layers"]["v"].get_value().at[0, 0, 0, 0].set(jnp.nan))
    assert {finish for *_, finish in sample_int8(spoiled, requests(1.0)[:3], **KEPT).values()} == {"nan"}


def test_what_is_under_way_goes_on_with_the_powers_its_keys_have(params):  # noqa: F811
    """Weights change beneath completions whose cache is kept, by so much that other powers would be taken for them."""
    after = jax.tree.map(lambda x: x, params)
    for number, size in enumerate((20.0, 45.0)):
        of = (params, after)[number]["layers"]["k_bias"]
        of.set_value(jnp.zeros_like(of.get_value()).at[..., jnp.array([1, SPEC.head_dim // 2 + 1])].set(size))
    graph, _ = nnx.split(nnx.eval_shape(lambda: random_model(SPEC, 0)))
    powers = [Programs(SPEC, kept_settings("int8")).key_powers(of) for of in (params, after)]
    assert (powers[0] != powers[1]).any()

    engine = Engine(graph, SPEC, kept_settings("int8"), seed=1)
    engine.load_weights(params, 3)
    for request in requests(0.0)[:4]:
        engine.submit(request)
    engine.step()

    def same(powers) -> bool:
        wanted = engine.programs.weights(after, powers)
        return all((a == b).all() for a, b in zip(jax.tree.leaves(engine._params), jax.tree.leaves(wanted)))

    engine.release_memory()
    engine.load_weights(after, 4)
    assert same(powers[0]) and not same(powers[1])
    list(engine.drain())
    engine.load_weights(after, 5)  # at rest
    assert same(powers[1])


def kept_settings(dtype: str) -> EngineSettings:
    sizes = {"slots": 8, "max_prompt_tokens": 100, "max_new_tokens": 30, "page_size": 8, "prefill_tokens": 32}
    return EngineSettings(**sizes, decode_steps=8, kv_cache="keep", kv_cache_dtype=dtype)


@pytest.mark.parametrize("attention", ["xla", "gpu"])
def test_it_is_as_large_as_the_plan_says(attention):
    settings = dataclasses.replace(SETTINGS, attention=attention)
    programs = Programs(ON_TPU, settings, make_mesh(1, 1, jax.devices()[:1]))
    assert bytes_per_device(programs.empty_cache()) == page_bytes(settings, ON_TPU, 1) * settings.pool
    there = jax.eval_shape(lambda: paged_steps.empty_cache(2, settings.pool, 128, 2, 128, jnp.int8))
    assert sum(of.size * of.dtype.itemsize for of in there) == page_bytes(settings, ON_TPU, 1) * settings.pool


def test_twice_as_many_pages_fit():
    many = dataclasses.replace(SETTINGS, slots=512, dtype="bfloat16")
    pages = [
        with_pages(dataclasses.replace(many, kv_cache_dtype=dtype), ON_TPU, 1, 2e8, 0).pages
        for dtype in ("same", "int8")
    ]
    assert 1.9 * pages[0] < pages[1] < 2 * pages[0]


@pytest.mark.parametrize("drafts", [0, 2])
@pytest.mark.parametrize("rows", [0, 64])
def test_the_kernel_passes_the_check_at_start(drafts, rows, monkeypatch):
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)  # as in test_tpu_kernel.py
    programs = Programs(ON_TPU, dataclasses.replace(SETTINGS, prefill_rows=rows, draft_tokens=drafts, slots=5))
    programs.backend = paged_steps
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        check_attention(programs)


@pytest.mark.parametrize("head_dim", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_an_engine_on_a_mesh_says_by_the_kernel_what_it_says_by_xla(head_dim, monkeypatch):
    """Two replicas of two devices; sequences enter and leave; guesses in empty rows."""
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)
    spec = dataclasses.replace(SMALL, heads=8, kv_heads=4, head_dim=head_dim)
    graph, weights = nnx.split(random_model(spec, 0))
    wanted = [dataclasses.replace(r, temperature=0.0, max_new_tokens=12) for r in of_every_sort(6)]

    def greedy(mesh=None, **changes):
        engine = Engine(graph, spec, dataclasses.replace(SETTINGS, slots=2, **changes), seed=0, mesh=mesh)
        engine.load_weights(weights, 0)
        return {key: tokens for key, (tokens, *_) in sample(engine, wanted).items()}

    by_xla = greedy(attention="xla")
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        found = greedy(make_mesh(2, 2, jax.devices()[:4]), attention="tpu_fused", draft_tokens=3)
    same = sum(found[key] == tokens for key, tokens in by_xla.items())
    assert len(found) == len(by_xla) and same >= 0.9 * len(by_xla)  # sums over halves of a layer round otherwise


@pytest.mark.parametrize(
    ("spec", "changes", "reason"),
    [
        ({}, {"attention": "tpu"}, "of eight bits it has one scale for all keys, not one for each"),
        ({"head_dim": 96}, {}, "it takes heads of 64 or 128 numbers, not 96"),
        ({}, {"dtype": "float16"}, "it takes bfloat16 and float32, not float16"),
        ({}, {"page_size": 64}, "of eight bits it takes a page_size that is a multiple of 128, not 64"),
        (
            {},
            {"page_size": 4096},
            "it takes pages of at most 1048576 bytes on a device, not 2097152: take a",
        ),
        ({}, {"draft_tokens": 32}, "of eight bits it takes draft_tokens below 32, not 32"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused_by_name(spec, changes, reason):
    mesh, changes = make_mesh(1, 1, jax.devices()[:1]), {"attention": "tpu_fused"} | changes
    with pytest.raises(CannotAttend, match=f"^attention={changes['attention']}: {re.escape(reason)}"):
        choose(dataclasses.replace(ON_TPU, **spec), dataclasses.replace(SETTINGS, **changes), mesh)


def test_eight_bits_without_importance_weights_are_refused():
    def problems(**fields: str) -> list[str]:
        return flags.load("configs/tiny.py", {name.replace("__", "."): value for name, value in fields.items()})[1]

    (said,) = problems(rollout__kv_cache_dtype="int8")
    assert said.startswith("learner.importance=none: with rollout.kv_cache_dtype=int8") and "should be token" in said
    assert len(problems(rollout__kv_cache_dtype="int8", rollout__quantization="int8")) == 2
    assert not problems(rollout__kv_cache_dtype="int8", learner__importance="token")
    (said,) = problems(rollout__kv_cache_dtype="fp8")
    assert said.startswith("rollout.kv_cache_dtype='fp8': should be same | int8")
    with pytest.raises(ValueError, match="kv_cache_dtype='fp8': should be one of same, int8"):
        dataclasses.replace(SETTINGS, kv_cache_dtype="fp8")
