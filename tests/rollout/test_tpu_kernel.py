"""The TPU backend, its kernel interpreted on a CPU, sees what the XLA backend sees, and a whole engine says the same.

Left out: what one step of the kernel's grid hands to the next. The interpreter that knows the kernel's views of memory
forgets it (so pieces here go through their context at once), the one that keeps it does not know those views.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas import tpu as pltpu

from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout import paged_fused, paged_tpu, paged_xla
from azr_jax.rollout.attention import choose
from azr_jax.rollout.engine import Engine, EngineSettings, Request
from azr_jax.rollout.pieces import Call, by_row, nothing

K, PAGE, PAGES, LAYERS = 128, 128, 16, 2  # the kernel reads four such pages together
SPEC = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=K, mlp=64, tied=True)
SETTINGS = EngineSettings(
    slots=2, max_prompt_tokens=40, max_new_tokens=24, page_size=16, prefill_tokens=16, decode_steps=8, pages=6
)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Kernels run as plain XLA, whose interpreter asks constant indices for a shape that JAX's own class lacks."""
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        yield


def normal(rng: np.random.Generator, *shape: int, dtype) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), dtype)


def filled(rng: np.random.Generator, kv_heads: int, dtype) -> list:
    """The cache of either backend, every page of every layer written with the same numbers; page 0 holds NaN."""
    caches = [b.empty_cache(LAYERS, PAGES, PAGE, kv_heads, K, dtype) for b in (paged_xla, paged_tpu)]
    for layer in range(LAYERS):
        k, v = (normal(rng, 1, PAGES * PAGE, kv_heads, K, dtype=dtype).at[:, :PAGE].set(np.nan) for _ in range(2))
        write, at = [paged_xla.write_chunk, paged_tpu.write_chunk], jnp.divmod(jnp.arange(PAGES * PAGE), PAGE)
        caches = [one(k, v, cache, layer, *at, PAGE) for one, cache in zip(write, caches)]
    return caches


def pieces(rows: int, *wanted: tuple[int, int, int, Any]) -> Call:
    """(first row, start, end, pages) of each piece of a call of so many rows."""
    call = jax.tree.map(lambda of_1: of_1[0], nothing(1, rows, max(1, rows // 16), len(wanted[0][3])))
    for number, (row, start, end, table) in enumerate(wanted):
        call.row[number], call.start[number], call.end[number], call.table[number] = row, start, end, table
    return jax.tree.map(jnp.asarray, call)


@pytest.mark.parametrize(("heads", "kv_heads"), [(7, 1), (4, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.bfloat16, 2e-2), (jnp.float32, 2e-5)])
def test_slots_see_what_they_see_by_xla(heads, kv_heads, dtype, tolerance):
    """Many blocks, a page's last token, a page's first, one token; a slot is off between others, the last one too."""
    rng = np.random.default_rng(heads)
    position_S = jnp.array([1100, 900, 511, 128, 0, 5])
    on_S = jnp.array([True, False, True, True, True, False])
    table_SxM = rng.permuted(np.tile(np.arange(1, PAGES), (6, 1)), axis=1)[:, :9]
    table_SxM[np.arange(9) > np.asarray(position_S)[:, None] // PAGE] = 0  # what is not reached may hold anything
    q, k, v = (normal(rng, 6, 1, h, K, dtype=dtype) for h in (heads, kv_heads, kv_heads))
    page_S = jnp.where(on_S, table_SxM[np.arange(6), position_S // PAGE], PAGES)

    def seen(backend, cache) -> np.ndarray:
        cache = backend.write_slots(k, v, cache, 1, page_S, position_S % PAGE)
        out = backend.attend_slots(q, cache, 1, jnp.asarray(table_SxM, jnp.int32), position_S, on_S)
        assert out.shape == q.shape and out.dtype == q.dtype
        assert np.isfinite(np.asarray(out, np.float32)).all()
        return np.asarray(out, np.float32)[np.asarray(on_S)]

    by_xla, by_tpu = filled(rng, kv_heads, dtype)
    np.testing.assert_allclose(seen(paged_tpu, by_tpu), seen(paged_xla, by_xla), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("start", "end"), [(1024, 1100), (0, 128), (0, 0)])
def test_a_piece_of_a_prompt_sees_what_it_sees_by_xla(start, end):
    """The last piece of a long prompt, with padding; a first one, without; none, for a replica that has no piece."""
    rng = np.random.default_rng(end)
    table_M = jnp.asarray(rng.permutation(np.arange(1, PAGES))[:9], jnp.int32)
    q = normal(rng, 1, 128, 4, K, dtype=jnp.float32)

    def seen(backend, cache) -> np.ndarray:
        call = pieces(128, (0, start, end, table_M))
        out = np.asarray(backend.attend_chunk(q, cache, 1, call, by_row(call), 128))
        assert out.shape == q.shape
        return out[0, : end - start]

    by_xla, by_tpu = filled(rng, 2, jnp.float32)
    found = seen(paged_tpu, by_tpu)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, seen(paged_xla, by_xla), atol=2e-5, rtol=2e-5)


def test_pieces_of_several_prompts_see_what_they_see_by_xla():
    """The end of one prompt, all of a second, the beginning of a third; then padding, and pieces that are none."""
    rng = np.random.default_rng(0)
    tables = rng.permuted(np.tile(np.arange(1, PAGES), (3, 1)), axis=1)[:, :9]
    q = normal(rng, 1, 128, 4, K, dtype=jnp.float32)
    parts = [(0, 1040, 1087, tables[0]), (48, 0, 16, tables[1]), (64, 0, 41, tables[2])]
    side_by_side = [(0, *parts[0][1:]), (47, *parts[1][1:]), (63, *parts[2][1:])]  # the kernel wants no tiles
    by_xla, by_tpu = filled(rng, 2, jnp.float32)
    found = []
    for backend, cache, wanted, tile in ((paged_xla, by_xla, parts, 16), (paged_tpu, by_tpu, side_by_side, 1)):
        call = pieces(128, *wanted)
        rows = np.concatenate([row + np.arange(end - start) for row, start, end, _ in wanted])
        assert np.flatnonzero(by_row(call).live).tolist() == rows.tolist()
        q_by_row = q[:, :104] if backend is paged_tpu else jnp.zeros_like(q).at[:, rows].set(q[:, :104])
        q_by_row = jnp.pad(q_by_row, ((0, 0), (0, 128 - q_by_row.shape[1]), (0, 0), (0, 0)))
        found.append(np.asarray(backend.attend_chunk(q_by_row, cache, 1, call, by_row(call), tile))[0, rows])
    assert np.isfinite(found[1]).all()
    np.testing.assert_allclose(found[1], found[0], atol=2e-5, rtol=2e-5)


def greedy(spec: ModelSpec, settings: EngineSettings, mesh=None) -> tuple[dict, float]:
    """Tokens and log-probabilities by request and sample, and how often a sequence was preempted."""
    graph, params = nnx.split(random_model(spec, 0))
    engine = Engine(graph, spec, settings, seed=0, mesh=mesh)
    engine.load_weights(jax.tree.map(lambda x: 4 * x, params), 0)
    rng = np.random.default_rng(0)
    for number, length in enumerate((40, 33, 17, 16, 5, 1)):
        prompt = tuple(rng.integers(0, spec.vocab, length).tolist())
        engine.submit(Request(number, prompt, 24 - 2 * number, n=1 + number % 2, temperature=0.0))
    found = {(one.request.id, one.sample): (one.tokens, one.logprobs) for one in engine.drain()}
    return found, engine.metrics()["preemptions"]


def check_same(found: dict, wanted: dict) -> None:
    assert {key: tokens for key, (tokens, _) in found.items()} == {key: tokens for key, (tokens, _) in wanted.items()}
    for key, (_, logprobs) in wanted.items():
        np.testing.assert_allclose(found[key][1], logprobs, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 64])
def test_an_engine_on_a_mesh_says_what_it_says_by_xla(rows):
    """Two replicas, one key/value head on each device; sequences enter, leave, and are preempted."""
    by_xla, _ = greedy(SPEC, dataclasses.replace(SETTINGS, attention="xla"))
    settings = dataclasses.replace(SETTINGS, attention="tpu", prefill_rows=rows)
    by_tpu, preemptions = greedy(SPEC, settings, make_mesh(2, 2, jax.devices()[:4]))
    assert preemptions
    check_same(by_tpu, by_xla)


@pytest.mark.parametrize(
    ("spec", "settings", "reason"),
    [
        ({"head_dim": 64}, {}, "heads of 128 numbers, not 64"),
        ({"heads": 12, "kv_heads": 6}, {}, "1, 2, 4 or a multiple of 8 key/value heads on a device, not 3"),
        ({}, {"dtype": "float16"}, "bfloat16 and float32, not float16"),
    ],
)
def test_what_no_kernel_can_do_is_refused_by_name_and_left_to_xla(spec, settings, reason):
    assert by_itself(spec, settings, reason) is paged_xla
    assert choose(SPEC, SETTINGS, on_tpu()) is paged_tpu


def on_tpu() -> Any:
    """A mesh of two chips, as far as `choose` looks."""
    shape = make_mesh(1, 2, jax.devices()[:2]).shape
    return SimpleNamespace(devices=np.array([SimpleNamespace(platform="tpu")]), shape=shape)


def by_itself(spec: dict, settings: dict, reason: str) -> Any:
    """What the engine takes where the shipped kernel, asked for, is refused for this reason."""
    whole, wanted = dataclasses.replace(SPEC, **spec), dataclasses.replace(SETTINGS, **settings)
    with pytest.raises(ValueError, match=reason):
        choose(whole, dataclasses.replace(wanted, attention="tpu"), make_mesh(1, 2, jax.devices()[:2]))
    return choose(whole, wanted, on_tpu())


@pytest.mark.parametrize(
    ("spec", "settings", "reason"),
    [
        ({"head_dim": 64, "kv_heads": 4}, {}, "heads of 128 numbers, not 64"),
        ({}, {"slots": 4096, "max_new_tokens": 8000}, "take larger pages"),
    ],
)
def test_what_the_shipped_kernel_cannot_do_is_left_to_our_own(spec, settings, reason):
    assert by_itself(spec, settings, reason) is paged_fused


def test_by_itself_the_engine_takes_the_kernel_on_a_tpu_alone():
    mesh = make_mesh(1, 1, jax.devices()[:1])
    assert choose(SPEC, SETTINGS, mesh) is paged_xla
    with pytest.raises(ValueError, match="should be one of auto, xla, gpu, tpu, tpu_fused"):
        choose(SPEC, dataclasses.replace(SETTINGS, attention="TPU"), mesh)
