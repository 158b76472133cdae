"""What the host keeps count of between two flights, against plain definitions of the same."""

from collections import Counter

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.rollout.cache import Pages, prefill_chunks
from azr_jax.rollout.requests import EngineSettings, Request
from azr_jax.rollout.slots import SlotArrays, empty_state


@given(st.lists(st.tuples(st.sampled_from(["allocate", "hold", "release", "remember", "drop"]), st.integers(0, 9))))
def test_pages_in_use_are_those_that_some_sequence_holds(moves):
    """It was counted anew for every placement: half of what the host did between two flights."""
    pages, held, known = Pages(10), Counter(), {}
    for number, (move, which) in enumerate(moves):
        mine = [page for page in held if held[page]]
        if move == "allocate":
            held.update(pages.allocate(which % 3 + 1) or ())
            known = {key: of for key, of in known.items() if pages.find(key)}  # some had to go
        elif move == "hold" and mine:
            pages.hold([mine[which % len(mine)]])
            held[mine[which % len(mine)]] += 1
        elif move == "release" and mine:
            pages.release([mine[which % len(mine)]])
            held[mine[which % len(mine)]] -= 1
        elif move == "remember" and (new := set(mine) - {page for of in known.values() for page in of}):
            known[number] = (min(new),)
            pages.remember(number, known[number])
        elif move == "drop" and known:
            key = list(known)[which % len(known)]
            pages.drop(key)
            del known[key]
        assert pages.in_use == sum(count > 0 for count in held.values())


def test_a_chunk_is_known_by_all_that_stands_before_it():
    long, other = tuple(range(40)), (7, *range(1, 40))
    first, second = (prefill_chunks(prompt, 16, (8, 16)) for prompt in (long, other))
    assert [chunk.length for chunk in first] == [16, 16, 7] and [chunk.shape for chunk in first] == [16, 16, 8]
    assert not {chunk.key for chunk in first} & {chunk.key for chunk in second}
    begins_alike = prefill_chunks((*range(36), 1, 2), 16, (8, 16))
    assert [a.key == b.key for a, b in zip(first, begins_alike)] == [True, True, False]
    cut = prefill_chunks(tuple(range(33)), 16, (8, 16))  # 32 tokens are read: two whole chunks
    assert [chunk.key for chunk in cut] == [chunk.key for chunk in first[:2]]


def test_a_slot_says_what_its_completion_would_and_nothing_once_it_is_left():
    sizes = EngineSettings(3, 8, 8, page_size=4, limits=True)
    slots = SlotArrays(3, sizes)
    request = Request(9, (5, 6, 7), 4, temperature=0.5, top_k=2, top_p=0.9, min_p=0.1, stop_ids=(1,), limited=True)
    slots.enter(1, request, 2, [8])
    state = slots.in_order(np.array([1, 0]))
    assert (state.token[0], state.position[0], state.remaining[0], state.active.tolist()) == (7, 2, 4, [True, False])
    assert [round(float(values[0]), 3) for values in state.params] == [0.5, 2, 0.9, 0.1]
    assert slots.short_of_pages(8, page_size=2).tolist() == [0, 2, 0]  # positions 2 to 5 stand in pages 1 and 2
    slots.add_pages(1, [4, 3])
    assert state.table[0].tolist() == [8, 0, 0, 0]  # what was sent off stays what it was
    assert slots.state.table[1].tolist() == [8, 4, 3, 0] and not slots.short_of_pages(8, page_size=2).any()
    drawn_NxS = np.array([[11, 0], [12, 0], [13, 0]])
    slots.advance(np.array([1, 0]), drawn_NxS, np.array([2, 0]))
    now = slots.state
    assert (now.token[1], now.position[1], now.generated[1], now.remaining[1]) == (12, 4, 2, 2)
    slots.leave(1)
    jax.tree.map(np.testing.assert_array_equal, slots.state, empty_state(3, sizes))
