"""Each term of the loss against a few lines of NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.learner.step import token_weights
from azr_jax.learner.terms import Objective, Tokens, kl_estimate, sequence_importance, token_loss

RANDOM = np.random.default_rng(0)
LOGPROB, OLD, SAMPLER, START = (-RANDOM.exponential(1.0, (2, 6)).astype(np.float32) for _ in range(4))
ADVANTAGE = RANDOM.normal(size=(2, 6)).astype(np.float32)
ENTROPY = RANDOM.exponential(1.0, (2, 6)).astype(np.float32)
OWNERS = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]])
WEIGHTS = (OWNERS > 0).astype(np.float32) / 11
PLAIN = Objective(entropy=0.0)
TOKENS = Tokens(None, None, OWNERS, WEIGHTS, ADVANTAGE, SAMPLER, OLD, START)


def loss_of(objective, tokens=TOKENS, logprob=LOGPROB):
    return np.asarray(token_loss(objective, jnp.asarray(logprob), jnp.asarray(ENTROPY), tokens))


def clipped(low=0.2, high=0.2):
    ratio = np.exp(LOGPROB - OLD)
    return np.minimum(ratio * ADVANTAGE, np.clip(ratio, 1 - low, 1 + high) * ADVANTAGE)


def test_ppo_clips_low_and_high():
    objective = replace(PLAIN, clip_low=0.1, clip_high=0.28)
    np.testing.assert_allclose(loss_of(objective), -WEIGHTS * clipped(0.1, 0.28), rtol=1e-5)


def test_the_dual_clip_bounds_the_loss_where_the_advantage_is_negative():
    tokens = replace(TOKENS, old_logprobs=LOGPROB - 3.0, advantages=-np.ones_like(ADVANTAGE))  # ratio e^3 = 20
    np.testing.assert_allclose(loss_of(replace(PLAIN, clip_dual=3.0), tokens), 3.0 * WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(loss_of(PLAIN, tokens), np.e**3 * WEIGHTS, rtol=1e-4)


def test_with_one_step_the_gradient_is_that_of_the_policy_gradient():
    tokens = replace(TOKENS, old_logprobs=None)
    np.testing.assert_allclose(loss_of(PLAIN, tokens), -WEIGHTS * ADVANTAGE, rtol=1e-6)
    gradient = jax.grad(lambda logprob: token_loss(PLAIN, logprob, jnp.asarray(ENTROPY), tokens).sum())(LOGPROB)
    np.testing.assert_allclose(gradient, -WEIGHTS * ADVANTAGE, rtol=1e-6)


def test_entropy_is_a_bonus():
    expected = -WEIGHTS * (clipped() + 0.01 * ENTROPY)
    np.testing.assert_allclose(loss_of(replace(PLAIN, entropy=0.01)), expected, rtol=1e-5)


def test_the_divergence_from_the_start_policy_in_the_loss():
    k3 = np.exp(START - LOGPROB) - 1 - (START - LOGPROB)
    np.testing.assert_allclose(loss_of(replace(PLAIN, kl=0.1)), WEIGHTS * (-clipped() + 0.1 * k3), rtol=1e-5)


def test_the_divergence_from_the_start_policy_in_the_reward():
    tokens = replace(TOKENS, old_logprobs=None)
    expected = -WEIGHTS * (ADVANTAGE - 0.1 * (LOGPROB - START))
    np.testing.assert_allclose(loss_of(replace(PLAIN, kl=0.1, kl_in="reward"), tokens), expected, rtol=1e-5)


def test_the_estimate_of_the_divergence_has_the_divergence_as_its_mean():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    estimate = np.asarray(kl_estimate(jnp.log(p), jnp.log(q)))
    assert (estimate >= 0).all()
    assert (p * estimate).sum() == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)


def test_importance_weights_of_tokens_are_capped():
    weight = np.minimum(np.exp(OLD - SAMPLER), 1.5)
    objective = replace(PLAIN, importance="token", importance_cap=1.5)
    np.testing.assert_allclose(loss_of(objective), -WEIGHTS * weight * clipped(), rtol=1e-5)


def test_importance_weights_of_sequences_multiply_their_tokens_weights():
    objective = replace(PLAIN, importance="sequence", importance_cap=5.0)
    weight = sequence_importance(objective, jnp.asarray(OLD), TOKENS)
    for row in range(2):
        for owner in set(OWNERS[row]) - {0}:
            of = OWNERS[row] == owner
            expected = min(np.exp((OLD - SAMPLER)[row][of].sum()), 5.0)
            np.testing.assert_allclose(np.asarray(weight)[row][of], expected, rtol=1e-5)
    tokens = replace(TOKENS, importance=weight)
    np.testing.assert_allclose(loss_of(objective, tokens), -WEIGHTS * np.asarray(weight) * clipped(), rtol=1e-5)


def test_padding_adds_nothing_even_where_it_is_infinite():
    logprob = np.where(OWNERS > 0, LOGPROB, -np.inf)
    tokens = replace(TOKENS, old_logprobs=None)
    assert np.isfinite(loss_of(PLAIN, tokens, logprob)).all()


def test_token_mean_and_sequence_mean_share_the_loss_out():
    # Two completions of 3 and 1 tokens.
    lengths = jnp.asarray([[3, 3, 3, 1, 0]])
    np.testing.assert_allclose(token_weights("token_mean", lengths), [[1 / 4] * 4 + [0]])
    np.testing.assert_allclose(token_weights("sequence_mean", lengths), [[1 / 6] * 3 + [1 / 2, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"importance": "all"}, "importance='all'"),
        ({"kl_in": "both"}, "kl_in='both'"),
        ({"clip_dual": 0.5}, "clip_dual=0.5: should be above 1"),
    ],
)
def test_bad_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Objective(**fields)
