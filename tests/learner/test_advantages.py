"""Advantages against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.learner.advantages import NAMES, WEIGHTINGS, Baselines, advantages


def test_each_role_and_kind_has_its_own_baseline():
    # Group a: 1, 0 -> mean 1/2, deviation 1/2. Group b: 4, 0, 2 -> mean 2, deviation sqrt(8/3).
    found = advantages("trr", [1, 4, 0, 0, 2], ["a", "b", "a", "b", "b"], [0] * 5, [7] * 5, "sequence")
    b = math.sqrt(8 / 3)
    np.testing.assert_allclose(found.values, [1, 2 / b, -1, -2 / b, 0], rtol=1e-6)
    assert (found.groups, found.flat_groups) == (2, 0)


def test_token_weighting_counts_a_long_completion_more_often():
    # Rewards 1 and 0 over 3 tokens and 1: mean 3/4, variance 3/4 (1/4)^2 + 1/4 (3/4)^2 = 3/16.
    found = advantages("trr", [1, 0], "aa", [0, 0], [3, 1], "token")
    deviation = math.sqrt(3 / 16)
    np.testing.assert_allclose(found.values, [0.25 / deviation, -0.75 / deviation], rtol=1e-6)
    # Whatever the lengths, one mean over all tokens is zero and one mean square is one.
    assert 3 * found.values[0] + found.values[1] == pytest.approx(0, abs=1e-6)


def test_a_group_whose_rewards_agree_gives_zeros_and_is_counted():
    # 0.1 + 0.1 + 0.1 is not 0.3: a deviation of equal rewards computed in floats is tiny and not 0.
    found = advantages("trr", [0.1, 0.1, 0.1, 1, 0], "aaabb", [0] * 5, [1] * 5, "sequence")
    assert found.values[:3].tolist() == [0, 0, 0]
    assert (found.groups, found.flat_groups) == (2, 1)


def test_reinforce_pp_has_one_baseline_for_all():
    found = advantages("reinforce_pp", [1, 0, 1, 0], "aabb", [0, 1, 2, 3], [1] * 4, "sequence")
    assert found.values.tolist() == [1, -1, 1, -1] and found.groups == 1


def test_grpo_compares_attempts_at_one_task_and_proposals_within_their_group():
    rewards, groups, tasks = [1, 0, 1, 1, 0.5, -0.5], "ssssPP", [7, 7, 8, 8, -1, -1]
    found = advantages("grpo", rewards, groups, tasks, [1] * 6, "sequence")
    assert found.values.tolist() == [1, -1, 0, 0, 1, -1]
    assert (found.groups, found.flat_groups) == (3, 1)


def test_rloo_subtracts_the_mean_of_the_others():
    found = advantages("rloo", [3, 0, 0], "aaa", [5, 5, 5], [1] * 3, "sequence")
    assert found.values.tolist() == [3, -1.5, -1.5]
    # By tokens: the others of the first weigh 1 and 3, (1 x 0 + 3 x 2) / 4.
    found = advantages("rloo", [3, 0, 2], "aaa", [5, 5, 5], [2, 1, 3], "token")
    assert found.values[0] == pytest.approx(3 - 6 / 4)


def test_a_moving_baseline_says_nothing_of_the_rewards_it_is_taken_from():
    baselines = Baselines(0.75)

    def found(rewards, groups, lengths=(1, 1, 1), weighting="sequence"):
        return advantages("rae", rewards, groups, [0] * 3, lengths, weighting, baselines=baselines)

    # The first time there is no past: what is there is compared with its own mean, 1/2 of a and 4 of b.
    first = found([1, 0, 4], "aab")
    assert first.values.tolist() == [0.5, -0.5, 0] and (first.groups, first.flat_groups) == (2, 1)
    # Then with the mean of before, not divided by anything; it moves a quarter of the way to the new mean: 1/2 to 2.
    assert found([1, 1, 4], "aaa").values.tolist() == [0.5, 0.5, 3.5]
    assert baselines.values == {"a": 0.875, "b": 4.0}
    # By tokens: mean of 0 over 3 tokens and 1 over 1 is 1/4.
    assert found([0, 1, 4], "aab", (3, 1, 1), "token").values.tolist() == [-0.875, 0.125, 0]
    assert baselines.values["a"] == 0.75 * 0.875 + 0.25 * 0.25


def test_moving_baselines_go_through_a_checkpoint_to_the_bit():
    random = np.random.default_rng(0)
    whole, half = Baselines(0.95), Baselines(0.95)
    for number in range(12):
        if number == 6:
            half = Baselines(0.95, json.loads(json.dumps(half.values)))
        rewards = random.normal(size=5).tolist()
        one, other = (
            advantages("rae", rewards, "aabbb", [0] * 5, [1] * 5, "sequence", baselines=b) for b in (whole, half)
        )
        assert np.array_equal(one.values, other.values) and whole.values == half.values


def test_without_the_deviation_rewards_are_only_compared_with_their_mean():
    found = advantages("trr", [1, 4, 0, 0, 2], "ababb", [0] * 5, [7] * 5, "sequence", deviation=False)
    assert found.values.tolist() == [0.5, 2, -0.5, -2, 0]
    found = advantages("grpo", [4, 0, 1], "sss", [7, 7, -1], [1] * 3, "sequence", deviation=False)
    assert found.values.tolist() == [2, -2, 0]


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 1.0]), st.integers(0, 2), st.integers(0, 50)), min_size=1
    ),
    st.sampled_from(NAMES),
    st.sampled_from(WEIGHTINGS),
)
def test_advantages_are_finite_and_order_like_their_rewards(rows, name, weighting):
    rewards, groups, lengths = (list(column) for column in zip(*rows))
    found = advantages(name, rewards, groups, [0] * len(rows), lengths, weighting, baselines=Baselines(0.9))
    assert np.isfinite(found.values).all() and 0 <= found.flat_groups <= found.groups
    if name != "rloo":  # whose baseline differs from one to the next
        for group in set(groups):
            of = [i for i, g in enumerate(groups) if g == group]
            by_reward = sorted(of, key=lambda i: rewards[i])
            assert (np.diff(found.values[by_reward]) >= -1e-6).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [1, float("nan")]}, r"rewards\[1\]=nan \(group b"),
        ({"rewards": []}, "rewards: none given"),
        ({"groups": "a"}, "groups: 1 given for 2 rewards"),
        ({"expected": ("a", "c")}, r"no completion belongs to \['c'\]"),
        ({"name": "ppo"}, "advantage='ppo': should be one of trr"),
        ({"weighting": "both"}, "weighting='both': should be one of sequence, token"),
        ({"lengths": [1, -1]}, "lengths: -1"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"name": "trr", "rewards": [1, 0], "groups": "ab", "tasks": [0, 0], "lengths": [1, 1], "weighting": "token"}
    with pytest.raises(ValueError, match=message):
        advantages(**good | change)
