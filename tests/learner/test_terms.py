"""Each term of the loss against a few lines of NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.learner.step import token_weights
from azr_jax.learner.terms import (
    Objective,
    Tokens,
    importance_weights,
    kl_estimate,
    out_of_bounds,
    over_sequences,
    sequence_importance,
    token_loss,
)

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


def loss_of_one(objective, logprob, tokens):
    return token_loss(objective, logprob, jnp.zeros((1, 1)), tokens)[0, 0]


def test_decoupled_the_clip_is_about_the_steps_on_a_batch_and_the_weight_about_how_stale_it_was():
    """By hand: the sampler gave the token 0.2, the learner 0.4 before its first step and 0.6 now; clip 0.2, cap 1.5."""
    s, old, now = (np.log(np.array([[p]], np.float32)) for p in (0.2, 0.4, 0.6))
    one = np.ones((1, 1), np.float32)
    objective = replace(PLAIN, importance="token", importance_cap=1.5)
    for advantage, decoupled, from_the_sampler in ((1.0, -1.5 * 1.2, -1.2), (-1.0, 1.5 * 1.5, 3.0)):
        tokens = Tokens(None, None, np.ones((1, 1), int), one, advantage * one, s, old)
        assert loss_of_one(objective, now, tokens) == pytest.approx(decoupled, rel=1e-5)
        coupled = replace(tokens, old_logprobs=s)
        assert loss_of_one(PLAIN, now, coupled) == pytest.approx(from_the_sampler, rel=1e-5)
        # Clipped, it has no gradient from the sampler's; decoupled on the first step, it has that of the weight alone.
        first = replace(tokens, old_logprobs=None)
        slopes = (PLAIN, coupled, 0.0 if advantage > 0 else 3.0), (objective, first, -1.5 * advantage)
        for o, some, wanted in slopes:
            assert jax.grad(loss_of_one, 1)(o, now, some)[0, 0] == pytest.approx(wanted, rel=1e-5)


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


BOUNDED = {
    "truncate": lambda u: np.minimum(u, 1.5),
    "mask": lambda u: np.where((u >= 0.7) & (u <= 1.5), u, 0.0),
    "two_sided": lambda u: np.clip(u, 0.7, 1.5),
}


@pytest.mark.parametrize("mode", BOUNDED)
@pytest.mark.parametrize(("of", "norm"), [("token", False), ("sequence", False), ("sequence", True)])
def test_importance_weights_are_bounded_in_three_ways(mode, of, norm):
    objective = replace(
        PLAIN, importance=of, importance_mode=mode, importance_low=0.7, importance_cap=1.5, importance_length_norm=norm
    )
    gap, tokens = np.where(OWNERS > 0, OLD - SAMPLER, 0.0), TOKENS
    if of == "sequence":
        for row in range(2):
            for owner in set(OWNERS[row]) - {0}:
                members = OWNERS[row] == owner
                gap[row][members] = gap[row][members].mean() if norm else gap[row][members].sum()
        tokens = replace(TOKENS, importance=sequence_importance(objective, jnp.asarray(OLD), TOKENS))
    expected = BOUNDED[mode](np.exp(gap))
    found = np.asarray(loss_of(objective, tokens))
    np.testing.assert_allclose(found, -WEIGHTS * expected * clipped(), rtol=2e-5, atol=1e-7)
    if mode == "mask" and of == "token":
        assert 0 < (found[OWNERS > 0] == 0).sum() < 11
    weight = importance_weights(objective, jnp.asarray(OLD), tokens)
    outside = {"truncate": np.exp(gap) >= 1.5}.get(mode, (np.exp(gap) <= 0.7) | (np.exp(gap) >= 1.5))
    assert np.array_equal(np.asarray(out_of_bounds(objective, weight))[OWNERS > 0], outside[OWNERS > 0])


def gradient_of(objective, tokens):
    return jax.grad(lambda logprob: token_loss(objective, logprob, jnp.asarray(ENTROPY), tokens).sum())(LOGPROB)


def test_cispo_bounds_the_ratio_and_keeps_every_gradient():
    # The ratio is a constant: loss -w clip(rho) A log p, gradient -w clip(rho) A, where PPO's is 0 outside the clip.
    objective = replace(PLAIN, policy_loss="cispo", clip_low=0.1, clip_high=0.28)
    bounded = np.clip(np.exp(LOGPROB - OLD), 0.9, 1.28)
    np.testing.assert_allclose(loss_of(objective), -WEIGHTS * bounded * ADVANTAGE * LOGPROB, rtol=1e-5)
    np.testing.assert_allclose(gradient_of(objective, TOKENS), -WEIGHTS * bounded * ADVANTAGE, rtol=1e-5)
    ppo = np.asarray(gradient_of(replace(objective, policy_loss="ppo"), TOKENS))
    assert (ppo[OWNERS > 0] == 0).any()


def test_gspo_has_one_ratio_and_one_clip_for_a_sequence():
    """With s = exp(mean of log p - log p_old) the sequence counts min(s A, clip(s) A) / sequences."""
    change = over_sequences(jnp.asarray(LOGPROB - OLD), TOKENS, mean=True)
    of_sequence = np.array([0.7, -1.2])[:, None] * np.where(OWNERS == 1, 1.0, -0.4)
    lengths = np.stack([[(row == owner).sum() for owner in row] for row in OWNERS])
    weights = np.where(OWNERS > 0, 1 / (4 * lengths), 0.0)  # four sequences
    tokens = replace(TOKENS, advantages=of_sequence, weights=jnp.asarray(weights), sequence_ratio=jnp.exp(change))
    objective = replace(PLAIN, policy_loss="gspo", clip_low=0.05, clip_high=0.05)
    loss, gradient, clips = 0.0, np.zeros(OWNERS.shape), 0
    for row in range(2):
        for owner in set(OWNERS[row]) - {0}:
            members = OWNERS[row] == owner
            ratio, advantage = np.exp((LOGPROB - OLD)[row][members].mean()), of_sequence[row][members][0]
            bound = np.clip(ratio, 0.95, 1.05)
            loss -= min(ratio * advantage, bound * advantage) / 4
            passes = ratio * advantage <= bound * advantage
            clips += not passes
            gradient[row][members] = -float(passes) * ratio * advantage / members.sum() / 4
    assert 0 < clips < 4
    assert loss_of(objective, tokens).sum() == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(gradient_of(objective, tokens), gradient, rtol=1e-5, atol=1e-8)


ESTIMATES = {
    "k1": (lambda gap: gap, lambda gap: np.ones_like(gap)),
    "k2": (lambda gap: gap**2 / 2, lambda gap: gap),
    "k3": (lambda gap: np.exp(-gap) - 1 + gap, lambda gap: 1 - np.exp(-gap)),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_of_the_divergence_by_name(name):
    estimate, slope = (of(LOGPROB - START) for of in ESTIMATES[name])
    one_step = replace(TOKENS, old_logprobs=None)
    inside = replace(PLAIN, kl=0.1, kl_estimator=name)
    np.testing.assert_allclose(loss_of(inside), WEIGHTS * (0.1 * estimate - clipped()), rtol=1e-4, atol=1e-7)
    slopes = WEIGHTS * (0.1 * slope - ADVANTAGE)
    np.testing.assert_allclose(gradient_of(inside, one_step), slopes, rtol=1e-4, atol=1e-7)
    taken = -WEIGHTS * (ADVANTAGE - 0.1 * estimate)
    in_reward = replace(inside, kl_in="reward")
    np.testing.assert_allclose(loss_of(in_reward, one_step), taken, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(gradient_of(in_reward, one_step), taken, rtol=1e-4, atol=1e-7)


def test_the_divergence_counts_for_the_groups_named():
    tokens = replace(TOKENS, groups=jnp.asarray(OWNERS))
    k3 = np.exp(START - LOGPROB) - 1 - (START - LOGPROB)
    expected = WEIGHTS * (0.1 * np.where(OWNERS == 2, k3, 0.0) - clipped())
    np.testing.assert_allclose(loss_of(replace(PLAIN, kl=0.1, kl_groups=(2, 7)), tokens), expected, rtol=1e-5)


def test_padding_adds_nothing_even_where_it_is_infinite():
    logprob = np.where(OWNERS > 0, LOGPROB, -np.inf)
    tokens = replace(TOKENS, old_logprobs=None)
    assert np.isfinite(loss_of(PLAIN, tokens, logprob)).all()


def test_token_mean_and_sequence_mean_share_the_loss_out():
    # Two completions of 3 and 1 tokens.
    lengths = jnp.asarray([[3, 3, 3, 1, 0]])
    np.testing.assert_allclose(token_weights("token_mean", lengths), [[1 / 4] * 4 + [0]])
    np.testing.assert_allclose(token_weights("sequence_mean", lengths), [[1 / 6] * 3 + [1 / 2, 0]], rtol=1e-6)
    # dr_grpo: two completions of at most 10 tokens, however long they are.
    np.testing.assert_allclose(token_weights("constant", lengths, 10), [[1 / 20] * 4 + [0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"importance": "all"}, "importance='all'"),
        ({"kl_in": "both"}, "kl_in='both'"),
        ({"clip_dual": 0.5}, "clip_dual=0.5: should be above 1"),
        ({"clip_dual": 3.0, "policy_loss": "gspo"}, "clip_dual=3.0: should be 0, policy_loss=gspo"),
        ({"policy_loss": "grpo"}, "policy_loss='grpo': should be one of ppo, gspo, cispo, dr_grpo"),
        ({"importance_mode": "cut"}, "importance_mode='cut'"),
        ({"kl_estimator": "k4"}, "kl_estimator='k4'"),
    ],
)
def test_bad_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Objective(**fields)
