"""The backend for GPUs, on a CPU: it sees what the XLA backend sees, at every width; a whole engine says the same."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout import paged_gpu, paged_xla
from azr_jax.rollout.attention import choose
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.rollout.pieces import by_row
from tests.rollout.test_tpu_kernel import pieces

K, PAGE, PAGES, LAYERS = 16, 8, 20, 2
SPEC = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=K, mlp=64, tied=True)
SETTINGS = EngineSettings(
    slots=3, max_prompt_tokens=40, max_new_tokens=56, page_size=8, prefill_tokens=16, decode_steps=8, pages=21
)
BOTH = paged_xla, paged_gpu


def filled(rng: np.random.Generator, kv_heads: int) -> list[Any]:
    """The cache of either backend, every page of every layer written with the same numbers; page 0 holds NaN."""
    caches: list[Any] = [b.empty_cache(LAYERS, PAGES, PAGE, kv_heads, K, jnp.float32) for b in BOTH]
    for layer in range(LAYERS):
        k, v = (rng.normal(size=(1, PAGES * PAGE, kv_heads, K)).astype(np.float32) for _ in range(2))
        k[:, :PAGE] = v[:, :PAGE] = np.nan
        caches = [
            one.write_chunk(
                jnp.asarray(k), jnp.asarray(v), cache, layer, *jnp.divmod(jnp.arange(PAGES * PAGE), PAGE), PAGE
            )
            for one, cache in zip(BOTH, caches)
        ]
    return caches


@pytest.mark.parametrize(("heads", "kv_heads"), [(7, 1), (4, 2)])
@pytest.mark.parametrize("window", [None, 12])
def test_slots_see_what_they_see_by_xla(heads, kv_heads, window):
    """A page's last token, a page's first, one token; a slot is off between others."""
    rng = np.random.default_rng(heads)
    position_S = jnp.array([63, 40, 15, 8, 0, 5])
    on_S = jnp.array([True, False, True, True, True, True])
    table_SxM = rng.permuted(np.tile(np.arange(1, PAGES), (6, 1)), axis=1)[:, :8]
    table_SxM[np.arange(8) > np.asarray(position_S)[:, None] // PAGE] = 0  # what is not reached may hold anything
    q, k, v = (jnp.asarray(rng.normal(size=(6, 1, h, K)), jnp.float32) for h in (heads, kv_heads, kv_heads))
    page_S = jnp.where(on_S, table_SxM[np.arange(6), position_S // PAGE], PAGES)
    found = []
    for backend, cache in zip(BOTH, filled(rng, kv_heads)):
        cache = backend.write_slots(k, v, cache, 1, page_S, position_S % PAGE)
        out = backend.attend_slots(q, cache, 1, jnp.asarray(table_SxM, jnp.int32), position_S, on_S, window)
        assert out.shape == q.shape and out.dtype == q.dtype
        found.append(np.asarray(out)[np.asarray(on_S)])
    np.testing.assert_allclose(found[1], found[0], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("ends", [(61,), (16,), (0,), (61, 16, 5)])
@pytest.mark.parametrize("window", [None, 12])
def test_pieces_of_prompts_see_what_they_see_by_xla(ends, window):
    """The last chunk of a long prompt, with padding; a first one, without; none, for a replica that has none; three."""
    rng = np.random.default_rng(ends[0])
    wanted = []
    for number, end in enumerate(ends):
        table = rng.permutation(np.arange(1, PAGES))[:9]
        table[-(-end // PAGE) :] = 0
        wanted.append((16 * number, max(0, end - 1) // 16 * 16, end, table))
    call = pieces(16 * len(ends), *wanted)
    q = jnp.asarray(rng.normal(size=(1, 16 * len(ends), 4, K)), jnp.float32)
    found = [
        np.asarray(one.attend_chunk(q, cache, 1, call, by_row(call), 16, window))[0, np.asarray(by_row(call).live)]
        for one, cache in zip(BOTH, filled(rng, 2))
    ]
    assert np.isfinite(found[1]).all()
    np.testing.assert_allclose(found[1], found[0], atol=2e-6, rtol=2e-5)


def said(backend: str, mesh=None, temperature=0.0, **settings) -> dict:
    graph, params = nnx.split(random_model(SPEC, 0))
    settings = dataclasses.replace(SETTINGS, attention=backend, **settings)
    engine = Engine(graph, SPEC, settings, seed=0, mesh=mesh)
    engine.load_weights(jax.tree.map(lambda x: 4 * x, params), 1)
    rng = np.random.default_rng(0)
    for number, length in enumerate((40, 33, 17, 16, 5, 1)):
        prompt = tuple(rng.integers(0, SPEC.vocab, length).tolist())
        engine.submit(Request(number, prompt, 56 - 2 * number, n=1 + number % 2, temperature=temperature))
    return {(one.request.id, one.sample): (one.tokens, one.logprobs) for one in engine.drain()}


@pytest.mark.parametrize(("drafts", "rows"), [(0, 0), (3, 32)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_engine_says_what_it_says_by_xla(temperature, drafts, rows):
    """Contexts of 1 to 96 tokens, so all widths of 3, 6 and 12 pages; sequences enter, leave, and are preempted."""
    by_xla = said("xla", temperature=temperature)
    by_gpu = said("gpu", temperature=temperature, draft_tokens=drafts, prefill_rows=rows)
    assert {key: tokens for key, (tokens, _) in by_gpu.items()} == {key: tokens for key, (tokens, _) in by_xla.items()}
    for key, (_, logprobs) in by_xla.items():
        np.testing.assert_allclose(by_gpu[key][1], logprobs, atol=1e-4)


def test_replicas_with_split_heads_say_the_same():
    alone, split = said("gpu"), said("gpu", make_mesh(2, 2, jax.devices()[:4]))
    assert {key: tokens for key, (tokens, _) in alone.items()} == {key: tokens for key, (tokens, _) in split.items()}


def test_a_call_is_as_wide_as_its_longest_sequence_needs(monkeypatch):
    """With short sequences alone, what the widest branch would give is never seen: here it gives nothing at all."""
    short = {"max_prompt_tokens": 40, "max_new_tokens": 8, "pages": 0, "decode_steps": 2}
    wanted, attend = said_short(short), paged_gpu._attend

    def narrow_alone(q, cache, layer, table_SxM, position, window):
        out = attend(q, cache, layer, table_SxM, position, window)
        return out if q.shape[1] > 1 or table_SxM.shape[1] <= 2 else out * jnp.nan

    monkeypatch.setattr(paged_gpu, "_attend", narrow_alone)
    jax.clear_caches()
    assert said_short(short | {"slots": 4}) == wanted


def said_short(settings) -> list:
    graph, params = nnx.split(random_model(SPEC, 0))
    engine = Engine(graph, SPEC, dataclasses.replace(SETTINGS, attention="gpu", **settings), seed=0)
    engine.load_weights(params, 1)
    for number in range(3):
        engine.submit(Request(number, (number + 1,) * 4, 8, temperature=0.0))
    return sorted((one.request.id, one.tokens) for one in engine.drain())


def test_by_itself_the_engine_takes_it_on_a_gpu_alone():
    mesh = make_mesh(1, 1, jax.devices()[:1])
    gpu: Any = SimpleNamespace(devices=np.array([SimpleNamespace(platform="gpu")]), shape=mesh.shape)
    assert choose(SPEC, SETTINGS, gpu) is paged_gpu
    assert choose(SPEC, SETTINGS, mesh) is paged_xla
    assert choose(SPEC, dataclasses.replace(SETTINGS, attention="xla"), gpu) is paged_xla
