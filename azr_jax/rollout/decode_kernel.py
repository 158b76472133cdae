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

How tokens lie in their pages, are laid over them and written back is a Format's: numbers as the model computes with
them (decode_rows.py), or steps of eight bits and their scales (decode_steps.py). A query of 64 numbers is followed by
as many zeros where a row of a page holds a key and its value side by side, so that it does not see the value; of the
weighted sum of such rows the second half is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # numbers of a row of a page
UNSEEN = -1e30  # score of what is not seen; finite, or what is not there would make NaN
NAME = "paged_decode_kernel"  # in compiled text

Pools = tuple[jax.Array, ...]


class Refs(NamedTuple):
    """Which step of the grid this is, and what it is given. W: slots of a step, N: steps."""

    step: Any
    layer: Any  # [1]
    position: Any  # [S]; of a slot that is off, -1
    guessed: Any  # [S], how many rows before it are of the same slot, each a token further
    q: Any  # [W, 1, H, 128]
    new: Any  # [W, 1, C, 128], a token as the format writes it
    new_of_all: Any  # [W, N, C, 128], in the chip's memory
    table: Any  # [S, 1, M], there too
    out: Any  # [W, 1, H, 128]
    pools: tuple[Any, ...]  # each [L, pages, ...]
    pages: tuple[Any, ...]  # of each pool [2, E, ...]: this block and the next
    rows: Any  # [2, 1, M]: this slot's row of the page table and the next one's
    pages_here: Any  # semaphores
    rows_here: Any
    written: Any
    overlaid: Any
    beside: tuple[Any, ...]  # what the format wants of the core's memory


class PageBlock(NamedTuple):
    """Of some slot's context, and where its copy goes. `count` 0: none."""

    row: Any  # which of `rows` is the slot's
    first: Any  # page
    count: Any
    buffer: Any


class Format(Protocol):
    """How tokens are kept in pages."""

    def page_size(self, pools: Pools) -> int: ...

    def kv_heads(self, pools: Pools) -> int: ...

    def beside(self, pools: Pools, slots: int) -> list[Any]:
        """Of the core's memory, for a step of so many slots."""
        ...

    def lay_over(self, refs: Refs, number, row, block: PageBlock) -> None:
        """Tokens of this step that belong into the block, over what was copied of their pages."""
        ...

    def write(self, refs: Refs, number, row) -> jax.Array:
        """Sends the slot's new token to its place in the pool; how many `writes` are under way for it."""
        ...

    def a_write(self, refs: Refs) -> list[Any]:
        """Copies as large as one of `write`'s, to be waited for."""
        ...

    def heads(self, refs: Refs, buffer, left, dtype) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Of each key head: keys and values of a block [T, 128] of `dtype`, and the scales of both, [1, T] or None.

        Of what is behind `left` tokens nothing is seen; but it is multiplied, so values, times their scales, are zero.
        """
        ...


def decode(
    form: Format, q_SxHxK, new_SxCxK, pools: Pools, layer, table_SxM, position_S, on_S, guessed_S=None,
    *, block_pages: int, slots_a_step: int,
) -> tuple[jax.Array, Pools]:  # fmt: skip
    """Attention of one query per slot over its pages, and the pools with what is new in them.

    `position_S`: of the new token. Of slots that are off nothing is written, and the answer is zero.
    """
    S, H, K = q_SxHxK.shape
    position_S = jnp.where(on_S, position_S, -1)
    guessed_S = jnp.zeros(S, jnp.int32) if guessed_S is None else jnp.where(on_S, guessed_S, 0)
    steps = 2 * max(1, -(-S // (2 * slots_a_step)))  # two at least, for two cores
    W = -(-S // steps)
    M = -(-table_SxM.shape[1] // LANES) * LANES

    def dealt(x_Sx):
        x = jnp.pad(x_Sx, ((0, W * steps - S), *((0, 0),) * (x_Sx.ndim - 1)))
        return x.reshape(W, steps, *x.shape[1:])

    new_WxNxCxK = dealt(new_SxCxK)
    position_S = jnp.pad(position_S.astype(jnp.int32), (0, W * steps - S), constant_values=-1)
    guessed_S = jnp.pad(guessed_S.astype(jnp.int32), (0, W * steps - S))
    table_SxM = jnp.pad(table_SxM.astype(jnp.int32), ((0, W * steps - S), (0, M - table_SxM.shape[1])))
    step = partial(_step, form=form, scale=K**-0.5, dtype=q_SxHxK.dtype)
    call = _call(step, form, (W, steps, H), new_SxCxK, pools, block_pages, M)
    layer_1 = jnp.asarray(layer, jnp.int32)[None]
    q_WxNxHxK = dealt(jnp.pad(q_SxHxK.astype(jnp.float32), ((0, 0), (0, 0), (0, LANES - K))))
    args = (layer_1, position_S, guessed_S, q_WxNxHxK, new_WxNxCxK, new_WxNxCxK, table_SxM[:, None], *pools)
    out_WxNxHxK, *pools_after = call(*args)
    return out_WxNxHxK.reshape(-1, H, LANES)[:S, :, LANES - K :].astype(q_SxHxK.dtype), tuple(pools_after)


def _call(step, form: Format, sizes: tuple[int, int, int], new_SxCxK, pools: Pools, block_pages: int, M: int):
    W, steps, H = sizes
    C, count = new_SxCxK.shape[1], len(pools)
    queries = pl.BlockSpec((W, 1, H, LANES), lambda step, *_: (0, step, 0, 0))
    new = pl.BlockSpec((W, 1, C, LANES), lambda step, *_: (0, step, 0, 0))
    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    copied = pltpu.SemaphoreType.DMA

    def kernel(*refs):
        inputs, (out, *rest) = refs[:7], refs[7 + count :]
        pools, pages, rest = tuple(rest[:count]), tuple(rest[count : 2 * count]), rest[2 * count :]
        step(Refs._make((pl.program_id(0), *inputs, out, pools, pages, *rest[:5], tuple(rest[5:]))))

    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(steps,),
            in_specs=[queries, new, anywhere, anywhere, *(anywhere,) * count],
            out_specs=[queries, *(anywhere,) * count],
            scratch_shapes=[
                *(pltpu.VMEM((2, block_pages, *pool.shape[2:]), pool.dtype) for pool in pools),
                pltpu.SMEM((2, 1, M), jnp.int32),
                copied((2,)),
                copied((2,)),
                copied(()),
                copied(()),
                *form.beside(pools, W),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct((W, steps, H, LANES), jnp.float32),
            *(jax.ShapeDtypeStruct(pool.shape, pool.dtype) for pool in pools),
        ],
        input_output_aliases={7 + number: 1 + number for number in range(count)},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), disable_bounds_checks=True),
        name=NAME,
    )


def _step(refs: Refs, *, form: Format, scale: float, dtype) -> None:
    """One step of the grid: the slots dealt to it, one after the other."""
    W, E, P, G = refs.q.shape[0], refs.pages[0].shape[1], form.page_size(refs.pools), form.kv_heads(refs.pools)
    refs.out[...] = jnp.zeros(refs.out.shape, refs.out.dtype)

    def tokens(number):
        """Of the slot's context with the new one; 0: it is off, or there is none of this number."""
        return jnp.where(number < W, refs.position[slot_of(refs, jnp.minimum(number, W - 1))] + 1, 0)

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
            form.lay_over(refs, number, row, here)
            left = length - at * E * P
            return 1 - buffer, _seen(refs, number, form.heads(refs, buffer, left, dtype), left, scale, running)

        R = refs.q.shape[2] // G  # queries of a key head
        nothing = (jnp.full((R, 1), -jnp.inf), jnp.zeros((R, 1)), jnp.zeros((R, LANES)))
        buffer, running = lax.fori_loop(0, blocks, look, (buffer, (nothing,) * G))
        for head, (_, sum_Rx1, out_RxK) in enumerate(running):
            refs.out[number, 0, head * R : (head + 1) * R] = out_RxK / sum_Rx1
        return after, 1 - row, buffer, written + form.write(refs, number, row)

    first = on_from(0)

    @pl.when(first < W)
    def _():
        _row(refs, first, 0).start()
        _row(refs, first, 0).wait()
        _start(refs, block(first, 0, 0, 0))

    zero = jnp.int32(0)
    written = lax.while_loop(lambda carry: carry[0] < W, slot, (first, zero, zero, zero))[-1]
    times(written, lambda _: [copy.wait() for copy in form.a_write(refs)])


def times(count, do) -> None:
    lax.fori_loop(0, count, lambda number, carry: (do(number), carry)[1], 0)


def slot_of(refs: Refs, number):
    return number * refs.new_of_all.shape[1] + refs.step


def _row(refs: Refs, number, row):
    """The copy of a slot's row of the page table."""
    return pltpu.make_async_copy(refs.table.at[slot_of(refs, number)], refs.rows.at[row], refs.rows_here.at[row])


def _page(refs: Refs, block: PageBlock, number) -> list[Any]:
    """The copies of one page, of each pool."""
    page = refs.rows[block.row, 0, block.first + number]
    return [
        pltpu.make_async_copy(
            pool.at[refs.layer[0], page], pages.at[block.buffer, number], refs.pages_here.at[block.buffer]
        )
        for pool, pages in zip(refs.pools, refs.pages)
    ]


def _start(refs: Refs, block: PageBlock) -> None:
    """Without a loop where all pages of a block are wanted, as in all blocks of a slot but the last."""
    E = refs.pages[0].shape[1]

    def start(number):
        for copy in _page(refs, block, number):
            copy.start()

    @pl.when(block.count == E)
    def _():
        for number in range(E):
            start(number)

    @pl.when(block.count < E)
    def _():
        times(block.count, start)


def _wait(refs: Refs, block: PageBlock) -> None:
    """Bytes are counted, not copies."""
    E, all_here = refs.pages[0].shape[1], refs.pages_here.at[block.buffer]
    here = [pages.at[block.buffer] for pages in refs.pages]

    @pl.when(block.count == E)
    def _():
        for pages in here:
            pltpu.make_async_copy(pages, pages, all_here).wait()

    @pl.when(block.count < E)
    def _():
        a_page = [pltpu.make_async_copy(pages.at[0], pages.at[0], all_here) for pages in here]
        times(block.count, lambda _: [copy.wait() for copy in a_page])


def guessed_before(refs: Refs, number, overlay: Callable[[Any, Any], None]) -> None:
    """`overlay(the new token of a row before, its position)` for each that this one's slot has guessed.

    The first is a place in the chip's memory. These are few and rare, so nobody else works meanwhile.
    """
    slot, steps = slot_of(refs, number), refs.new_of_all.shape[1]

    def guess(back):
        row = slot - 1 - back
        overlay(refs.new_of_all.at[row // steps, row % steps], refs.position[slot] - 1 - back)

    times(refs.guessed[slot], guess)


def _seen(refs: Refs, number, heads, left, scale: float, running):
    """The running maximum, sum and weighted sum of every key head, after a block of which `left` tokens count."""
    R, out = refs.q.shape[2] // len(running), []
    for (k_TxK, v_TxK, k_scale_1xT, v_scale_1xT), (top_Rx1, sum_Rx1, out_RxK) in zip(heads, running, strict=True):
        precision = lax.Precision.HIGHEST if k_TxK.dtype == jnp.float32 else None
        product = partial(lax.dot_general, precision=precision, preferred_element_type=jnp.float32)
        q_RxK = refs.q[number, 0, len(out) * R : (len(out) + 1) * R].astype(k_TxK.dtype)
        scores_RxT = product(q_RxK, k_TxK, (((1,), (1,)), ((), ()))) * scale
        scores_RxT = scores_RxT if k_scale_1xT is None else scores_RxT * k_scale_1xT
        reached_RxT = lax.broadcasted_iota(jnp.int32, scores_RxT.shape, 1) < left
        scores_RxT = jnp.where(reached_RxT, scores_RxT, UNSEEN)
        new_top_Rx1 = jnp.maximum(top_Rx1, scores_RxT.max(axis=1, keepdims=True))
        weights_RxT, keep_Rx1 = jnp.exp(scores_RxT - new_top_Rx1), jnp.exp(top_Rx1 - new_top_Rx1)
        scaled_RxT = weights_RxT if v_scale_1xT is None else weights_RxT * v_scale_1xT
        added_RxK = product(scaled_RxT.astype(v_TxK.dtype), v_TxK, (((1,), (0,)), ((), ())))
        sum_Rx1 = sum_Rx1 * keep_Rx1 + weights_RxT.sum(axis=1, keepdims=True)
        out.append((new_top_Rx1, sum_Rx1, out_RxK * keep_Rx1 + added_RxK))
    return tuple(out)
