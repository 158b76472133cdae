"""Pages of steps of eight bits and their scales, for the decode kernel.

Steps lie as [L, pages, C, P, 128]: of each row of a token (key and value of a head in turn, or, of heads of 64 numbers,
both in one row) all tokens of a page together, so that a block is read as it lies. Scales are [L, pages, 2G, P], those
of a head's keys and values in turn.

Four numbers that lie one above the other are one word of memory, and a copy takes 32 of them at the least: so a token
is laid over its page's copy in the core, and with it go back the 32 tokens among which it stands, and its page's
scales. Nobody else writes there, for a page that is written to is one slot's alone; of the rows that hold guesses of
one slot the last writes for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from azr_jax.rollout.decode_kernel import LANES, PageBlock, Pools, Refs, guessed_before, slot_of

TOGETHER = 32  # tokens that are written together


@dataclass(frozen=True)
class StepFormat:
    """A Format. A new token is rows of float32, [C + 2G, 128]: its steps, then its scales, each all along a row."""

    guesses: bool  # whether rows may hold any; fewer than TOGETHER

    @property
    def groups(self) -> int:
        """Of tokens that a slot writes to, at the most."""
        return 2 if self.guesses else 1

    def page_size(self, pools: Pools) -> int:
        return pools[0].shape[3]

    def kv_heads(self, pools: Pools) -> int:
        return pools[1].shape[2] // 2

    def beside(self, pools: Pools, slots: int) -> list[Any]:
        """What is on its way back, and one guess."""
        (C, _, K), (rows, P) = pools[0].shape[2:], pools[1].shape[2:]
        return [
            pltpu.VMEM((slots, self.groups, C, TOGETHER, K), pools[0].dtype),
            pltpu.VMEM((slots, self.groups, rows, P), pools[1].dtype),
            pltpu.VMEM((C + rows, K), jnp.float32),
        ]

    def slot_bytes(self, pools: Pools, heads: int) -> int:
        """Of the core's memory: query, answer and new token twice, for those of the next step come meanwhile."""
        (C, _, K), (rows, P) = pools[0].shape[2:], pools[1].shape[2:]
        back = C * TOGETHER * K + _in_eights(rows) * P * 4
        return 4 * _in_eights(heads) * LANES * 4 + 2 * _in_eights(C + rows) * LANES * 4 + self.groups * back

    def lay_over(self, refs: Refs, number, row, block: PageBlock) -> None:
        slot, P, guess = slot_of(refs, number), self.page_size(refs.pools), refs.beside[-1]
        position = refs.position[slot]

        def lay(new, at) -> None:
            """`new`: in the core's memory."""
            page = at // P - block.first

            @pl.when((page >= 0) & (page < block.count))
            def _():
                _lay(refs, new, block.buffer, page, at % P)

        def overlay(new, at) -> None:
            copy = pltpu.make_async_copy(new, guess, refs.overlaid)
            copy.start()
            copy.wait()
            lay(guess, at)

        if self.guesses:
            guessed_before(refs, number, overlay)
        lay(refs.new.at[number, 0], position)
        for back in range(self.groups):
            group = position // TOGETHER - back
            page = group * TOGETHER // P - block.first

            @pl.when((page >= 0) & (page < block.count) & (back < self._writes(refs, slot)))
            def _(back=back, group=group, page=page):
                self._send(refs, number, row, back, block, page, group * TOGETHER % P)

    def _writes(self, refs: Refs, slot) -> jax.Array:
        """Groups that the row sends back: none, if the next one is of the same slot."""
        if not self.guesses:
            return jnp.int32(1)
        position, last = refs.position[slot], refs.guessed.shape[0] - 1
        followed = (slot < last) & (refs.guessed[jnp.minimum(slot + 1, last)] > 0)
        first = (position - refs.guessed[slot]) // TOGETHER
        return jnp.where(followed, 0, position // TOGETHER - first + 1)

    def _send(self, refs: Refs, number, row, back: int, block: PageBlock, page, at) -> None:
        """Back into the pools: from another place than the block's, which is needed for the next one."""
        (steps, scales), (steps_out, scales_out, _) = refs.pages, refs.beside
        group = pl.ds(pl.multiple_of(at, TOGETHER), TOGETHER)
        steps_out[number, back] = steps[block.buffer, page, :, group, :]
        scales_out[number, back] = scales[block.buffer, page]
        layer, whole = refs.layer[0], refs.rows[row, 0, block.first + page]
        place = refs.pools[0].at[layer, whole, :, group, :]
        pltpu.make_async_copy(steps_out.at[number, back], place, refs.written).start()
        pltpu.make_async_copy(scales_out.at[number, back], refs.pools[1].at[layer, whole], refs.written).start()

    def write(self, refs: Refs, number, row) -> jax.Array:
        del row  # they have left
        return self._writes(refs, slot_of(refs, number))

    def a_write(self, refs: Refs) -> list[Any]:
        return [pltpu.make_async_copy(of.at[0, 0], of.at[0, 0], refs.written) for of in refs.beside[:2]]

    def heads(self, refs: Refs, buffer, left, dtype):
        steps, scales = refs.pages
        _, E, C, P, K = steps.shape
        reached_1xT = lax.broadcasted_iota(jnp.int32, (1, E * P), 1) < left

        def rows(number: int) -> jax.Array:
            return steps[buffer, :, number].reshape(E * P, K).astype(dtype)

        def scale(number: int) -> jax.Array:
            pages = [scales[buffer, page, number : number + 1, :] for page in range(E)]
            return jnp.concatenate(pages, axis=1)

        G = scales.shape[2] // 2
        for head in range(G):
            k_TxK = rows(2 * head if C == 2 * G else head)
            v_TxK = rows(2 * head + 1) if C == 2 * G else k_TxK
            yield k_TxK, v_TxK, scale(2 * head), jnp.where(reached_1xT, scale(2 * head + 1), 0.0)


def _in_eights(rows: int) -> int:
    """As they lie in a core."""
    return -(-rows // 8) * 8


def _lay(refs: Refs, new, buffer, page, at) -> None:
    """A token over its place in a page of the block."""
    steps, scales = refs.pages
    _, _, C, P, K = steps.shape
    group = pl.ds(pl.multiple_of(at // TOGETHER * TOGETHER, TOGETHER), TOGETHER)
    here = lax.broadcasted_iota(jnp.int32, (TOGETHER, K), 0) == at % TOGETHER
    for number in range(C):
        before = steps[buffer, page, number, group, :].astype(jnp.float32)
        after = jnp.where(here, jnp.broadcast_to(new[number : number + 1, :], (TOGETHER, K)), before)
        steps[buffer, page, number, group, :] = after.astype(jnp.int8)
    before = scales[buffer, page]
    here = lax.broadcasted_iota(jnp.int32, before.shape, 1) == at
    after = jnp.concatenate([new[C:, :]] * (P // LANES), axis=1)
    scales[buffer, page] = jnp.where(here, after, before)
