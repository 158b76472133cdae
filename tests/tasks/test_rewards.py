"""Every boundary of the rewards, in both presets, against numbers worked out by hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.config import flags as configs
from azr_jax.run.settings import reward_settings
from azr_jax.tasks import rewards
from azr_jax.tasks.rewards import COMBINE, RewardSettings, learnability

BASE = str(Path(__file__).parents[2] / "configs" / "base.py")


def preset(name: str) -> RewardSettings:
    return reward_settings(configs.load(BASE, {"preset": name})[0])


PAPER, REFERENCE = preset("paper"), preset("reference")


def proposer_reward(*what) -> float:
    return sum(rewards.proposer_reward(*what).values())


def solver_reward(*what) -> float:
    return sum(rewards.solver_reward(*what).values())


def test_learnability_of_the_paper_at_every_rate_of_eight_attempts():
    rates = [k / 8 for k in range(9)]
    assert [learnability(r) for r in rates] == [0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]


def test_learnability_with_its_peak_at_one_half():
    assert [learnability(r, "peak") for r in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0, 0.75, 1, 0.75, 0]
    assert learnability(0.25, "peak", 2.0) == 0.5625
    assert learnability(0.125, "peak", 1.0) == 4 * 0.125 * 0.875


def test_the_peak_stands_where_it_is_put_and_nothing_is_worth_more():
    rates = [k / 40 for k in range(41)]
    for at in (0.2, 0.5, 0.7):
        worth = {rate: learnability(rate, "peak", 1.0, at) for rate in rates}
        assert worth[at] == pytest.approx(1.0) and max(worth, key=worth.__getitem__) == at
        assert worth[0.0] == worth[1.0] == 0.0 and 0.0 < worth[0.025] < worth[0.1] and worth[0.9] > worth[0.975]
    # (r / p)^(2p) ((1 - r) / (1 - p))^(2 - 2p) at p = 1/4, r = 1/2: 2^(1/2) (2/3)^(3/2)
    assert learnability(0.5, "peak", 1.0, 0.25) == pytest.approx(2**0.5 * (2 / 3) ** 1.5)
    assert learnability(0.5, "peak", 3.0, 0.25) == pytest.approx((2**0.5 * (2 / 3) ** 1.5) ** 3)


def test_what_the_memory_takes_is_at_most_what_was_earned():
    settings = RewardSettings(memory={"nearest": 1.0, "mean": 0.5})
    likeness = {"nearest": 0.5, "mean": 0.2}
    assert rewards.remembered({"learnability": 0.75}, likeness, settings) == {"learnability": 0.75, "memory": -0.6}
    assert rewards.remembered({"learnability": 0.5}, likeness, settings) == {"learnability": 0.5, "memory": -0.5}
    for parts in ({"nothing_learned": 0.0}, {"wrong": -0.5}, {"format_error": -1.0}, {"duplicate": -0.5}):
        assert rewards.remembered(parts, likeness, settings) == parts
    assert rewards.remembered({"learnability": 0.5}, likeness, PAPER) == {"learnability": 0.5}
    with pytest.raises(ValueError, match=r"rewards\.memory=\['median'\]"):
        RewardSettings(memory={"median": 1.0})
    with pytest.raises(ValueError, match=r"rewards\.peak_at=1\.0"):
        RewardSettings(peak_at=1.0)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_an_error(rate):
    with pytest.raises(ValueError, match="solve_rate="):
        learnability(rate)


@pytest.mark.parametrize(
    ("formatted", "valid", "rate", "paper", "reference"),
    [
        (False, False, None, -1.0, -1.0),  # no blocks
        (True, False, None, -0.5, -1.0),  # blocks, refused by the executor: once one price stood for both presets
        (True, True, 0.0, 0.0, -0.5),  # nobody solves it
        (True, True, 0.125, 0.875, 0.875),  # the hardest that still teaches
        (True, True, 0.5, 0.5, 0.5),
        (True, True, 0.875, 0.125, 0.125),
        (True, True, 1.0, 0.0, -0.5),  # everybody does
        (True, True, None, 0.0, -0.5),  # not measured
    ],
)
def test_what_a_proposal_is_worth(formatted, valid, rate, paper, reference):
    assert proposer_reward(formatted, valid, rate, PAPER) == paper
    assert proposer_reward(formatted, valid, rate, REFERENCE) == reference


@pytest.mark.parametrize("preset", [PAPER, REFERENCE])
@pytest.mark.parametrize(
    ("formatted", "score", "worth"),
    [(False, 0.0, -1.0), (True, 0.0, -0.5), (True, 1.0, 1.0), (True, 0.4, 0.4)],
)
def test_what_an_answer_is_worth(preset, formatted, score, worth):
    assert solver_reward(formatted, score, preset) == worth


def test_prices_of_failure_are_settings():
    settings = RewardSettings(wrong=-0.25, invalid=-0.75, format_error=-2.0, zero_learnability=0.1)
    assert solver_reward(False, 0.0, settings) == proposer_reward(False, False, None, settings) == -2.0
    assert solver_reward(True, 0.0, settings) == -0.25
    assert proposer_reward(True, False, None, settings) == -0.75
    assert proposer_reward(True, True, 1.0, settings) == 0.1


def test_intrinsic_terms_are_added_only_where_there_is_something_to_learn():
    """A task that everybody or nobody solves was paid for being intricate: an endless supply of reward."""
    settings = RewardSettings(intrinsic={"complexity": 0.5, "answer_diversity": 0.25, "halstead": 0.0})
    measured = {"complexity": 0.4, "answer_diversity": 0.8}
    assert proposer_reward(True, True, 0.5, settings, measured) == pytest.approx(0.5 + 0.2 + 0.2)
    assert [proposer_reward(True, True, rate, settings, measured) for rate in (0.0, 1.0, None)] == [0.0] * 3
    assert proposer_reward(True, False, None, settings, measured) == -0.5
    assert proposer_reward(False, False, None, settings, measured) == -1.0
    with pytest.raises(KeyError, match="complexity"):
        proposer_reward(True, True, 0.5, settings, {"answer_diversity": 0.8})


def test_no_intrinsic_term_comes_to_more_than_the_cap():
    weights, measured = {"complexity": 2.0, "halstead": 0.5}, {"complexity": 0.8, "halstead": 0.4}
    worth = {cap: RewardSettings(intrinsic=weights, intrinsic_cap=cap) for cap in (0.0, 0.5)}
    assert proposer_reward(True, True, 0.5, worth[0.0], measured) == pytest.approx(0.5 + 1.6 + 0.2)
    assert proposer_reward(True, True, 0.5, worth[0.5], measured) == pytest.approx(0.5 + 0.5 + 0.2)
    assert (PAPER.intrinsic_cap, REFERENCE.intrinsic_cap) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("combine", "worth"),
    [
        ("add", 0.75 + (0.25 + 0.5)),
        ("add_product", 0.75 + 0.25 * 0.5),
        ("multiply", 0.75 * (0.25 + 0.5)),
        ("multiply_product", 0.75 * 0.25 * 0.5),
    ],
)
def test_the_four_ways_to_combine(combine, worth):
    # Weights 1/2 and 1 times terms 1/2 and 1/2 are 1/4 and 1/2; a solve rate of 1/4 is worth 3/4.
    settings = RewardSettings(intrinsic={"ast_distance": 0.5, "halstead": 1.0}, combine=combine)
    terms = {"ast_distance": 0.5, "halstead": 0.5}
    assert proposer_reward(True, True, 0.25, settings, terms) == pytest.approx(worth)
    assert proposer_reward(True, True, 0.0, settings, terms) == 0.0
    assert set(COMBINE) == {"add", "add_product", "multiply", "multiply_product"}


def test_a_reward_is_told_by_its_parts():
    settings = RewardSettings(intrinsic={"complexity": 0.5})
    terms = {"complexity": 0.5}
    assert rewards.proposer_reward(True, True, 0.25, settings, terms) == {"learnability": 0.75, "intrinsic": 0.25}
    assert rewards.proposer_reward(True, True, 1.0, settings, terms) == {"nothing_learned": 0.0}
    assert rewards.proposer_reward(True, True, 1.0, REFERENCE) == {"nothing_learned": -0.5}
    assert rewards.proposer_reward(True, False, None, PAPER) == {"invalid": -0.5}
    assert rewards.proposer_reward(False, False, None, PAPER) == {"format_error": -1.0}
    assert rewards.solver_reward(True, 0.25, PAPER) == {"score": 0.25}


def test_terms_that_are_off_change_nothing():
    assert not any([*PAPER.intrinsic.values(), *REFERENCE.intrinsic.values()])
    assert proposer_reward(True, True, 0.5, PAPER, {"complexity": 1.0}) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"learnability": "best"}, {"peak_power": 0.0}, {"combine": "max"}, {"intrinsic": {"beauty": 1.0}}],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"rewards.{next(iter(wrong))}="):
        RewardSettings(**wrong)


@given(st.floats(0, 1), st.sampled_from(["paper", "peak"]), st.floats(0.1, 10))
def test_learnability_stays_between_nothing_and_one(rate, name, power):
    assert 0.0 <= learnability(rate, name, power) <= 1.0
