"""The decode kernel over a cache of eight bits, interpreted on a CPU, sees and writes what XLA does: as
test_decode_kernel.py, whose interpreters play the chip or know its views of memory.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from azr_jax.rollout import decode_kernel, decode_steps, paged_steps, paged_xla
from azr_jax.rollout.attention import decode_slots
from azr_jax.rollout.eight_bits import queries_and_keys
from azr_jax.rollout.pieces import by_row
from tests.rollout.test_decode_kernel import (
    TOLERANCE,
    by_xla,
    constants_have_a_shape,  # noqa: F401 - a fixture
    contexts,
    like_a_chip,
    plain,
)
from tests.rollout.test_tpu_kernel import pieces

PAGE, MOST, LAYERS = 128, 3, 2
BOTH = paged_xla, paged_steps
SHAPES = [(128, 4, 2, jnp.float32), (128, 7, 1, jnp.bfloat16), (64, 14, 2, jnp.bfloat16), (64, 3, 3, jnp.float32)]
EDGES = [0, 1, 30, 31, 32, 33, 64, 126, 127, 128, 129, 159, 160, 255, 256, 257, MOST * PAGE - 1]


def filled(rng, K: int, kv_heads: int, pages: int, dtype, only=None, page=PAGE) -> list[Any]:
    """The cache of either backend with the same numbers, in both layers; NaN but where `only`, [pages, page]."""
    caches: list[Any] = [one.empty_cache(LAYERS, pages, page, kv_heads, K, jnp.int8) for one in BOTH]
    at = jnp.divmod(jnp.arange(pages * page), page)
    for layer in range(LAYERS):
        numbers = rng.normal(size=(2, 1, pages * page, kv_heads, K)).astype(np.float32)
        if only is not None:
            numbers[:, :, ~only.reshape(-1)] = np.nan
        k, v = jnp.asarray(numbers, dtype)
        caches = [one.write_chunk(k, v, cache, layer, *at, page) for one, cache in zip(BOTH, caches)]
    return caches


def by_head(cache) -> list[np.ndarray]:
    """Keys [L, N, P, G, K], values, and the scales of both [L, N, P, G], of either backend."""
    if len(cache) == 4:
        keys, values, *scales = map(np.asarray, cache)
        return [keys.transpose(0, 1, 4, 2, 3), values.swapaxes(2, 3), *(of[:, :, :, 0].swapaxes(2, 3) for of in scales)]
    steps, scales = map(np.asarray, cache)
    (L, N, C, P, _), G = steps.shape, scales.shape[2] // 2
    K = 64 * C // G
    both = steps.reshape(L, N, G, C // G, P, 128).transpose(0, 1, 4, 2, 3, 5).reshape(L, N, P, G, 2, K)
    return [both[..., 0, :], both[..., 1, :], *(scales[:, :, kind::2].swapaxes(2, 3) for kind in (0, 1))]


def check_same_cache(one, other) -> None:
    """Where there is no number, there is no scale; the steps beside it are anything."""
    *numbers, k_scale, v_scale = by_head(one)
    for mine, theirs, scale in zip(numbers, by_head(other), (k_scale, v_scale)):
        assert (mine == theirs)[np.isfinite(scale)].all()
    for mine, theirs in zip((k_scale, v_scale), by_head(other)[2:]):
        np.testing.assert_array_equal(mine, theirs)


@functools.cache
def kernel(guesses: bool, block_pages: int, slots_a_step: int):
    """The same program for many examples, with fewer slots and pages at a time than a run has."""

    def decode(q, k, v, cache, layer, table, position, guessed):
        q, k = queries_and_keys(q, k, cache[0])
        new = paged_steps._new_tokens(k[:, 0], v[:, 0])
        form, of = decode_steps.StepFormat(guesses), {"block_pages": block_pages, "slots_a_step": slots_a_step}
        return decode_kernel.decode(form, q[:, 0], new, cache, layer, table, position, position >= 0, guessed, **of)

    return jax.jit(decode)


GUESSING, FIRST_ALONE = (SHAPES[1], (2, 1), 3), [(30, True), *((0, False),) * 4]
IN_TWO_STEPS = SHAPES[2], (2, 3), 3  # rows in turn, so that the second of three is the last to write, if it does


@settings(max_examples=8, deadline=None)
# Guesses across what is written together, and across the ends of pages.
@example(GUESSING, FIRST_ALONE, 3, 0)
@example(GUESSING, [(126, True), *FIRST_ALONE[1:]], 3, 0)
@example(IN_TWO_STEPS, FIRST_ALONE, 2, 0)
@example(IN_TWO_STEPS, [(40, True), *FIRST_ALONE[1:]], 2, 0)
@given(
    # pages of a block, slots of a step; guesses, at most
    st.sampled_from(list(zip(SHAPES, [(1, 2), (2, 1), (2, 3), (4, 1)], [0, 3, 3, 0]))),
    st.lists(st.tuples(st.sampled_from(EDGES), st.booleans()), min_size=5, max_size=5),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_neighbours_that_share_buffers_see_and_write_what_they_do_by_xla(shape, slots, guesses, seed):
    """Lengths around the ends of pages and of tokens that are written together, in any order; slots off; the first
    one's row followed by guesses; NaN wherever nothing was written.
    """
    ((K, H, G, dtype), sizes, most), rng = shape, np.random.default_rng(seed)
    position, on = np.array([length for length, _ in slots]), np.array([here for _, here in slots])
    guesses = min(guesses, most, MOST * PAGE - 1 - position[0]) if on[0] else 0
    guessed = np.zeros(5, np.int32)
    for row in range(1, guesses + 1):
        position[row], on[row], guessed[row] = position[0] + row, True, row
    table, pages, only = contexts(rng, position, on & (guessed == 0), PAGE, MOST, guesses)
    cache_xla, cache = filled(rng, K, G, pages, dtype, only)
    q, k, v = (jnp.asarray(rng.normal(size=(5, 1, heads, K)), dtype) for heads in (H, G, G))
    wanted, after = by_xla()(q, k, v, cache_xla, 1, table, jnp.asarray(position), jnp.asarray(on))

    pltpu.reset_tpu_interpret_mode_state()  # of an example before that failed
    with like_a_chip(races=not most):
        args = (cache, 1, table, jnp.asarray(np.where(on, position, -1)), jnp.asarray(guessed))
        out, cache = jax.block_until_ready(kernel(bool(most), *sizes)(q, k, v, *args))
    found, wanted = np.asarray(out, np.float32), np.asarray(wanted, np.float32)[:, 0]
    assert not found[~on].any()
    np.testing.assert_allclose(found[on], wanted[on], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    check_same_cache(cache, after)


@pytest.mark.parametrize("shape", [*SHAPES, (128, 8, 8, jnp.bfloat16)])
@pytest.mark.parametrize("page", [128, pytest.param(256, marks=pytest.mark.slow)])
def test_blocks_of_the_size_that_runs_have(shape, page):
    (K, H, G, dtype), rng = shape, np.random.default_rng(0)
    position, on = np.array([1100, 900, 512, 511, 64, 63, 0]), np.array([1, 0, 1, 1, 1, 1, 1], bool)
    table, pages, only = contexts(rng, position, on, page, 9)
    caches = filled(rng, K, G, pages, dtype, only, page)
    q, k, v = (jnp.asarray(rng.normal(size=(7, 1, heads, K)), dtype) for heads in (H, G, G))
    where = (1, table, jnp.asarray(position), jnp.asarray(on))
    wanted, after = decode_slots(paged_xla, q, k, v, caches[0], *where)
    with plain():
        found, cache = decode_slots(paged_steps, q, k, v, caches[1], *where)
    assert found.shape == q.shape and found.dtype == q.dtype
    found, wanted = np.asarray(found, np.float32), np.asarray(wanted, np.float32)
    np.testing.assert_allclose(found[on], wanted[on], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert not found[~on].any()
    check_same_cache(cache, after)


@pytest.mark.parametrize("K", [64, 128])
@pytest.mark.parametrize("ends", [(61,), (16,), (0,), (200, 16, 5)])
def test_pieces_of_prompts_see_what_they_see_by_xla(ends, K):
    rng, wanted = np.random.default_rng(0), []
    for number, end in enumerate(ends):
        wanted.append((16 * number, max(0, end - 1) // 16 * 16, end, rng.permutation(np.arange(1, 20))[:9]))
    call = pieces(16 * len(ends), *wanted)
    q = jnp.asarray(rng.normal(size=(1, 16 * len(ends), 4, K)), jnp.float32)
    caches = filled(rng, K, 2, 20, jnp.float32)
    found = [
        np.asarray(one.attend_chunk(q, cache, 1, call, by_row(call), 16))[0, np.asarray(by_row(call).live)]
        for one, cache in zip(BOTH, caches)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=2e-6, rtol=2e-5)


def test_padding_is_written_nowhere():
    rng, (L, N, G, K) = np.random.default_rng(0), (2, 3, 2, 128)
    k, v = (jnp.asarray(rng.normal(size=(1, 32, G, K)), jnp.float32) for _ in range(2))
    page_T = jnp.asarray([2] * 16 + [N] * 16)
    cache = paged_steps.write_chunk(
        k, v, paged_steps.empty_cache(L, N, PAGE, G, K, jnp.int8), 1, page_T, jnp.arange(32), 16
    )
    for of in by_head(cache):
        written = of.reshape(L, N, PAGE, -1).any(axis=-1)
        assert written[1, 2, :16].all() and written.sum() == 16
