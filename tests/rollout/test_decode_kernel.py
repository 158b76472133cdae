"""The decode kernel for TPU, interpreted on a CPU, sees and writes what XLA does, whoever stands beside a slot.

Two interpreters, for neither knows all. One plays the chip: two cores, copies that arrive when they are waited for and
not before, memory full of NaN, and a search for races; it does not know views of memory, so rows of a block are taken
here in another way. The other knows the views, and copies at once.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout import decode_kernel, decode_rows, paged_fused, paged_xla
from azr_jax.rollout.attention import choose, decode_slots
from azr_jax.rollout.engine import EngineSettings
from azr_jax.rollout.pieces import by_row
from tests.rollout.test_tpu_kernel import check_same, greedy, pieces

PAGE, MOST, LAYERS = 8, 5, 2  # tokens of a page, pages of a slot
SHAPES = [(128, 4, 2, jnp.float32), (128, 7, 1, jnp.bfloat16), (64, 14, 2, jnp.bfloat16), (64, 4, 4, jnp.float32)]
TOLERANCE = {jnp.float32: 2e-5, jnp.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def constants_have_a_shape(monkeypatch):
    """The plain interpreter asks constant indices for a shape that JAX's own class lacks."""
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)


def plain():
    return pltpu.force_tpu_interpret_mode(True)  # type: ignore[arg-type]


def like_a_chip(races: bool, cores: int = 2):
    return pltpu.force_tpu_interpret_mode(
        pltpu.InterpretParams(detect_races=races, uninitialized_memory="nan", num_cores_or_threads=cores)
    )


def rows_by_index(pages_ref, buffer, pair: int, left):
    """What `two_rows` gives, without a view of memory."""
    _, E, P, C, K = pages_ref.shape
    rows_TxCxK = pages_ref[buffer].reshape(E * P, C, K)
    reached_Tx1 = jnp.arange(E * P)[:, None] < left
    return tuple(jnp.where(reached_Tx1, rows_TxCxK[:, 2 * pair + n], 0).astype(pages_ref.dtype) for n in (0, 1))


@functools.cache
def kernel(shape, sizes: tuple[int, int]):
    """The same program for many examples. Traced where the chip is played, so with rows taken by index."""
    block_pages, slots_a_step = sizes
    del shape

    def decode(q, k, v, pool, layer, table, position, guessed):
        new = paged_fused.paged_tpu.token_rows(k[:, 0], v[:, 0], pool)
        of = {"block_pages": block_pages, "slots_a_step": slots_a_step}
        form = decode_rows.RowFormat(1 if k.shape[-1] < 128 else 2)
        out, (pool,) = decode_kernel.decode(
            form, q[:, 0], new, (pool,), layer, table, position, position >= 0, guessed, **of
        )
        return out, pool

    return jax.jit(decode)


@functools.cache
def by_xla():
    return jax.jit(functools.partial(decode_slots, paged_xla))


def filled(rng, K: int, kv_heads: int, pages: int, page: int, dtype, only) -> list:
    """The cache of either backend with the same numbers, in both layers; NaN but where `only`, [pages, page]."""
    caches: list[Any] = [one.empty_cache(LAYERS, pages, page, kv_heads, K, dtype) for one in (paged_xla, paged_fused)]
    at = jnp.divmod(jnp.arange(pages * page), page)
    for layer in range(LAYERS):
        numbers = rng.normal(size=(2, 1, pages * page, kv_heads, K)).astype(np.float32)
        numbers[:, :, ~only.reshape(-1)] = np.nan
        k, v = jnp.asarray(numbers, dtype)
        caches = [
            one.write_chunk(k, v, cache, layer, *at, page) for one, cache in zip((paged_xla, paged_fused), caches)
        ]
    return caches


def contexts(rng, lengths, on, page: int, most: int, guesses=0):
    """A page table for slots whose new token stands at these positions, pages in random order, two neighbours sharing
    their first page where both are longer; which pages hold something; and rows of guesses behind the first slot.
    """
    S, pages = len(lengths), len(lengths) * most + 1
    table = rng.permutation(np.arange(1, pages)).reshape(S, most)
    if S > 1 and min(lengths[:2]) >= page:
        table[1, 0] = table[0, 0]
    for row in range(1, guesses + 1):
        table[row] = table[0]
    table[np.arange(most) > np.asarray(lengths)[:, None] // page] = 0  # what is not reached may hold anything
    only = np.zeros((pages, page), bool)
    for row, length, here in zip(table, lengths, on):
        if here:
            only[row[np.arange(length) // page], np.arange(length) % page] = True
    return jnp.asarray(table, jnp.int32), pages, only


def written(pool, k, v, layer, table, position, on):
    """The pool as a scatter leaves it."""
    page_S = np.where(on, np.asarray(table)[np.arange(len(position)), position // pool.shape[2]], pool.shape[1])
    where = layer, jnp.asarray(page_S), jnp.asarray(position) % pool.shape[2]
    return paged_fused.write_chunk(k.swapaxes(0, 1), v.swapaxes(0, 1), (pool,), *where, 1)[0]


def same_bytes(a, b) -> bool:
    return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32), equal_nan=True)


EDGES = sorted({0, 1, *(n * PAGE + d for n in range(1, MOST) for d in (-1, 0, 1)), MOST * PAGE - 1})


@settings(max_examples=12, deadline=None)
@given(
    # pages of a block, slots of a step; guesses, at most
    st.sampled_from(list(zip(SHAPES, [(1, 2), (2, 1), (2, 3), (16, 1)], [0, 3, 3, 0]))),
    st.lists(st.tuples(st.sampled_from(EDGES), st.booleans()), min_size=5, max_size=5),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_neighbours_that_share_buffers_see_what_they_see_by_xla(shape, slots, guesses, seed):
    """Lengths of 0, 1 and around pages' ends, in any order; slots off; the first one's row followed by guesses."""
    ((K, H, G, dtype), *sizes, most), rng = shape, np.random.default_rng(seed)
    position = np.array([length for length, _ in slots])
    on = np.array([here for _, here in slots])
    guesses = min(guesses, most, MOST * PAGE - 1 - position[0]) if on[0] else 0
    guessed = np.zeros(5, np.int32)
    for row in range(1, guesses + 1):
        position[row], on[row], guessed[row] = position[0] + row, True, row
    table, pages, only = contexts(rng, position, on & (guessed == 0), PAGE, MOST, guesses)
    cache_xla, (pool,) = filled(rng, K, G, pages, PAGE, dtype, only)
    q, k, v = (jnp.asarray(rng.normal(size=(5, 1, heads, K)), dtype) for heads in (H, G, G))
    wanted, _ = by_xla()(q, k, v, cache_xla, 1, table, jnp.asarray(position), jnp.asarray(on))
    after = written(pool, k, v, 1, table, position, on)

    pltpu.reset_tpu_interpret_mode_state()  # of an example before that failed
    # A page that a row before is writing to is copied, and what is written is laid over the copy: a race, and no harm.
    with like_a_chip(races=not most), pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_rows, "two_rows", rows_by_index)
        args = (pool, 1, table, jnp.asarray(np.where(on, position, -1)), jnp.asarray(guessed))
        out, pool = jax.block_until_ready(kernel(shape[0], *sizes)(q, k, v, *args))
    found, wanted = np.asarray(out, np.float32), np.asarray(wanted, np.float32)[:, 0]
    assert not found[~on].any()
    np.testing.assert_allclose(found[on], wanted[on], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert same_bytes(pool, after)
    if not most:  # newer releases raise
        assert not getattr(interpret_pallas_call.races, "races_found", False)


ANYTHING = (-(2**31), 2**31 - 1)  # an entry of a page table that would be outside of every pool


@pytest.mark.parametrize(
    ("position", "on", "guessed"),
    [
        ([0, 7, 39], [False] * 3, [2, 1, 0]),
        ([PAGE, 0, PAGE - 2, PAGE - 1, PAGE, 3 * PAGE - 1, 3 * PAGE], [1, 0, 1, 1, 1, 1, 1], [0, 3, 0, 1, 2, 0, 1]),
    ],
    ids=["all off", "two that guess across the ends of pages"],
)
def test_what_stands_behind_a_slots_last_page_in_its_table_is_never_looked_at(position, on, guessed):
    """Nor is anything of a slot that is off. The interpreter that plays the chip refuses pages that are none."""
    rng, S, P, (K, H, G, dtype) = np.random.default_rng(0), len(position), PAGE, SHAPES[0]
    position, on, guessed = np.array(position), np.array(on, bool), np.array(guessed)
    table, only = rng.choice(ANYTHING, (S, MOST)), np.zeros((S * MOST, P), bool)
    for row in np.flatnonzero(on):
        first = row - int(guessed[row])
        pages = first * MOST + np.arange(int(position[row]) // P + 1)
        table[row, : len(pages)] = pages
        before = np.arange(int(position[first]))
        only[pages[before // P], before % P] = True
    cache_xla, (pool,) = filled(rng, K, G, S * MOST, P, dtype, only)
    q, k, v = (jnp.asarray(rng.normal(size=(S, 1, heads, K)), dtype) for heads in (H, G, G))
    valid = np.where((table < 0) | (table >= S * MOST), 0, table)
    wanted, _ = by_xla()(q, k, v, cache_xla, 1, jnp.asarray(valid), jnp.asarray(position), jnp.asarray(on))
    after = written(pool, k, v, 1, valid, position, on)
    pltpu.reset_tpu_interpret_mode_state()
    with like_a_chip(races=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_rows, "two_rows", rows_by_index)
        where = jnp.asarray(table, jnp.int32), jnp.asarray(position), jnp.asarray(on), jnp.asarray(guessed)
        decode = jax.jit(functools.partial(decode_slots, paged_fused))
        found, (pool,) = jax.block_until_ready(decode(q, k, v, (pool,), 1, *where))
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_allclose(found[on], wanted[on], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert not found[~on].any()
    assert same_bytes(pool, after)


@pytest.mark.parametrize("shape", [*SHAPES, (128, 8, 8, jnp.bfloat16)])
def test_rows_of_a_block_are_found_by_a_view_of_it(shape):
    """Pages of the size that runs have, and blocks of 512 tokens."""
    (K, H, G, dtype), rng = shape, np.random.default_rng(0)
    position, on = np.array([1100, 900, 512, 511, 64, 63, 0]), np.array([1, 0, 1, 1, 1, 1, 1], bool)
    table, pages, only = contexts(rng, position, on, 64, 18)
    cache_xla, cache = filled(rng, K, G, pages, 64, dtype, only)
    q, k, v = (jnp.asarray(rng.normal(size=(7, 1, heads, K)), dtype) for heads in (H, G, G))
    where = (1, table, jnp.asarray(position), jnp.asarray(on))
    wanted, _ = decode_slots(paged_xla, q, k, v, cache_xla, *where)
    with plain():
        found, (pool,) = decode_slots(paged_fused, q, k, v, cache, *where)
    assert found.shape == q.shape and found.dtype == q.dtype
    found, wanted = np.asarray(found, np.float32), np.asarray(wanted, np.float32)
    np.testing.assert_allclose(found[on], wanted[on], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert not found[~on].any()
    assert same_bytes(pool, written(cache[0], k, v, 1, table, position, on))


@pytest.mark.parametrize("ends", [(61,), (16,), (0,), (61, 16, 5)])
def test_pieces_of_prompts_with_heads_of_64_see_what_they_see_by_xla(ends):
    rng, wanted = np.random.default_rng(0), []
    for number, end in enumerate(ends):
        wanted.append((16 * number, max(0, end - 1) // 16 * 16, end, rng.permutation(np.arange(1, 20))[:9]))
    call = pieces(16 * len(ends), *wanted)
    q = jnp.asarray(rng.normal(size=(1, 16 * len(ends), 4, 64)), jnp.float32)
    caches = filled(rng, 64, 2, 20, PAGE, jnp.float32, np.ones((20, PAGE), bool))
    found = [
        np.asarray(one.attend_chunk(q, cache, 1, call, by_row(call), 16))[0, np.asarray(by_row(call).live)]
        for one, cache in zip((paged_xla, paged_fused), caches)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=2e-6, rtol=2e-5)


SETTINGS = EngineSettings(
    slots=3, max_prompt_tokens=40, max_new_tokens=24, page_size=16, prefill_tokens=16, decode_steps=8, pages=9
)


@pytest.mark.parametrize(
    ("head_dim", "changes"),
    [
        (64, {"draft_tokens": 3}),
        (64, {"prefill_rows": 64, "prefill_tokens": 32}),  # tiles of 32 rows
        pytest.param(128, {"draft_tokens": 3}, marks=pytest.mark.slow),
    ],
)
def test_an_engine_on_a_mesh_says_what_it_says_by_xla(head_dim, changes):
    """Two replicas, two key/value heads on each device; sequences enter and leave; guesses in empty rows."""
    spec = ModelSpec("qwen2", 256, 64, 2, 8, 4, head_dim=head_dim, mlp=64, tied=True)
    wanted, preemptions = greedy(spec, dataclasses.replace(SETTINGS, attention="xla"))
    assert preemptions
    settings = dataclasses.replace(SETTINGS, attention="tpu_fused", **changes)
    with plain():
        found, _ = greedy(spec, settings, make_mesh(2, 2, jax.devices()[:4]))
    check_same(found, wanted)


@pytest.mark.parametrize(
    ("spec", "settings", "reason"),
    [
        ({"head_dim": 96}, {}, "heads of 64 or 128 numbers, not 96"),
        ({"heads": 12, "kv_heads": 6}, {}, "1, 2, 4 or a multiple of 8 key/value heads on a device, not 3"),
        ({"head_dim": 64, "kv_heads": 2}, {}, "2, 4, 8 or a multiple of 16 key/value heads on a device, not 1"),
        ({}, {"dtype": "float16"}, "bfloat16 and float32, not float16"),
        ({}, {"page_size": 24}, "pages of a power of two of tokens, 8 at least, not 24"),
        ({}, {"page_size": 4096}, "pages of at most 2097152 bytes on a device, not 8388608: take smaller pages"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused_by_name(spec, settings, reason):
    mesh = make_mesh(1, 2, jax.devices()[:2])
    whole = ModelSpec("qwen2", 256, 64, 2, 4, 4, head_dim=128, mlp=64, tied=True)
    settings = dataclasses.replace(SETTINGS, attention="tpu_fused", **settings)
    with pytest.raises(ValueError, match=f"^attention=tpu_fused: it takes {reason}; should be xla, or auto$"):
        choose(dataclasses.replace(whole, **spec), settings, mesh)


def test_a_page_table_of_any_size_is_taken():
    """The shipped kernel keeps all of it in a core's scalar memory; this one a slot's row."""
    mesh = make_mesh(1, 1, jax.devices()[:1])
    spec = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=128, mlp=64, tied=True)
    large = dataclasses.replace(SETTINGS, slots=4096, max_new_tokens=8000)
    with pytest.raises(ValueError, match="take larger pages"):
        choose(spec, dataclasses.replace(large, attention="tpu"), mesh)
    assert choose(spec, dataclasses.replace(large, attention="tpu_fused"), mesh) is paged_fused
