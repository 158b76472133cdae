"""Several tokens of a completion in one step, where slots stand empty: guessed from what the sequence says already.

Programs quote themselves and answers quote their prompt. What followed the last words where they stood before is a
guess at what follows now (n-grams of the sequence itself; no second model). The guess stands in rows of the step that
no slot needs, each row a token further; a row's key and value are written before any row looks, so a row sees those
before it. Every row draws with the random number of its own place, and what was drawn holds as long as it is what the
next row had assumed: the text is the one that would have come without guesses, and so are its log-probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from azr_jax.rollout.sampling import Sampled
from azr_jax.rollout.slots import State


class Rows(NamedTuple):
    """What the rows of a step hold. A slot's rows stand side by side, its next token first."""

    state: State  # by row; a row that holds nothing is not active
    slot_R: jax.Array
    ahead_R: jax.Array  # how many guessed tokens stand before it and with it
    first_S: jax.Array  # the row of each slot's next token
    runs_S: jax.Array  # whether a slot takes part: active, and with a page for its next token


class Drawn(NamedTuple):
    """Of a flight so far, by slot: arrays are [C, S], as many tokens as a slot can come by at most."""

    tokens: Sampled
    count_S: jax.Array
    runs: jax.Array  # slots times steps in which they took part

    @classmethod
    def nothing(cls, most: int, slots: int) -> Drawn:
        return cls(Sampled.room(most, slots), jnp.zeros(slots, jnp.int32), jnp.int32(0))


def running(state: State) -> jax.Array:
    return state.active & (state.position < state.capacity)


def spread(state: State, draft: int) -> Rows:
    """As many rows for each running slot as there are, `draft` guesses at most."""
    runs_S = running(state)
    S, count = runs_S.shape[0], runs_S.sum()
    width = jnp.clip(S // jnp.maximum(count, 1), 1, 1 + draft)
    number_R = jnp.arange(S)
    nth_R, ahead_R = number_R // width, number_R % width
    slot_R = jnp.argsort(~runs_S, stable=True)[jnp.minimum(nth_R, S - 1)]
    guesses_SxD = guesses(state.history, state.position, draft)
    rows = jax.tree.map(lambda values: values[slot_R], state._replace(history=None))
    rows = rows._replace(
        token=jnp.where(ahead_R == 0, rows.token, guesses_SxD[slot_R, jnp.maximum(ahead_R - 1, 0)]),
        position=rows.position + ahead_R,
        generated=rows.generated + ahead_R,
        active=(nth_R < count) & (ahead_R < rows.remaining) & (rows.position + ahead_R < rows.capacity),
    )
    return Rows(rows, slot_R, ahead_R, (jnp.cumsum(runs_S) - 1) * width, runs_S)


def guesses(history_SxT: jax.Array, position_S: jax.Array, draft: int) -> jax.Array:
    """The tokens that followed the longest of the last three, two or one tokens where they stood last, [S, draft].

    Where fewer followed than are asked for, they come again: what repeats itself is guessed to go on.
    """
    T = history_SxT.shape[1]
    at_SxT = jnp.arange(T)[None]

    def same(back: int) -> jax.Array:
        """Whether the token so far before each place is the one so far before the last."""
        wanted_S = jnp.take_along_axis(history_SxT, jnp.maximum(position_S - back, 0)[:, None], axis=1)
        moved_SxT = jnp.pad(history_SxT, ((0, 0), (back, 0)))[:, :T]
        return (moved_SxT == wanted_S) & (at_SxT >= back)

    first, second, third = same(0), same(1), same(2)
    length_SxT = first * (1 + second * (1 + third.astype(jnp.int32)))
    best_S = jnp.where((at_SxT < position_S[:, None]) & first, length_SxT * T + at_SxT, -1).max(axis=1)
    found_S = jnp.where(best_S < 0, position_S, best_S % T)
    period_S = jnp.maximum(position_S - found_S, 1)
    after_SxD = found_S[:, None] + 1 + jnp.arange(draft) % period_S[:, None]
    return jnp.take_along_axis(history_SxT, jnp.minimum(after_SxD, position_S[:, None]), axis=1)


def accept(state: State, rows: Rows, new: Sampled, drawn: Drawn) -> tuple[State, Drawn]:
    """Takes what holds: of each slot the first row, and every row that assumed what the row before it drew."""
    S = rows.slot_R.shape[0]
    number_R = jnp.arange(S)
    ended_R = new.ends(rows.state.stop_ids)
    before_R = jnp.maximum(number_R - 1, 0)
    assumed_R = (rows.state.token == new.token[before_R]) & ~ended_R[before_R]
    wrong_R = ~(rows.state.active & ((rows.ahead_R == 0) | assumed_R))
    wrong_so_far_R = jnp.cumsum(wrong_R)
    begin_R = number_R - rows.ahead_R
    holds_R = wrong_so_far_R == (wrong_so_far_R - wrong_R)[begin_R]
    count_S = jnp.zeros(S, jnp.int32).at[rows.slot_R].add(holds_R.astype(jnp.int32))
    last_S = jnp.clip(rows.first_S + count_S - 1, 0, S - 1)
    any_S = count_S > 0

    place_R = jnp.where(holds_R, drawn.count_S[rows.slot_R] + rows.ahead_R, drawn.tokens.token.shape[0])
    tokens = jax.tree.map(
        lambda all_CxS, one_R: all_CxS.at[place_R, rows.slot_R].set(one_R, mode="drop"), drawn.tokens, new
    )
    written_R = jnp.where(holds_R, rows.state.position + 1, state.history.shape[1])
    remaining_S = state.remaining - count_S
    state = state._replace(
        token=jnp.where(any_S, new.token[last_S], state.token),
        position=state.position + count_S,
        generated=state.generated + count_S,
        remaining=remaining_S,
        active=state.active & ~(any_S & ended_R[last_S]) & (remaining_S > 0),
        history=state.history.at[rows.slot_R, written_R].set(new.token, mode="drop"),
    )
    return state, Drawn(tokens, drawn.count_S + count_S, drawn.runs + rows.runs_S.sum())
