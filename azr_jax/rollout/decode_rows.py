"""Pages of numbers as the model computes with them, for the decode kernel: a token is rows of a page, [C, 128].

Key and value of a head in turn where heads have 128 numbers, or both side by side in one row where they have 64. The
write of a token is a copy of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from azr_jax.rollout.decode_kernel import PageBlock, Pools, Refs, guessed_before, slot_of


@dataclass(frozen=True)
class RowFormat:
    """A Format. The pool is [L, pages, P, C, 128]."""

    rows_a_head: int  # 2, or 1 where key and value share one

    def page_size(self, pools: Pools) -> int:
        return pools[0].shape[2]

    def kv_heads(self, pools: Pools) -> int:
        return pools[0].shape[3] // self.rows_a_head

    def beside(self, pools: Pools, slots: int) -> list[Any]:
        del pools, slots
        return []

    def lay_over(self, refs: Refs, number, row, block: PageBlock) -> None:
        del row
        ((pages,), P), slot = (refs.pages, self.page_size(refs.pools)), slot_of(refs, number)
        position = refs.position[slot]
        page = position // P - block.first

        @pl.when((page >= 0) & (page < block.count))
        def _():
            pages[block.buffer, page, position % P] = refs.new[number, 0]

        def overlay(new, at):
            page = at // P - block.first

            @pl.when((page >= 0) & (page < block.count))
            def _():
                copy = pltpu.make_async_copy(new, pages.at[block.buffer, page, at % P], refs.overlaid)
                copy.start()
                copy.wait()

        guessed_before(refs, number, overlay)

    def write(self, refs: Refs, number, row) -> jax.Array:
        ((pool,), P), position = (refs.pools, self.page_size(refs.pools)), refs.position[slot_of(refs, number)]
        page = refs.rows[row, 0, position // P]
        place = pool.at[refs.layer[0], page, position % P]
        pltpu.make_async_copy(refs.new.at[number, 0], place, refs.written).start()
        return jnp.int32(1)

    def a_write(self, refs: Refs) -> list[Any]:
        return [pltpu.make_async_copy(refs.new.at[0, 0], refs.new.at[0, 0], refs.written)]

    def heads(self, refs: Refs, buffer, left, dtype):
        del dtype
        (pages,) = refs.pages
        for pair in range(pages.shape[3] // 2):
            first, second = two_rows(pages, buffer, pair, left)
            both = [(first, second)] if self.rows_a_head == 2 else [(first, first), (second, second)]
            yield from ((k_TxK, v_TxK, None, None) for k_TxK, v_TxK in both)


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
