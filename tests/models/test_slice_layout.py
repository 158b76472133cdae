"""Which chips hold what: numbers that follow from the models' shapes."""

from dataclasses import replace

import pytest

from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import SLICES, find
from azr_jax.models.sampling_time import Demand, sampling_seconds
from azr_jax.models.slice_layout import SLOTS, ImpossibleLayout, choose, fsdp_sizes, tensor_sizes

GIB = 2**30
QWEN7B = spec_of("Qwen/Qwen2.5-7B")  # 28 heads, 4 key/value heads
V5E, V5P = 15.75 * GIB, 95.74 * GIB


def test_four_key_value_heads_split_over_four_chips_at_the_most():
    assert tensor_sizes(QWEN7B, 16) == [1, 2, 4]


def test_width_3584_is_2_to_the_9_times_7_so_any_slice_shards_it():
    assert fsdp_sizes(QWEN7B, 256) == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_where_speed_is_not_known_a_replica_takes_the_fewest_chips_that_leave_room_for_the_cache():
    # bfloat16 weights are 14.2 GiB: over 4 chips 3.5, beside the learner's 5.3 of float32 weights and moments on 16.
    assert choose(QWEN7B, 16, V5E, state_bytes=12).rollout_tensor == 4
    # On four large chips the state is 21 GiB each, and a whole copy fits beside it.
    layout = choose(QWEN7B, 4, V5P, state_bytes=12)
    assert (layout.fsdp, layout.replicas, layout.rollout_tensor) == (4, 4, 1)


PAPER = Demand(completions=1920, at_once=1728, prompt=6144, longest=8096)  # three kinds, B = 64, eight attempts


def chosen(slice_, demand=PAPER, **asked):
    topology = find(slice_)
    memory = topology.chip.memory_gib * GIB
    asked = {"chip": topology.chip, "slices": topology.slices, "demand": demand, "state_bytes": 10, **asked}
    return choose(QWEN7B, topology.chips, memory, **asked)


@pytest.mark.parametrize("kind", SLICES)
def test_a_larger_slice_is_never_slower_by_the_estimate(kind):
    """It was: 64 chips of v5e got replicas of two where 16 got replicas of four, and took longer for an iteration."""
    seconds = []
    for grid in SLICES[kind]:
        if (topology := find(f"{kind}:{grid}")).chips >= 4:
            plan = chosen(topology.name)
            seconds.append(
                sampling_seconds(QWEN7B, topology.chip, PAPER, plan.replicas, plan.rollout_tensor, plan.slots)
            )
    assert seconds == sorted(seconds, reverse=True) and len(seconds) >= 5


def test_latency_rules_where_chips_are_many_and_throughput_where_they_are_few():
    assert (chosen("v5e:8x8").replicas, chosen("v5e:8x8").rollout_tensor) == (16, 4)
    assert chosen("v5p:2x2x1", slots=64).rollout_tensor == 1, "half as many replicas would leave work waiting"
    many_short = Demand(completions=200_000, at_once=100_000, prompt=200, longest=200)
    assert chosen("v5p:4x4x4", many_short, slots=64).rollout_tensor == 1


def test_slots_are_as_many_as_are_of_use_and_fit_the_cache_or_as_many_as_are_asked_for():
    assert chosen("v6e:2x4").slots == 256
    assert chosen("v5e:4x4").slots == 64, "more would not fit beside the learner's state"
    assert chosen("v5e:16x16").slots < 64, "64 replicas of 1,728 completions need no more"
    assert chosen("v6e:2x4", slots=48).slots == 48
    assert chosen("v6e:2x4", rollout_tensor=1, slots=16).rollout_tensor == 1
    assert all(chosen(f"{kind}:{grid}").slots in SLOTS for kind, grids in SLICES.items() for grid in grids)


def test_large_slices_hold_copies_of_the_learners_weights_where_there_is_room():
    assert chosen("v5e:4x8").data == 1 and chosen("v5e:4x8").fsdp == 32
    assert (chosen("v5e:8x8").data, chosen("v5e:8x8").fsdp) == (2, 32)
    assert (chosen("v5e:16x16").data, chosen("v5e:16x16").fsdp) == (8, 32)
    many_heads = replace(QWEN7B, heads=64, kv_heads=64, width=4096, mlp=16384, vocab=32768)
    asked = {"chip": find("v6e:8x8").chip, "rollout_tensor": 64, "state_bytes": 6}
    assert choose(many_heads, 64, 31.25 * GIB, **asked).data == 1, "a replica of 64 chips lies inside one copy"
    assert chosen("v5e:8x8", fsdp=64).data == 1 and chosen("v5e:16x16", data=2).fsdp == 128
    large = choose(spec_of("Qwen/Qwen2.5-14B"), 64, V5E, chip=find("v5e:8x8").chip, state_bytes=10)
    assert (large.data, large.fsdp) == (1, 64), "two copies would take more than a fifth of a chip's memory"


def test_each_slice_has_a_copy_of_its_own():
    assert (chosen("v5e:4x4:2").data, chosen("v5e:4x4:2").fsdp) == (2, 16)
    assert (chosen("v5e:8x8:2").data, chosen("v5e:8x8:2").fsdp) == (4, 32)
    with pytest.raises(ImpossibleLayout, match=r"mesh\.data=1 for this model on 32 chips: should be one of 2, 4, 8"):
        chosen("v5e:4x4:2", data=1)


def test_where_the_memory_is_not_known_the_sampler_lies_as_the_learner_does():
    layout = choose(QWEN7B, 8, None, tensor=2)
    assert (layout.fsdp, layout.tensor, layout.replicas, layout.rollout_tensor) == (4, 2, 4, 2)
    assert choose(QWEN7B, 8, None, rollout_tensor=4).rollout_tensor == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tensor": 8}, "mesh.tensor=8 for this model on 16 chips: should be one of 1, 2, 4"),
        ({"rollout_tensor": 3}, "mesh.rollout_tensor=3 for this model on 16 chips: should be one of 1, 2, 4"),
        ({"fsdp": 3}, "mesh.fsdp=3 for this model on 16 chips: should be one of 4, 8, 16"),
        ({"data": 3}, "mesh.data=3 for this model on 16 chips: should be one of 1, 2, 4, 8, 16"),
        ({"data": 2, "fsdp": 16}, r"mesh.fsdp=16 for this model on 8 chips, for each of 2 copies"),
        ({"fsdp": 8}, "mesh.fsdp=8 x mesh.tensor=1 is not the slice's 16 chips: it should be one of 4 x 4, 8 x 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_laid_out_is_refused_with_what_can(asked, message):
    with pytest.raises(ImpossibleLayout, match=message):
        choose(QWEN7B, 16, V5E, **asked)
