"""The chunked loss against the loss on all logits at once, value and gradients."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from azr_jax.learner.objective import policy_loss, token_logprobs_and_entropy
from azr_jax.learner.terms import Objective, Tokens, over_sequences, sequence_importance, token_loss
from azr_jax.parallel.mesh import make_mesh

R, T, D, V = 8, 37, 16, 64


def problem():
    random = np.random.default_rng(0)
    hidden, w = random.normal(size=(R, T, D)), random.normal(size=(V, D))
    index, targets, owners = (np.zeros((R, T), np.int32) for _ in range(3))
    weights = np.zeros((R, T), np.float32)
    for row, count in enumerate([20, 9, 0, 37, 1, 5, 12, 30]):
        index[row, :count] = np.sort(random.permutation(T)[:count])
        targets[row, :count] = random.integers(0, V, count)
        owners[row, :count] = 1 + (np.arange(count) > 5)
        weights[row, :count] = 1 / 114
    advantages, sampler = random.normal(size=(R, T)), random.normal(size=(R, T)) - 4
    arrays = (index, targets, owners, weights, advantages.astype(np.float32), sampler.astype(np.float32))
    return jnp.float32(hidden), jnp.float32(w), Tokens(*map(jnp.asarray, arrays))


def on_all_logits(objective, temperature, hidden, w, tokens, dropped_V=None):
    logits = jnp.take_along_axis(hidden, tokens.index[..., None], axis=1) @ w.T / temperature
    if dropped_V is not None:
        logits = jnp.where(tokens.limited[..., None] & dropped_V, -1e30, logits)
    log_p = jax.nn.log_softmax(logits)
    logprob = jnp.take_along_axis(log_p, tokens.targets[..., None], -1)[..., 0]
    if objective.importance == "sequence":
        old = jax.lax.stop_gradient(logprob) if tokens.old_logprobs is None else tokens.old_logprobs
        weight = sequence_importance(objective, old, tokens)
        tokens = replace(tokens, importance=weight)
    if objective.policy_loss == "gspo":
        change = jax.lax.stop_gradient(logprob) - tokens.old_logprobs
        tokens = replace(tokens, sequence_ratio=jnp.exp(over_sequences(change, tokens, mean=True)))
    return token_loss(objective, logprob, -(jnp.exp(log_p) * log_p).sum(-1), tokens).sum()


def chunked(objective, temperature, chunk, hidden, w, tokens, dropped_V=None):
    return policy_loss(objective, temperature, chunk, hidden, w, tokens, dropped_V)[0]


@pytest.mark.parametrize(("chunk", "importance"), [(8, "none"), (80, "token"), (0, "sequence")])
def test_chunks_give_the_loss_and_gradients_of_all_logits(chunk, importance):
    hidden, w, tokens = problem()
    objective = Objective(entropy=0.3, importance=importance)
    full = jax.value_and_grad(partial(on_all_logits, objective, 0.7), (0, 1))(hidden, w, tokens)
    ours = jax.jit(jax.value_and_grad(partial(chunked, objective, 0.7, chunk), (0, 1)))(hidden, w, tokens)
    np.testing.assert_allclose(ours[0], full[0], rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(ours[1], full[1]):
        np.testing.assert_allclose(mine, theirs, atol=3e-6 * float(jnp.abs(theirs).max()))


# What can be asked of a whole sequence or of a group, beside log-probabilities of a policy before the first step.
ASKED = {
    "gspo": Objective("gspo", entropy=0.3, clip_low=0.02, clip_high=0.02),
    "cispo": Objective(
        "cispo", entropy=0.3, importance="sequence", importance_mode="mask", importance_length_norm=True
    ),
    "gspo and importance": Objective("gspo", importance="sequence", importance_mode="two_sided", clip_high=0.05),
    "divergence of one group": Objective(kl=0.3, kl_estimator="k2", kl_groups=(1,)),
}


def asked(name):
    hidden, w, tokens = problem()
    log_p = jax.nn.log_softmax(jnp.take_along_axis(hidden, tokens.index[..., None], axis=1) @ w.T / 0.7)
    near = jnp.take_along_axis(log_p, tokens.targets[..., None], -1)[..., 0]
    random = np.random.default_rng(1)
    old, start = (jnp.float32(near + 0.2 * random.normal(size=(R, T))) for _ in range(2))
    tokens = replace(tokens, old_logprobs=old, reference_logprobs=start, sampler_logprobs=near + 0.1)
    return ASKED[name], hidden, w, replace(tokens, groups=tokens.owners % 2 if ASKED[name].kl else None)


@pytest.mark.parametrize("name", ASKED)
def test_chunks_give_what_whole_sequences_give(name):
    objective, *given = asked(name)
    full = jax.value_and_grad(partial(on_all_logits, objective, 0.7), (0, 1))(*given)
    ours = jax.jit(jax.value_and_grad(partial(chunked, objective, 0.7, 80), (0, 1)))(*given)
    np.testing.assert_allclose(ours[0], full[0], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(ours[1], full[1]):
        np.testing.assert_allclose(mine, theirs, atol=5e-6 * float(jnp.abs(theirs).max()))
    plain = jax.grad(partial(on_all_logits, replace(Objective(), entropy=objective.entropy), 0.7))(*given)
    assert float(jnp.abs(full[1][0] - plain).max()) > 1e-4, "it does something"


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
@pytest.mark.parametrize("name", ["gspo and importance", "divergence of one group"])
def test_a_mesh_gives_whole_sequences_what_one_device_gives(eight_devices, name, shape):
    objective, hidden, w, tokens = asked(name)
    run = jax.jit(jax.value_and_grad(partial(chunked, objective, 0.7, 40), (0, 1)))
    alone = run(hidden, w, tokens)
    with jax.set_mesh(make_mesh(*shape, devices=eight_devices)):
        rows = jax.reshard(tokens, P("fsdp", None))
        spread = run(jax.reshard(hidden, P("fsdp", None, None)), jax.reshard(w, P("tensor", "fsdp")), rows)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), spread, alone)


def limited(words: int = V):
    """Completions of the second segment do without a third of the words; their targets are among the others."""
    hidden, w, tokens = problem()
    dropped_V = jnp.arange(words) % 3 == 1
    targets = tokens.targets % words
    return hidden, w[:words], replace(tokens, limited=tokens.owners == 2, targets=targets - targets % 3), dropped_V


def test_words_that_do_not_exist_for_some_completions():
    given = limited()
    objective = Objective(entropy=0.3, importance="sequence")
    full = jax.value_and_grad(partial(on_all_logits, objective, 0.7), (0, 1))(*given)
    ours = jax.jit(jax.value_and_grad(partial(chunked, objective, 0.7, 80), (0, 1)))(*given)
    np.testing.assert_allclose(ours[0], full[0], rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(ours[1], full[1]):
        np.testing.assert_allclose(mine, theirs, atol=3e-6 * float(jnp.abs(theirs).max()))
    without = jax.grad(partial(chunked, objective, 0.7, 80))(*given[:3])
    assert float(jnp.abs(without - ours[1][0]).max()) > 1e-4
    # Where all completions do without them, their rows of the unembedding get no gradient at all.
    everywhere = replace(given[2], limited=given[2].owners >= 0)
    d_w = jax.grad(partial(chunked, objective, 0.7, 80), 1)(given[0], given[1], everywhere, given[3])
    assert not d_w[given[3]].any() and np.isfinite(d_w).all()


@pytest.mark.parametrize(("shape", "words"), [((8, 1), 64), ((8, 1), 58), ((4, 2), 58)])
def test_words_that_do_not_exist_on_a_mesh(eight_devices, shape, words):
    hidden, w, tokens, dropped_V = limited(words)
    run = jax.jit(jax.value_and_grad(partial(chunked, Objective(entropy=0.3), 0.7, 40), (0, 1)))
    alone = run(hidden, w, tokens, dropped_V)
    with jax.set_mesh(make_mesh(*shape, devices=eight_devices)):
        rows = jax.reshard(tokens, P("fsdp", None))
        w = jax.reshard(w, P("tensor", "fsdp"))
        spread = run(jax.reshard(hidden, P("fsdp", None, None)), w, rows, jax.reshard(dropped_V, P()))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), spread, alone)


def test_what_is_off_is_not_in_the_program():
    """One more product with the unembedding for ratios of sequences, and only where several steps need them."""
    hidden, w, tokens = problem()

    def products(objective, tokens):
        run = jax.jit(jax.grad(partial(chunked, objective, 1.0, 16), (0, 1)))
        return run.lower(hidden, w, tokens).as_text().count("dot_general")

    several = replace(tokens, old_logprobs=tokens.sampler_logprobs)
    assert [products(Objective("gspo"), some) for some in (tokens, several)] == [3, 4]
    assert [products(Objective("cispo"), some) for some in (tokens, several)] == [3, 3]


def test_scores_are_those_of_the_softmax():
    hidden, w, tokens = problem()
    logprobs, entropies = token_logprobs_and_entropy(hidden, w, tokens, 0.7, 16)
    log_p = jax.nn.log_softmax(hidden[3] @ w.T / 0.7)[tokens.index[3]]
    np.testing.assert_allclose(logprobs[3], log_p[jnp.arange(T), tokens.targets[3]], atol=1e-5)
    np.testing.assert_allclose(entropies[3], -(jnp.exp(log_p) * log_p).sum(-1), atol=1e-5)
    assert not logprobs[2].any()  # a row without completion tokens


def test_large_logits_stay_finite():
    hidden, w, tokens = problem()
    loss, gradients = jax.value_and_grad(partial(chunked, Objective(), 1.0, 16), (0, 1))(1e4 * hidden, w, tokens)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_a_mesh_gives_what_one_device_gives(eight_devices, shape):
    hidden, w, tokens = problem()
    objective = Objective(entropy=0.3, importance="sequence")
    run = jax.jit(jax.value_and_grad(partial(chunked, objective, 0.7, 40), (0, 1)))
    alone = run(hidden, w, tokens)
    mesh = make_mesh(*shape, devices=eight_devices)
    with jax.set_mesh(mesh):
        rows = jax.reshard(tokens, P("fsdp", None))
        spread = run(jax.reshard(hidden, P("fsdp", None, None)), jax.reshard(w, P("tensor", "fsdp")), rows)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), spread, alone)
    assert spread[1][1].sharding.spec == P("tensor", "fsdp")


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_a_vocabulary_that_the_devices_do_not_divide_is_filled_up_and_the_filling_counts_for_nothing(
    eight_devices, shape
):
    hidden, w, tokens = problem()
    words = 58  # eight parts of eight, the last of two words; or two halves of 29 in four parts of eight
    w, tokens = w[:words], replace(tokens, targets=tokens.targets % words)
    run = jax.jit(jax.value_and_grad(partial(chunked, Objective(entropy=0.3), 0.7, 40), (0, 1)))
    alone = run(hidden, w, tokens)
    with jax.set_mesh(make_mesh(*shape, devices=eight_devices)):
        rows = jax.reshard(tokens, P("fsdp", None))
        spread = run(jax.reshard(hidden, P("fsdp", None, None)), jax.reshard(w, P("tensor", "fsdp")), rows)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), spread, alone)


@pytest.mark.parametrize("shape", [None, (8, 1), (4, 2)])
def test_tokens_that_are_never_drawn_do_not_exist(eight_devices, shape):
    """As if the vocabulary were without them: 0, 31 and 57, one of them in each part that a mesh may make."""
    hidden, w, tokens = problem()
    never, kept = (0, 31, 57), np.array([word for word in range(V) if word not in (0, 31, 57)])
    small = replace(tokens, targets=tokens.targets % len(kept))
    large = replace(tokens, targets=jnp.asarray(kept)[small.targets])
    by = partial(jax.value_and_grad, argnums=(0, 1))
    without = by(partial(on_all_logits, Objective(entropy=0.3), 0.7))(hidden, w[kept], small)
    run = jax.jit(by(partial(chunked, Objective(entropy=0.3, never=never), 0.7, 40)))
    if shape is None:
        loss, (d_hidden, d_w) = run(hidden, w, large)
    else:
        with jax.set_mesh(make_mesh(*shape, devices=eight_devices)):
            rows = jax.reshard(large, P("fsdp", None))
            given = jax.reshard(hidden, P("fsdp", None, None)), jax.reshard(w, P("tensor", "fsdp")), rows
            loss, (d_hidden, d_w) = jax.tree.map(np.asarray, run(*given))
    np.testing.assert_allclose(loss, without[0], rtol=1e-5)
    np.testing.assert_allclose(d_hidden, without[1][0], atol=1e-5)
    np.testing.assert_allclose(d_w[kept], without[1][1], atol=1e-5)
    assert not np.asarray(d_w)[list(never)].any()


def test_no_array_has_time_and_vocabulary():
    """Every array the program makes, forward and backward, is smaller than the logits of all tokens."""
    hidden, w, tokens = problem()
    run = jax.jit(jax.grad(partial(chunked, Objective(), 1.0, 16), (0, 1)))
    text = run.lower(hidden, w, tokens).as_text()
    assert f"x{V}xf32" in text and f"{R}x{T}x{V}" not in text and f"{R * T}x{V}" not in text


def test_a_frozen_unembedding_costs_no_gradient():
    hidden, w, tokens = problem()

    def products(*by):
        run = jax.jit(jax.grad(partial(chunked, Objective(), 1.0, 16), by))
        return run.lower(hidden, w, tokens).as_text().count("dot_general")

    assert (products(0, 1), products(0)) == (3, 2)
