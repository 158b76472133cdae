"""What the device computes for one replica: read a piece of a prompt, copy pages, decode a few tokens in all slots.

These functions see one replica's slots and pages; programs.py compiles them for one device or for a mesh. Inside a
replica a layer may be split over the mesh axis `tensor`: attention then runs on each device's heads by itself, and
sampling on each device's share of the slots.

The cache is one pool of pages per kind for all layers, keys as [L, N, G, K, P] and values as [L, N, G, P, K]: both
products of one query's attention then run along the last axis, which is what a CPU does fast. A row's numbers depend on
its own tokens and on the static shapes alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.attention import Cache, attend_piece, attend_slots
from azr_jax.rollout.sampling import Knobs, Sampled, sample

HEADS = PartitionSpec(None, None, "tensor")  # of queries, keys and values: [rows, tokens, heads, ...]
POOL = PartitionSpec(None, None, "tensor")  # of a pool inside a replica: [L, N, G, ...]
ALL = PartitionSpec()


class State(NamedTuple):
    """What decoding knows of each slot. All arrays are [S], `stop_ids` [S, n], `table` [S, M]."""

    token: jax.Array  # the next one to go into the model
    position: jax.Array  # of that token in the sequence
    drawn: jax.Array  # tokens of the completion so far
    left: jax.Array  # tokens it may still draw
    on: jax.Array
    request: jax.Array
    sample: jax.Array
    knobs: Knobs
    stop_ids: jax.Array  # padded with -1
    table: jax.Array  # pages in the order of positions


def empty_cache(spec: ModelSpec, pages: int, page_size: int, dtype: Any) -> Cache:
    L, G, K = spec.depth, spec.kv_heads, spec.head_dim
    return jnp.zeros((L, pages, G, K, page_size), dtype), jnp.zeros((L, pages, G, page_size, K), dtype)


def prefill(
    graphdef: Any,
    dtype: Any,
    params: Any,
    cache: Cache,
    tokens_1xT: jax.Array,
    start_1: jax.Array,
    end_1: jax.Array,
    table_1xM: jax.Array,
) -> Cache:
    """Writes the keys and values of positions `start` to `end` into their pages. T is whole pages, padded."""
    model, T = nnx.merge(graphdef, params), tokens_1xT.shape[1]

    def local(q_1xTxHxK, k_1xTxGxK, v_1xTxGxK, cache: Cache, layer, start, end, table_M):
        """One device's heads."""
        (count, G, K, P), (k_pool, v_pool) = cache[0].shape[1:], cache
        first_W = start + P * jnp.arange(T // P)  # position at which each page written begins
        pages_W = jnp.where(first_W < end, table_M[jnp.minimum(first_W // P, table_M.shape[0] - 1)], count)
        k_WxGxKxP = k_1xTxGxK[0].astype(k_pool.dtype).reshape(-1, P, G, K).transpose(0, 2, 3, 1)
        v_WxGxPxK = v_1xTxGxK[0].astype(v_pool.dtype).reshape(-1, P, G, K).transpose(0, 2, 1, 3)
        cache = (
            k_pool.at[layer, pages_W].set(k_WxGxKxP, mode="drop"),
            v_pool.at[layer, pages_W].set(v_WxGxPxK, mode="drop"),
        )
        return attend_piece(q_1xTxHxK, cache, layer, table_M, start + jnp.arange(T), end), cache

    split = jax.shard_map(
        local,
        in_specs=(HEADS, HEADS, HEADS, POOL, ALL, ALL, ALL, ALL),
        out_specs=(HEADS, POOL),
        axis_names={"tensor"},
        check_vma=False,
    )

    def attend(q, k, v, cache: Cache, layer: jax.Array):
        return split(q, k, v, cache, layer, start_1[0], end_1[0], table_1xM[0])

    positions_1xT = start_1[:, None] + jnp.arange(T)
    return model.hidden(tokens_1xT, positions_1xT, attend, cache, dtype=dtype)[1]


def copy_pages(cache: Cache, from_C: jax.Array, to_C: jax.Array) -> Cache:
    """Copies whole pages; a `to` out of range copies nothing."""

    def local(cache: Cache, from_C: jax.Array, to_C: jax.Array) -> Cache:
        k, v = cache
        return k.at[:, to_C].set(k[:, from_C], mode="drop"), v.at[:, to_C].set(v[:, from_C], mode="drop")

    split = jax.shard_map(local, in_specs=(POOL, ALL, ALL), out_specs=POOL, axis_names={"tensor"}, check_vma=False)
    return split(cache, from_C, to_C)


def decode(
    graphdef: Any,
    dtype: Any,
    steps: int,
    params: Any,
    cache: Cache,
    state: State,
    key: jax.Array,
    leave: jax.Array,
) -> tuple[Cache, Sampled, jax.Array]:
    """Up to `steps` tokens in every slot that is on; ends earlier once none is on, or `leave` went off.

    That counts all replicas. Gives what was drawn, [steps, S], and which slots were on when it was.
    """
    model, S = nnx.merge(graphdef, params), state.token.shape[0]
    attend, draw = _attend_in_slots(state.table), _draw_by_rows(S)

    def step(carry):
        number, cache, state, drawn, was_on, _ = carry
        carried = (cache, state.position, state.on)
        x_Sx1xD, (cache, *_) = model.hidden(state.token[:, None], state.position[:, None], attend, carried, dtype=dtype)
        new = draw(model.logits(x_Sx1xD[:, 0]), state, key)
        drawn = jax.tree.map(lambda all_NxS, one_S: all_NxS.at[number].set(one_S), drawn, new)
        was_on = was_on.at[number].set(state.on)
        on, left = state.on, state.left - state.on
        ended = (new.token[:, None] == state.stop_ids).any(axis=-1) | ~jnp.isfinite(new.logprob)
        state = state._replace(
            token=jnp.where(on, new.token, state.token),
            position=state.position + on,
            drawn=state.drawn + on,
            left=left,
            on=on & ~ended & (left > 0),
        )
        return number + 1, cache, state, drawn, was_on, jax.lax.psum(state.on.sum(), "fsdp")

    on_at_first = jax.lax.psum(state.on.sum(), "fsdp")

    def go_on(carry):
        number, *_, on = carry
        return (number < steps) & (on > 0) & (on_at_first - on < leave)

    empty = Sampled(jnp.zeros((steps, S), jnp.int32), jnp.zeros((steps, S)), jnp.zeros((steps, S)))
    start = (jnp.int32(0), cache, state, empty, jnp.zeros((steps, S), bool), on_at_first)
    _, cache, _, drawn, was_on, _ = jax.lax.while_loop(go_on, step, start)
    return cache, drawn, was_on


def _attend_in_slots(table_SxM: jax.Array):
    """The model's `attend` for one query per slot: its key and value go into its page, then it looks at all of them."""

    def local(q_Sx1xHxK, k_Sx1xGxK, v_Sx1xGxK, cache: Cache, layer, table_SxM, position_S, on_S):
        k_pool, v_pool = cache
        count, P = k_pool.shape[1], k_pool.shape[-1]
        page_S = jnp.take_along_axis(table_SxM, (position_S // P)[:, None], axis=1)[:, 0]
        page_S, row_S = jnp.where(on_S, page_S, count), position_S % P  # a slot that is off writes nowhere
        k_pool = k_pool.at[layer, page_S, :, :, row_S].set(k_Sx1xGxK[:, 0].astype(k_pool.dtype), mode="drop")
        v_pool = v_pool.at[layer, page_S, :, row_S].set(v_Sx1xGxK[:, 0].astype(v_pool.dtype), mode="drop")
        out_Sx1xHxK = attend_slots(q_Sx1xHxK, (k_pool, v_pool), layer, table_SxM, position_S, on_S)
        return out_Sx1xHxK, (k_pool, v_pool)

    split = jax.shard_map(
        local,
        in_specs=(HEADS, HEADS, HEADS, POOL, ALL, ALL, ALL, ALL),
        out_specs=(HEADS, POOL),
        axis_names={"tensor"},
        check_vma=False,
    )

    def attend(q, k, v, carried: Any, layer: jax.Array):
        cache, position_S, on_S = carried
        out, cache = split(q, k, v, cache, layer, table_SxM, position_S, on_S)
        return out, (cache, position_S, on_S)

    return attend


def _draw_by_rows(slots: int):
    """Samples one token per slot. Logits split over the vocabulary are split over the slots first, if they divide."""
    parts = jax.sharding.get_abstract_mesh().shape["tensor"]
    rows = PartitionSpec("tensor") if slots % parts == 0 else ALL

    def local(logits_SxV, knobs: Knobs, request_S, sample_S, drawn_S, key) -> Sampled:
        def of_completion(request, sample):
            return jax.random.fold_in(jax.random.fold_in(key, request), sample)

        return sample(logits_SxV, knobs, jax.vmap(of_completion)(request_S, sample_S), drawn_S)

    split = jax.shard_map(local, in_specs=(rows,) * 5 + (ALL,), out_specs=rows, axis_names={"tensor"}, check_vma=False)

    def draw(logits_SxV: jax.Array, state: State, key: jax.Array) -> Sampled:
        args = (logits_SxV, state.knobs, state.request, state.sample, state.drawn)
        by_rows = jax.tree.map(lambda x: jax.reshard(x, rows), args)
        return jax.tree.map(lambda x: jax.reshard(x, ALL), split(*by_rows, key))  # type: ignore[arg-type]

    return draw
