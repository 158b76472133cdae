"""pass@k and maj@k against counting all subsets, errors against the bootstrap, comparisons by hand."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.evals.passing import compare, maj_at_k, mean, pass_at, pass_at_k, powers


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_correct_sample(samples, data):
    k = data.draw(st.integers(1, len(samples)))
    subsets = list(itertools.combinations(samples, k))
    assert pass_at_k(len(samples), sum(samples), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_at_the_sizes_of_the_paper():
    assert pass_at_k(512, 0, 512) == 0.0
    assert pass_at_k(512, 1, 512) == 1.0
    assert pass_at_k(512, 1, 256) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="k=3"):
        pass_at_k(2, 1, 3)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.data())
def test_maj_at_k_is_the_mean_over_subsets_with_ties_shared(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    scores = [float(answer == "a") for answer in answers]
    won = []
    for subset in itertools.combinations(answers, k):
        most = max(subset.count(answer) for answer in set(subset))
        leaders = [answer for answer in set(subset) if subset.count(answer) == most]
        won.append(leaders.count("a") / len(leaders))
    assert maj_at_k(answers, scores, k) == pytest.approx(sum(won) / len(won))


def test_samples_without_an_answer_do_not_vote():
    assert maj_at_k([None, None, "7"], [0.0, 0.0, 1.0], 3) == 1.0
    assert maj_at_k([None, None], [0.0, 0.0], 2) == 0.0


def test_standard_errors_are_over_problems_and_agree_with_the_bootstrap():
    """40 problems of very different difficulty, 8 samples each: the error of the 320 samples as one lot is far less."""
    draw = random.Random(1)
    scores = []
    for _ in range(40):
        chance = draw.choice([0.05, 0.95])
        scores.append([float(draw.random() < chance) for _ in range(8)])
    for k in (1, 4):
        found = pass_at(scores, k)
        again = [pass_at(draw.choices(scores, k=len(scores)), k).value for _ in range(1_000)]
        assert found.error == pytest.approx(math.sqrt(mean(again).error ** 2 * len(again)), rel=0.1)
    pooled = mean([score for each in scores for score in each]).error
    assert pass_at(scores, 1).error > 2 * pooled


def test_greedy_models_are_compared_by_an_exact_sign_test():
    """Five rows changed, all for the better: p = 2 / 2^5."""
    found = compare([0, 0, 0, 0, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 0])
    assert (found.difference, found.problems) == (5 / 8, 8)
    assert found.p == pytest.approx(2 / 2**5)
    assert compare([1.0, 0.0], [1.0, 0.0]).p == 1.0


def test_sampled_models_are_compared_by_paired_t():
    """Differences 0.25, 0.5, 0, 0.25: mean 0.25, standard error sqrt(1/24) / 2."""
    found = compare([0.25, 0.5, 0.5, 0.0], [0.5, 1.0, 0.5, 0.25])
    assert found.difference == pytest.approx(0.25)
    assert found.error == pytest.approx(math.sqrt(1 / 24) / 2)
    assert 0.05 < found.p < 0.1


def test_the_k_that_tables_show():
    assert powers(1) == [1]
    assert powers(8) == [1, 2, 4, 8]
    assert powers(10) == [1, 2, 4, 8, 10]
