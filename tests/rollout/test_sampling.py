"""What is drawn follows the distribution the knobs describe: chi-square on 20,000 draws, kept sets by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from azr_jax.rollout.sampling import SamplingParams, sample

DRAWS = 20_000


def draw(logits, rows=DRAWS, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    def full(value, dtype):
        return jnp.full(rows, value, dtype)

    knobs = SamplingParams(
        full(temperature, "float32"), full(top_k, "int32"), full(top_p, "float32"), full(min_p, "float32")
    )
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(jnp.arange(rows))
    logits_SxV = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (rows, len(logits)))
    return jax.jit(sample)(logits_SxV, knobs, keys, jnp.zeros(rows, jnp.int32))


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """Straight from the definitions, by sorting, in float64."""
    p = np.exp(np.asarray(logits, np.float64) / temperature)
    p /= p.sum()
    order = np.argsort(-p)
    keep = np.zeros(len(p), bool)
    keep[order[: top_k or len(p)]] = True
    share = np.where(keep, p, 0) / p[keep].sum()
    before = np.cumsum(share[order]) - share[order]
    if top_p < 1:
        keep[order[before >= top_p]] = False
    keep &= p >= min_p * p.max()
    return np.where(keep, p, 0) / p[keep].sum()


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7},
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_draws_follow_the_distribution_asked_for(knobs):
    logits = np.random.default_rng(1).normal(size=300) * 2  # over two blocks of 128 and a part of a third
    expected = probabilities(logits, **knobs)
    drawn = draw(logits, **knobs)
    seen = np.bincount(np.asarray(drawn.token), minlength=300)
    assert not seen[expected == 0].any()
    rare = expected * DRAWS < 5
    observed = np.append(seen[~rare], seen[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum()) * DRAWS
    fine = wanted > 0
    assert stats.chisquare(observed[fine], wanted[fine]).pvalue > 1e-3
    whole = probabilities(logits, knobs.get("temperature", 1.0))
    np.testing.assert_allclose(drawn.sampler_logprob, np.log(whole[drawn.token]), atol=1e-4)
    np.testing.assert_allclose(drawn.logprob, np.log(probabilities(logits)[drawn.token]), atol=1e-4)


def test_a_cut_does_not_show_as_a_gap_to_a_learner_that_knows_no_cut():
    """The learner's log-probability of the same weights: a cut's share of the distribution was taken for a gap."""
    logits = np.random.default_rng(1).normal(size=300)
    drawn = draw(logits, rows=500, temperature=0.8, top_k=20)
    learner = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32) / 0.8)[drawn.token]
    cut = probabilities(logits, 0.8, top_k=20)
    assert np.log(cut[drawn.token]).mean() - float(learner.mean()) > 0.5, "20 of 300 words hold well under all of it"
    assert float(jnp.abs(learner - drawn.sampler_logprob).max()) < 1e-5


def test_greedy_takes_the_likeliest():
    drawn = draw([0.0, 3.0, 1.0], rows=4, temperature=0.0)
    assert drawn.token.tolist() == [1] * 4 and drawn.sampler_logprob.tolist() == [0.0] * 4


def test_top_k_of_one_and_a_tiny_top_p_are_greedy():
    for knobs in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert draw([-5.0, -3.0, -4.0], rows=50, **knobs).token.tolist() == [1] * 50
