"""What each slot decodes, as arrays: kept on the host as completions enter, advance and leave; the device gets a copy.

Nothing is gathered from Python objects when the device is to be sent off: with 512 slots that took longer than all else
the host does between two flights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from azr_jax.models.endings import STOP_IDS
from azr_jax.parallel.trees import PyTree
from azr_jax.rollout.requests import EngineSettings, Request
from azr_jax.rollout.sampling import SamplingParams


class State(NamedTuple):
    """Arrays are [S], `stop_ids` [S, n], `table` [S, M]: numpy on the host, jax on the device."""

    token: PyTree  # the next one to go into the model
    position: PyTree  # of that token in the sequence
    generated: PyTree  # tokens of the completion so far
    remaining: PyTree  # tokens it may still draw
    active: PyTree
    iteration: PyTree
    request: PyTree
    sample: PyTree
    params: SamplingParams
    stop_ids: PyTree  # padded with -1
    table: PyTree  # pages in the order of positions
    limited: PyTree = None  # whether it does without the dropped tokens; None: no slot ever does
    capacity: PyTree = None  # positions that its pages hold; None, as the next: nothing is ever guessed
    history: PyTree = None  # [S, T], all its tokens up to and with `token`


def empty_state(slots: int, settings: EngineSettings) -> State:
    """Where nobody stands, harmless numbers."""
    drafts = settings.draft_tokens > 0

    def of(value: float, dtype: DTypeLike) -> PyTree:
        return np.full(slots, value, dtype)

    return State(
        token=of(0, np.int32),
        position=of(0, np.int32),
        generated=of(0, np.int32),
        remaining=of(0, np.int32),
        active=of(False, np.bool_),
        iteration=of(0, np.uint32),
        request=of(0, np.uint32),
        sample=of(0, np.uint32),
        params=SamplingParams(of(1, np.float32), of(0, np.int32), of(1, np.float32), of(0, np.float32)),
        stop_ids=np.full((slots, STOP_IDS), -1, np.int32),
        table=np.zeros((slots, settings.pages_per_slot), np.int32),
        limited=of(False, np.bool_) if settings.limits else None,
        capacity=of(0, np.int32) if drafts else None,
        history=np.zeros((slots, settings.longest), np.int32) if drafts else None,
    )


class SlotArrays:
    """The state of all slots on the host, in their order."""

    def __init__(self, slots: int, settings: EngineSettings):
        self.state, self._empty = empty_state(slots, settings), empty_state(1, settings)
        self._page_size = settings.page_size
        self.held_S = np.zeros(slots, np.int32)  # pages in each slot's row of the table

    def enter(
        self, slot: int, request: Request, sample: int, pages: list[int], iteration: int = 0, drawn: Sequence[int] = ()
    ) -> None:
        """A completion that has drawn nothing yet, or these tokens: decoding begins with the last of its text."""
        state, text = self.state, (*request.prompt, *drawn)
        state.token[slot], state.position[slot] = text[-1], len(text) - 1
        state.generated[slot], state.remaining[slot] = len(drawn), request.max_new_tokens - len(drawn)
        state.active[slot] = True
        state.iteration[slot], state.request[slot], state.sample[slot] = iteration, request.number, sample
        for values_S, value in zip(state.params, (request.temperature, request.top_k, request.top_p, request.min_p)):
            values_S[slot] = value
        state.stop_ids[slot, : len(request.stop_ids)] = request.stop_ids
        if state.limited is not None:
            state.limited[slot] = request.limited
        if state.history is not None:
            state.history[slot, : len(text)] = text
        self.add_pages(slot, pages)

    def add_pages(self, slot: int, pages: list[int]) -> None:
        held = self.held_S[slot]
        self.state.table[slot, held : held + len(pages)] = pages
        self.held_S[slot] = held + len(pages)
        if self.state.capacity is not None:
            self.state.capacity[slot] = self.held_S[slot] * self._page_size

    def advance(self, rows: np.ndarray, tokens_NxS: np.ndarray, count_S: np.ndarray) -> None:
        """By what the device drew: its row r is slot `rows[r]`, of which the first `count_S[r]` tokens count."""
        if self.state.history is not None:
            number, row = np.nonzero(np.arange(len(tokens_NxS))[:, None] < count_S)
            self.state.history[rows[row], self.state.position[rows[row]] + 1 + number] = tokens_NxS[number, row]
        some = np.flatnonzero(count_S)
        slots, count = rows[some], count_S[some]
        self.state.token[slots] = tokens_NxS[count - 1, some]
        for values_S in (self.state.position, self.state.generated):
            values_S[slots] += count
        self.state.remaining[slots] -= count

    def leave(self, slot: int) -> None:
        self.held_S[slot] = 0
        for values, empty in zip(jax.tree.leaves(self.state), jax.tree.leaves(self._empty)):
            values[slot] = empty[0]

    def short_of_pages(self, steps: int, page_size: int) -> np.ndarray:
        """How many pages each slot needs beyond those it has, to write so many tokens or all it may."""
        last_S = self.state.position + np.minimum(steps, self.state.remaining) - 1
        return np.where(self.state.active, last_S // page_size + 1 - self.held_S, 0)

    def in_order(self, rows: np.ndarray) -> State:
        """A copy with these slots in this order."""
        return jax.tree.map(lambda values: values[rows], self.state)
