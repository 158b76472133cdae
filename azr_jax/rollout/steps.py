"""What the device computes for one replica: read pieces of prompts, copy pages, decode a few tokens in all slots.

These functions see one replica's slots and pages; programs.py compiles them for one device or for a mesh. Inside a
replica a layer may be split over the mesh axis `tensor`: attention then runs on each device's heads by itself, and
sampling on each device's share of the slots.

How the cache lies in memory, is written and looked at is the backend's (attention.py): pools of pages for all layers.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from azr_jax.parallel.trees import PyTree
from azr_jax.rollout import drafts
from azr_jax.rollout.attention import Backend, Cache, decode_slots
from azr_jax.rollout.eight_bits import queries_and_keys
from azr_jax.rollout.pieces import Call, PrefillRows, by_row
from azr_jax.rollout.sampling import FAR_BELOW, Sampled, SamplingParams, sample
from azr_jax.rollout.slots import State

Ids: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]  # whose randomness: iteration, request, sample
HEADS = PartitionSpec(None, None, "tensor")  # of queries, keys and values: [rows, tokens, heads, ...]
ALL = PartitionSpec()


class Types(NamedTuple):
    """What the model computes in, as `Transformer.hidden` takes it."""

    dtype: DTypeLike
    matmul_dtype: DTypeLike


def in_replica(backend: Backend) -> PartitionSpec:
    """How a pool lies on the devices of a replica."""
    return PartitionSpec(*(None if axis == "fsdp" else axis for axis in backend.POOL))


def prefill(
    graphdef: nnx.GraphDef[Any],
    types: Types,
    backend: Backend,
    tile: int,
    params: PyTree,
    cache: Cache,
    call: Call,
) -> tuple[Cache, jax.Array]:
    """Writes the keys and values of what the call reads into their pages. `tile` 0: it reads one piece.

    The second result is how many tokens these are: a number that can be waited for when the cache has gone on.
    """
    model, call = nnx.merge(graphdef, params), jax.tree.map(lambda of_1: of_1[0], call)
    tile = tile or call.token.shape[0]

    def local(q_1xTxHxK, k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, call: Call, rows: PrefillRows, window):
        """One device's heads."""
        q_1xTxHxK, k_1xTxGxK = queries_and_keys(q_1xTxHxK, k_1xTxGxK, cache[0])
        count, P, M = cache[0].shape[1], backend.page_size(cache), call.table.shape[1]
        page_T = call.table[rows.piece, jnp.minimum(rows.position // P, M - 1)]
        page_T = jnp.where(rows.live, page_T, count)  # padding is written nowhere
        cache = backend.write_chunk(k_1xTxGxK, v_1xTxGxK, cache, layer, page_T, rows.position % P, tile)
        return backend.attend_chunk(q_1xTxHxK, cache, layer, call, rows, tile, window), cache

    pool = in_replica(backend)
    split = jax.shard_map(
        local,
        in_specs=(HEADS, HEADS, HEADS, pool, ALL, ALL, ALL, ALL),
        out_specs=(HEADS, pool),
        axis_names={"tensor"},
        check_vma=False,
    )
    rows = by_row(call)

    def attend(q, k, v, cache: Cache, layer: jax.Array, window: jax.Array | None = None):
        return split(q, k, v, cache, layer, call, rows, window)

    _, cache = model.hidden(call.token[None], rows.position[None], attend, cache, **types._asdict())
    return cache, (call.end - call.start).sum(keepdims=True)


def copy_pages(backend: Backend, cache: Cache, from_C: jax.Array, to_C: jax.Array) -> Cache:
    """Copies whole pages; a `to` out of range copies nothing.

    One after the other: gathered and scattered, TPU's compiler would turn the pool to another layout and back.
    """

    def local(cache: Cache, from_C: jax.Array, to_C: jax.Array) -> Cache:
        count = cache[0].shape[1]

        def copy(number, cache: Cache) -> Cache:
            to = to_C[number]
            start, to = jnp.where(to < count, from_C[number], 0), jnp.where(to < count, to, 0)  # or page 0 onto itself
            pages = [jax.lax.dynamic_slice_in_dim(pool, start, 1, axis=1) for pool in cache]
            return tuple(
                jax.lax.dynamic_update_slice_in_dim(pool, page, to, axis=1) for pool, page in zip(cache, pages)
            )

        wanted = jnp.max(jnp.where(to_C < count, 1 + jnp.arange(to_C.shape[0]), 0))
        return jax.lax.fori_loop(0, wanted, copy, cache)

    pool = in_replica(backend)
    split = jax.shard_map(local, in_specs=(pool, ALL, ALL), out_specs=pool, axis_names={"tensor"}, check_vma=False)
    return split(cache, from_C, to_C)


def decode(
    graphdef: nnx.GraphDef[Any],
    types: Types,
    backend: Backend,
    steps: int,
    never: tuple[int, ...],
    params: PyTree,
    cache: Cache,
    state: State,
    key: jax.Array,
    refill_threshold: jax.Array,
    dropped_V: jax.Array | None,
) -> tuple[Cache, Sampled, jax.Array]:
    """Up to `steps` tokens in every active slot; ends earlier once none is, or `refill_threshold` of them fell free.

    That counts all replicas. Gives what was drawn, [steps, S], and which slots were active when it was.
    """
    forward = _forward(graphdef, types, backend, never, params, key, dropped_V, state.table.shape[0])

    def step(number, cache, state, drawn):
        cache, new = forward(cache, state)
        tokens = jax.tree.map(lambda all_NxS, one_S: all_NxS.at[number].set(one_S), drawn[0], new)
        drawn = tokens, drawn[1].at[number].set(state.active)
        active, remaining = state.active, state.remaining - state.active
        state = state._replace(
            token=jnp.where(active, new.token, state.token),
            position=state.position + active,
            generated=state.generated + active,
            remaining=remaining,
            active=active & ~new.ends(state.stop_ids) & (remaining > 0),
        )
        return cache, state, drawn

    S = state.token.shape[0]
    nothing = Sampled.room(steps, S), jnp.zeros((steps, S), bool)
    fly = partial(_flight, step, steps, refill_threshold, lambda state: state.active, drawn=nothing)
    _, cache, (tokens, was_active) = _in_width(backend, steps, fly, cache, state)
    return cache, tokens, was_active


def _in_width(backend: Backend, tokens: int, fly, cache: Cache, state: State) -> PyTree:
    """`fly(cache, state)` with page tables as wide as the longest sequence may need, `tokens` further on.

    Of the backend's widths; most have one. All replicas take the same: they decode side by side.
    """
    widths = backend.widths(state.table.shape[1])
    if len(widths) == 1:
        return fly(cache, state)
    last = jnp.where(state.active, state.position, 0).max() + tokens
    pages = jax.lax.pmax(last // backend.page_size(cache) + 1, "fsdp")
    choice = sum((pages > width).astype(jnp.int32) for width in widths[:-1])

    def narrow(width: int):
        return lambda cache, state: fly(cache, state._replace(table=state.table[:, :width]))

    return jax.lax.switch(choice, [narrow(width) for width in widths], cache, state)


def _flight(
    step, steps: int, refill_threshold: jax.Array, running, cache: Cache, state: State, drawn: PyTree
) -> tuple[jax.Array, Cache, PyTree]:
    """`step` again and again: (number, cache, state, drawn) -> (cache, state, drawn). How often, and what came of it.

    Slots that are not `running` are not decoded, though they may be active.
    """

    def counts(state: State) -> tuple[jax.Array, jax.Array]:
        return jax.lax.psum((state.active.sum(), running(state).sum()), "fsdp")

    def again(carry):
        number, *others, _ = carry
        cache, state, drawn = step(number, *others)
        return number + 1, cache, state, drawn, counts(state)

    at_first, _ = counts(state)

    def go_on(carry):
        number, *_, (active, running) = carry
        return (number < steps) & (running > 0) & (at_first - active < refill_threshold)

    start = (jnp.int32(0), cache, state, drawn, counts(state))
    number, cache, _, drawn, _ = jax.lax.while_loop(go_on, again, start)
    return number, cache, drawn


def _forward(graphdef, types: Types, backend: Backend, never, params: PyTree, key, dropped_V, slots: int) -> PyTree:
    """(cache, state, ahead) -> (cache, what was drawn): one token of every row of `state`.

    `ahead`: where rows hold guesses, how many of the rows before a row are of its slot.
    """
    model, draw = nnx.merge(graphdef, params), _draw_by_rows(slots, never)

    def forward(cache: Cache, state: State, ahead_S: jax.Array | None = None) -> tuple[Cache, Sampled]:
        carried = (cache, state.position, state.active)
        tokens_Sx1, positions_Sx1 = state.token[:, None], state.position[:, None]
        attend = _attend_in_slots(backend, state.table, ahead_S)
        x_Sx1xD, (cache, *_) = model.hidden(tokens_Sx1, positions_Sx1, attend, carried, **types._asdict())
        return cache, draw(model.logits(x_Sx1xD[:, 0].astype(types.matmul_dtype)), state, key, dropped_V)

    return forward


def decode_ahead(
    graphdef: nnx.GraphDef[Any],
    types: Types,
    backend: Backend,
    steps: int,
    never: tuple[int, ...],
    draft: int,
    params: PyTree,
    cache: Cache,
    state: State,
    key: jax.Array,
    refill_threshold: jax.Array,
    dropped_V: jax.Array | None,
) -> tuple[Cache, Sampled, jax.Array, jax.Array]:
    """As `decode`, where rows without a slot hold guesses (drafts.py): up to 1 + `draft` tokens a slot and step.

    Arrays of what was drawn are longer by as much. The last result is [1, 2]: steps, and slots that took part in them.
    """
    S, most = state.token.shape[0], steps * (1 + draft)
    forward = _forward(graphdef, types, backend, never, params, key, dropped_V, S)

    def step(_, cache, state, drawn):
        rows = drafts.spread(state, draft)
        cache, new = forward(cache, rows.state, rows.ahead_R)
        return cache, *drafts.accept(state, rows, new, drawn)

    nothing = drafts.Drawn.nothing(most, S)
    fly = partial(_flight, step, steps, refill_threshold, drafts.running, drawn=nothing)
    number, cache, drawn = _in_width(backend, most, fly, cache, state)
    return cache, drawn.tokens, jnp.arange(most)[:, None] < drawn.count_S, jnp.stack([number, drawn.runs])[None]


def _attend_in_slots(backend: Backend, table_SxM: jax.Array, ahead_S: jax.Array | None):
    """The model's `attend` for one query per slot: its key and value go into its page, then it looks at all of them."""
    pool = in_replica(backend)
    split = jax.shard_map(
        partial(decode_slots, backend),
        in_specs=(HEADS, HEADS, HEADS, pool, *(ALL,) * 6),
        out_specs=(HEADS, pool),
        axis_names={"tensor"},
        check_vma=False,
    )

    def attend(q, k, v, carried: PyTree, layer: jax.Array, window: jax.Array | None = None):
        cache, position_S, active_S = carried
        out, cache = split(q, k, v, cache, layer, table_SxM, position_S, active_S, ahead_S, window)
        return out, (cache, position_S, active_S)

    return attend


def _draw_by_rows(slots: int, never: tuple[int, ...]):
    """Samples one token per slot. Logits split over the vocabulary are split over the slots first, if they divide."""
    parts = jax.sharding.get_abstract_mesh().shape["tensor"]
    rows = PartitionSpec("tensor") if slots % parts == 0 else ALL

    def local(logits_SxV, params: SamplingParams, ids: Ids, generated_S, limited_S, key, dropped_V):
        def of_completion(*ids: jax.Array):
            return reduce(jax.random.fold_in, ids, key)

        if never:
            logits_SxV = logits_SxV.at[:, jnp.array(never)].set(FAR_BELOW)
        if dropped_V is not None:
            logits_SxV = jnp.where(limited_S[:, None] & dropped_V, FAR_BELOW, logits_SxV)
        return sample(logits_SxV, params, jax.vmap(of_completion)(*ids), generated_S)

    specs = (rows,) * 5 + (ALL,) * 2
    split = jax.shard_map(local, in_specs=specs, out_specs=rows, axis_names={"tensor"}, check_vma=False)

    def draw(logits_SxV: jax.Array, state: State, key: jax.Array, dropped_V: jax.Array | None) -> Sampled:
        ids = state.iteration, state.request, state.sample
        args = (logits_SxV, state.params, ids, state.generated, state.limited)
        by_rows = jax.tree.map(lambda x: jax.reshard(x, rows), args)
        return jax.tree.map(lambda x: jax.reshard(x, ALL), split(*by_rows, key, dropped_V))  # type: ignore[arg-type]

    return draw
