"""Which chips hold what: numbers that follow from the models' shapes."""

import pytest

from azr_jax.dryrun.shapes import spec_of
from azr_jax.models.slice_layout import ImpossibleLayout, choose, fsdp_sizes, tensor_sizes

GIB = 2**30
QWEN7B = spec_of("Qwen/Qwen2.5-7B")  # 28 heads, 4 key/value heads
V5E, V5P = 15.75 * GIB, 95.74 * GIB


def test_four_key_value_heads_split_over_four_chips_at_the_most():
    assert tensor_sizes(QWEN7B, 16) == [1, 2, 4]


def test_width_3584_is_2_to_the_9_times_7_so_any_slice_shards_it():
    assert fsdp_sizes(QWEN7B, 256) == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_a_replica_takes_the_fewest_chips_that_leave_room_for_the_cache():
    # bfloat16 weights are 14.2 GiB: over 4 chips 3.5, beside the learner's 5.3 of float32 weights and moments on 16.
    assert choose(QWEN7B, 16, V5E, state_bytes=12).rollout_tensor == 4
    # On four large chips the state is 21 GiB each, and a whole copy fits beside it.
    layout = choose(QWEN7B, 4, V5P, state_bytes=12)
    assert (layout.fsdp, layout.replicas, layout.rollout_tensor) == (4, 4, 1)


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
        ({"fsdp": 8}, "mesh.fsdp=8 x mesh.tensor=1 is not the slice's 16 chips: it should be one of 4 x 4, 8 x 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_laid_out_is_refused_with_what_can(asked, message):
    with pytest.raises(ImpossibleLayout, match=message):
        choose(QWEN7B, 16, V5E, **asked)
