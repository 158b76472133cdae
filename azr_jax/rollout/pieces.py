"""What one prefill call reads: pieces of several prompts, or one of one, in rows side by side.

The rows of a call are fixed, for they shape the program. A piece stands in rows of its own, its tokens in order; it
knows the pages of its prompt and the position at which it begins. All keys and values of a layer are written before any
row looks, so a piece may follow another of its own prompt, or of one that begins alike, in the same call.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from azr_jax.parallel.trees import PyTree
from azr_jax.rollout.scheduler import Placement


class Call(NamedTuple):
    """Of one replica: arrays are [B], `token` [T], `table` [B, M]; of all replicas [R, ...]. Unused ones are empty."""

    token: PyTree
    row: PyTree  # where each piece begins, in order; of unused ones T, but of the first 0
    start: PyTree  # position of its first token
    end: PyTree  # behind its last
    table: PyTree  # pages in the order of positions


class PrefillRows(NamedTuple):
    """Of one replica's call, by row, [T]."""

    piece: jax.Array
    position: jax.Array
    live: jax.Array  # holds a token of a prompt


class Reading(NamedTuple):
    """A stretch of a prompt that has to be read, in calls of so many rows."""

    placement: Placement
    start: int
    end: int
    rows: int


def nothing(replicas: int, rows: int, pieces: int, pages: int) -> Call:
    row_RxB = np.full((replicas, pieces), rows, np.int32)
    row_RxB[:, 0] = 0
    start_RxB, end_RxB = np.zeros((2, replicas, pieces), np.int32)
    table_RxBxM = np.zeros((replicas, pieces, pages), np.int32)
    return Call(np.zeros((replicas, rows), np.int32), row_RxB, start_RxB, end_RxB, table_RxBxM)


def readings(placement: Placement, rows: int) -> list[Reading]:
    """What is new of a prompt: at one stretch in calls of so many rows, or with 0 chunk by chunk."""
    fresh = placement.fresh
    if fresh and rows:
        return [Reading(placement, fresh[0].start, fresh[-1].end, rows)]
    return [Reading(placement, chunk.start, chunk.end, chunk.shape) for chunk in fresh]


def fill(call: Call, replica: int, todo: deque[Reading], tile: int) -> int:
    """Puts what comes first into a replica's rows, as much as goes in; how many tokens that is.

    A piece begins at a multiple of `tile` rows, and where it is cut its rest begins at one of its prompt's positions.
    """
    (T,), at, tokens = call.token.shape[1:], 0, 0
    for number in range(call.row.shape[1]):
        if not todo or todo[0].rows != T or at >= T:
            break
        reading = todo.popleft()
        start, length = reading.start, min(reading.end - reading.start, T - at)
        text, body = reading.placement.text, reading.placement.body
        if (end := start + length) < reading.end:
            todo.appendleft(reading._replace(start=end))
        call.row[replica, number], call.start[replica, number], call.end[replica, number] = at, start, end
        call.token[replica, at : at + length] = text[start:end]
        call.table[replica, number, : len(body)] = body
        tokens += length
        at += -(-length // tile) * tile
    return tokens


def by_row(call: Call) -> PrefillRows:
    """On the device: which piece each row belongs to, and where it stands in its prompt."""
    row_T = jnp.arange(call.token.shape[0])
    piece_T = (call.row <= row_T[:, None]).sum(axis=1, dtype=jnp.int32) - 1
    position_T = call.start[piece_T] + row_T - call.row[piece_T]
    return PrefillRows(piece_T, position_T, position_T < call.end[piece_T])
