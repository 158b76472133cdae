"""Importance weights earn their name: with a stale policy that is known, the mean gradient is that of the new one.

A world of three words and completions of two: all nine can be listed, so what the gradient should be is a sum, and what
its mean is under any sampling policy is one, too. A Monte Carlo mean stands beside it, with its standard error.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.learner.terms import Objective, Tokens, sequence_importance, token_loss

V, D, SAMPLES = 3, 4, 40_000
RANDOM = np.random.default_rng(0)
FIRST_D = RANDOM.normal(size=D)  # the hidden state before the first word, and before the second, by the first
SECOND_VxD = RANDOM.normal(size=(V, D))
NEW_VxD, OLD_VxD = RANDOM.normal(size=(V, D)), RANDOM.normal(size=(V, D))
ADVANTAGE_VxV = RANDOM.normal(size=(V, V))  # what a completion is worth
WORDS = [(a, b) for a in range(V) for b in range(V)]


def logprobs(w_VxD) -> jax.Array:
    """Of the two words of each completion, [9, 2]."""
    first = jax.nn.log_softmax(w_VxD @ FIRST_D)
    second = jax.nn.log_softmax(SECOND_VxD @ w_VxD.T)
    return jnp.array([(first[a], second[a, b]) for a, b in WORDS])


OLD_LOGPROBS = logprobs(jnp.asarray(OLD_VxD))
CHANCE = np.exp(np.asarray(OLD_LOGPROBS).sum(axis=1))  # of each completion under the policy that sampled it


def gradients(words: int = 2, **objective) -> np.ndarray:
    """By the unembedding, as the loss has it, of each completion by itself, or of its first word: [9, V, D]."""
    chosen = Objective(entropy=0.0, **objective)
    real = jnp.broadcast_to(jnp.where(jnp.arange(2) < words, 1.0, 0.0), (len(WORDS), 2))
    worth = jnp.array([ADVANTAGE_VxV[a, b if words == 2 else 0] for a, b in WORDS])
    tokens = Tokens(
        index=jnp.zeros((len(WORDS), 2), jnp.int32),
        targets=jnp.array(WORDS),
        owners=jnp.ones((len(WORDS), 2), jnp.int32),
        weights=real,
        advantages=worth[:, None] * real,
        sampler_logprobs=OLD_LOGPROBS,
    )

    def losses(w_VxD):
        new, some = logprobs(w_VxD), tokens
        if chosen.importance == "sequence":
            some = replace(tokens, importance=sequence_importance(chosen, jax.lax.stop_gradient(new), tokens))
        return token_loss(chosen, new, jnp.zeros_like(new), some).sum(axis=1)

    return np.asarray(jax.jacrev(losses)(jnp.asarray(NEW_VxD, jnp.float32)))


def exact(words: int = 2) -> np.ndarray:
    """Of minus the expected advantage under the new policy, by its definition."""

    def value(w_VxD):
        first = jax.nn.softmax(w_VxD @ FIRST_D)
        second = jax.nn.softmax(SECOND_VxD @ w_VxD.T)
        both = first[:, None] * second * ADVANTAGE_VxV
        return -both.sum() if words == 2 else -(first * ADVANTAGE_VxV[:, 0]).sum()

    return np.asarray(jax.grad(value)(jnp.asarray(NEW_VxD, jnp.float32)))


def mean_under_the_old(of_each: np.ndarray) -> np.ndarray:
    return np.tensordot(CHANCE, of_each, 1)


def distance_in_standard_errors(of_each: np.ndarray, words: int = 2) -> float:
    """Of a Monte Carlo mean over completions of the old policy, at its farthest entry, from the exact gradient."""
    drawn = np.random.default_rng(1).multinomial(SAMPLES, CHANCE / CHANCE.sum()) / SAMPLES
    mean = np.tensordot(drawn, of_each, 1)
    error = np.sqrt(np.tensordot(drawn, (of_each - mean) ** 2, 1) / SAMPLES)
    return float(np.abs((mean - exact(words)) / error).max())


FREE = {"importance_cap": 1e9}


def test_weighted_by_the_sequence_the_gradient_is_unbiased():
    of_each = gradients(importance="sequence", **FREE)
    assert distance_in_standard_errors(of_each) < 3
    np.testing.assert_allclose(mean_under_the_old(of_each), exact(), atol=1e-5)


def test_the_two_policies_are_far_enough_apart_to_tell():
    """Without weights the same Monte Carlo mean is far away: it is the gradient of another objective."""
    assert distance_in_standard_errors(gradients()) > 30


def test_weighted_by_the_token_it_is_unbiased_for_one_word_and_not_for_two():
    """Of a second word it leaves out how likely the first one was: less variance, and a bias."""
    assert distance_in_standard_errors(gradients(words=1, importance="token", **FREE), words=1) < 3
    assert distance_in_standard_errors(gradients(words=1), words=1) > 30
    assert distance_in_standard_errors(gradients(importance="token", **FREE)) > 10


@pytest.mark.parametrize(
    ("how", "bounded"),
    [
        ({"importance_mode": "truncate"}, lambda u: np.minimum(u, 1.5)),
        ({"importance_mode": "mask"}, lambda u: np.where((u >= 0.5) & (u <= 1.5), u, 0.0)),
        ({"importance_mode": "two_sided"}, lambda u: np.clip(u, 0.5, 1.5)),
    ],
)
def test_bounds_cost_the_bias_that_their_formula_says(how, bounded):
    """A bounded weight is another number times the same completion's gradient; what is missing is the bias."""
    bound = gradients(importance="sequence", importance_cap=1.5, importance_low=0.5, **how)
    u = np.exp(np.asarray(logprobs(jnp.asarray(NEW_VxD))).sum(axis=1)) / CHANCE
    assert (u > 1.5).any() and (u < 0.5).any()
    bias = np.tensordot(CHANCE * (bounded(u) - u), gradients(), 1)
    np.testing.assert_allclose(mean_under_the_old(bound) - exact(), bias, atol=1e-5)
    assert np.abs(bias).max() > 0.05 and distance_in_standard_errors(bound) > 3
