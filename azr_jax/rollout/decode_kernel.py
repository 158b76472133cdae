"""A TPU kernel for one decode step over a paged cache: writes each slot's new token into its page, then looks at all.

Writing. A token's keys and values go from the core's memory to their place in the pool, which the kernel owns for the
while (`input_output_aliases`): beside it there is nothing to scatter. Nobody waits for a write before the end, because
nobody reads it back: the new token is laid over the copy of its page. So are the tokens that the rows before had
guessed for the same slot, which may stand on another core.

Reading. Slots are dealt out to the steps of a "parallel" grid in turn, as cards are: on chips of two cores each core
takes half, and since slots come sorted by length the halves are alike. A step walks through its slots, a block of pages
at a time, and copies the next block, of this slot or of the one after, while it works on this one. No more pages are
copied than a slot has. Nothing is handed from one step to the next, for another core may take it.

A page table of any size does: a slot's row of it comes along with its pages.

The rows of a token in a page, [C, 128]: key and value of a head in turn where heads have 128 numbers, or both side by
side in one row where they have 64 (paged_fused.py). A query of 64 numbers is followed by as many zeros, so that it does
not see the values; of the weighted sum of such rows the second half is the answer.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # numbers of a row of a page
UNSEEN = -1e30  # score of what is not seen; finite, or what is not there would make NaN
NAME = "paged_decode_kernel"  # in compiled text


class Refs(NamedTuple):
    """Which step of the grid this is, and what it is given. W: slots of a step, N: steps."""

    step: Any
    layer: Any  # [1]
    position: Any  # [S]; of a slot that is off, -1
    guessed: Any  # [S], how many rows before it are of the same slot, each a token further
    q: Any  # [W, 1, H, 128]
    new: Any  # [W, 1, C, 128]
    new_of_all: Any  # [W, N, C, 128], in the chip's memory
    table: Any  # [S, 1, M], there too
    pool_before: Any  # is `pool`
    out: Any  # [W, 1, H, 128]
    pool: Any  # [L, pages, P, C, 128]
    pages: Any  # [2, E, P, C, 128]: this block and the next
    rows: Any  # [2, 1, M]: this slot's row of the page table and the next one's
    pages_here: Any  # semaphores
    rows_here: Any
    written: Any
    overlaid: Any


class PageBlock(NamedTuple):
    """Of some slot's context, and where its copy goes. `count` 0: none."""

    row: Any  # which of `rows` is the slot's
    first: Any  # page
    count: Any
    buffer: Any


def decode(q_SxHxK, new_SxCxK, pool, layer, table_SxM, position_S, guessed_S, *, block_pages: int, slots_a_step: int):
    """Attention of one query per slot over its pages, and the pool with what is new in it.

    `position_S`: of the new token; -1: the slot is off, nothing is written and the answer is zero.
    """
    S, H, K = q_SxHxK.shape
    C = pool.shape[3]
    G = C // 2 if K == LANES else C
    steps = 2 * max(1, -(-S // (2 * slots_a_step)))  # two at least, for two cores
    W = -(-S // steps)
    M = -(-table_SxM.shape[1] // LANES) * LANES

    def dealt(x_Sx):
        x = jnp.pad(x_Sx, ((0, W * steps - S), *((0, 0),) * (x_Sx.ndim - 1)))
        return x.reshape(W, steps, *x.shape[1:])

    new_WxNxCxK = dealt(new_SxCxK.astype(pool.dtype))
    position_S = jnp.pad(position_S.astype(jnp.int32), (0, W * steps - S), constant_values=-1)
    guessed_S = jnp.pad(guessed_S.astype(jnp.int32), (0, W * steps - S))
    table_SxM = jnp.pad(table_SxM.astype(jnp.int32), ((0, W * steps - S), (0, M - table_SxM.shape[1])))
    call = _call(partial(_step, scale=K**-0.5, G=G), (W, steps, H), pool, block_pages, M)
    layer_1 = jnp.asarray(layer, jnp.int32)[None]
    q_WxNxHxK = dealt(jnp.pad(q_SxHxK.astype(jnp.float32), ((0, 0), (0, 0), (0, LANES - K))))
    args = (layer_1, position_S, guessed_S, q_WxNxHxK, new_WxNxCxK, new_WxNxCxK, table_SxM[:, None], pool)
    out_WxNxHxK, pool = call(*args)
    return out_WxNxHxK.reshape(-1, H, LANES)[:S, :, LANES - K :].astype(q_SxHxK.dtype), pool


def _call(step, sizes: tuple[int, int, int], pool, block_pages: int, M: int):
    W, steps, H = sizes
    C = pool.shape[3]
    queries = pl.BlockSpec((W, 1, H, LANES), lambda step, *_: (0, step, 0, 0))
    new = pl.BlockSpec((W, 1, C, LANES), lambda step, *_: (0, step, 0, 0))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    copied = pltpu.SemaphoreType.DMA
    return pl.pallas_call(
        lambda *refs: step(Refs(pl.program_id(0), *refs)),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(steps,),
            in_specs=[queries, new, anywhere, anywhere, anywhere],
            out_specs=[queries, anywhere],
            scratch_shapes=[
                pltpu.VMEM((2, block_pages, *pool.shape[2:]), pool.dtype),
                pltpu.SMEM((2, 1, M), jnp.int32),
                copied((2,)),
                copied((2,)),
                copied(()),
                copied(()),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct((W, steps, H, LANES), jnp.float32),
            jax.ShapeDtypeStruct(pool.shape, pool.dtype),
        ],
        input_output_aliases={7: 1},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), disable_bounds_checks=True),
        name=NAME,
    )


def _step(refs: Refs, *, scale: float, G: int) -> None:
    """One step of the grid: the slots dealt to it, one after the other."""
    W, E, P = refs.q.shape[0], *refs.pages.shape[1:3]
    refs.out[...] = jnp.zeros(refs.out.shape, refs.out.dtype)

    def tokens(number):
        """Of the slot's context with the new one; 0: it is off, or there is none of this number."""
        return jnp.where(number < W, refs.position[_slot(refs, jnp.minimum(number, W - 1))] + 1, 0)

    def on_from(number):
        return lax.while_loop(lambda n: (n < W) & (tokens(n) == 0), lambda n: n + 1, number)

    def block(number, row, at, buffer) -> PageBlock:
        return PageBlock(row, at * E, jnp.clip(pl.cdiv(tokens(number), P) - at * E, 0, E), buffer)

    def slot(carry):
        """(its number, which of `rows` is its, which of `pages` holds its first block, how many were written)"""
        number, row, buffer, written = carry
        length, after = tokens(number), on_from(number + 1)
        blocks = pl.cdiv(length, E * P)

        @pl.when(after < W)
        def _():
            _row(refs, after, 1 - row).start()

        def look(at, carry):
            buffer, running = carry
            last = at + 1 == blocks

            @pl.when(last & (after < W))
            def _():
                _row(refs, after, 1 - row).wait()

            here, same = block(number, row, at, buffer), block(number, row, at + 1, 1 - buffer)
            other = block(after, 1 - row, 0, 1 - buffer)
            _start(refs, PageBlock(*(jnp.where(last, theirs, own) for theirs, own in zip(other, same))))
            _wait(refs, here)
            _lay_over(refs, number, here)
            return 1 - buffer, _seen(refs, number, buffer, length - at * E * P, scale, running)

        R = refs.q.shape[2] // G  # queries of a key head
        nothing = (jnp.full((R, 1), -jnp.inf), jnp.zeros((R, 1)), jnp.zeros((R, LANES)))
        buffer, running = lax.fori_loop(0, blocks, look, (buffer, (nothing,) * G))
        for head, (_, sum_Rx1, out_RxK) in enumerate(running):
            refs.out[number, 0, head * R : (head + 1) * R] = out_RxK / sum_Rx1
        _write(refs, number, row).start()
        return after, 1 - row, buffer, written + 1

    first = on_from(0)

    @pl.when(first < W)
    def _():
        _row(refs, first, 0).start()
        _row(refs, first, 0).wait()
        _start(refs, block(first, 0, 0, 0))

    zero = jnp.int32(0)
    written = lax.while_loop(lambda carry: carry[0] < W, slot, (first, zero, zero, zero))[-1]
    a_token = pltpu.make_async_copy(refs.new.at[0, 0], refs.new.at[0, 0], refs.written)
    _times(written, lambda _: a_token.wait())


def _times(count, do) -> None:
    lax.fori_loop(0, count, lambda number, carry: (do(number), carry)[1], 0)


def _slot(refs: Refs, number):
    return number * refs.new_of_all.shape[1] + refs.step


def _row(refs: Refs, number, row):
    """The copy of a slot's row of the page table."""
    return pltpu.make_async_copy(refs.table.at[_slot(refs, number)], refs.rows.at[row], refs.rows_here.at[row])


def _write(refs: Refs, number, row):
    """The copy of the slot's new token to its place in the pool."""
    position = refs.position[_slot(refs, number)]
    page, at = refs.rows[row, 0, position // refs.pages.shape[2]], position % refs.pages.shape[2]
    return pltpu.make_async_copy(refs.new.at[number, 0], refs.pool.at[refs.layer[0], page, at], refs.written)


def _page(refs: Refs, block: PageBlock, number):
    page = refs.rows[block.row, 0, block.first + number]
    here = refs.pages.at[block.buffer, number]
    return pltpu.make_async_copy(refs.pool.at[refs.layer[0], page], here, refs.pages_here.at[block.buffer])


def _start(refs: Refs, block: PageBlock) -> None:
    """Without a loop where all pages of a block are wanted, as in all blocks of a slot but the last."""
    E = refs.pages.shape[1]

    @pl.when(block.count == E)
    def _():
        for number in range(E):
            _page(refs, block, number).start()

    @pl.when(block.count < E)
    def _():
        _times(block.count, lambda number: _page(refs, block, number).start())


def _wait(refs: Refs, block: PageBlock) -> None:
    E, here, all_here = refs.pages.shape[1], refs.pages.at[block.buffer], refs.pages_here.at[block.buffer]

    @pl.when(block.count == E)
    def _():  # bytes are counted, not copies
        pltpu.make_async_copy(here, here, all_here).wait()

    @pl.when(block.count < E)
    def _():
        a_page = pltpu.make_async_copy(here.at[0], here.at[0], all_here)
        _times(block.count, lambda _: a_page.wait())


def _lay_over(refs: Refs, number, block: PageBlock) -> None:
    """Tokens of this step that belong into the block, over what was copied of their pages."""
    P, steps = refs.pages.shape[2], refs.new_of_all.shape[1]
    slot = _slot(refs, number)
    position = refs.position[slot]
    page = position // P - block.first

    @pl.when((page >= 0) & (page < block.count))
    def _():
        refs.pages[block.buffer, page, position % P] = refs.new[number, 0]

    def guess(number):
        """One of a row before. These are few and rare, so nobody else works meanwhile."""
        back = number + 1
        at = position - back
        page, row = at // P - block.first, slot - back

        @pl.when((page >= 0) & (page < block.count))
        def _():
            here = refs.pages.at[block.buffer, page, at % P]
            copy = pltpu.make_async_copy(refs.new_of_all.at[row // steps, row % steps], here, refs.overlaid)
            copy.start()
            copy.wait()

    _times(refs.guessed[slot], guess)


def _seen(refs: Refs, number, buffer, left, scale: float, running):
    """The running maximum, sum and weighted sum of every key head, after a block of which `left` tokens count."""
    G, C = len(running), refs.pages.shape[3]
    R = refs.q.shape[2] // G
    precision = lax.Precision.HIGHEST if refs.pages.dtype == jnp.float32 else None
    product = partial(lax.dot_general, precision=precision, preferred_element_type=jnp.float32)
    out = []
    for pair in range(C // 2):
        first, second = two_rows(refs.pages, buffer, pair, left)
        for k_TxK, v_TxK in [(first, second)] if 2 * G == C else [(first, first), (second, second)]:
            top_Rx1, sum_Rx1, out_RxK = running[len(out)]
            q_RxK = refs.q[number, 0, len(out) * R : (len(out) + 1) * R].astype(k_TxK.dtype)
            scores_RxT = product(q_RxK, k_TxK, (((1,), (1,)), ((), ()))) * scale
            reached_RxT = lax.broadcasted_iota(jnp.int32, scores_RxT.shape, 1) < left
            scores_RxT = jnp.where(reached_RxT, scores_RxT, UNSEEN)
            new_top_Rx1 = jnp.maximum(top_Rx1, scores_RxT.max(axis=1, keepdims=True))
            weights_RxT, keep_Rx1 = jnp.exp(scores_RxT - new_top_Rx1), jnp.exp(top_Rx1 - new_top_Rx1)
            added_RxK = product(weights_RxT.astype(v_TxK.dtype), v_TxK, (((1,), (0,)), ((), ())))
            sum_Rx1 = sum_Rx1 * keep_Rx1 + weights_RxT.sum(axis=1, keepdims=True)
            out.append((new_top_Rx1, sum_Rx1, out_RxK * keep_Rx1 + added_RxK))
    return tuple(out)


def two_rows(pages_ref, buffer, pair: int, left) -> tuple[jax.Array, jax.Array]:
    """Rows 2 * pair and the next of all tokens of a block, [T, 128]; of what is behind `left` tokens, zero.

    What lies there may be anything, NaN of another sequence among it. Two numbers of bfloat16 that lie one above the
    other are one word of the core's memory: both rows are loaded together, and masked.
    """
    _, E, P, C, K = pages_ref.shape
    rows = pages_ref.at[buffer].reshape(E * P * C, K)
    reached_TxK = lax.broadcasted_iota(jnp.int32, (E * P, K), 0) < left
    if pages_ref.dtype == jnp.float32:
        return tuple(jnp.where(reached_TxK, rows[2 * pair + n :: C, :], 0.0) for n in (0, 1))  # type: ignore
    words_TxK = jnp.where(reached_TxK, rows.bitcast(jnp.uint32)[pair :: C // 2, :], jnp.uint32(0))
    halves = words_TxK << 16, words_TxK & jnp.uint32(0xFFFF0000)  # as float32 they are what bfloat16 leaves of it
    return tuple(pltpu.bitcast(half, jnp.float32).astype(jnp.bfloat16) for half in halves)  # type: ignore
