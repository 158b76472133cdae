"""The step: the same result however the work is split, bad gradients skipped, every option turned once."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_learner import SPEC, make_samples

from azr_jax.learner.lora import Trained, merged
from azr_jax.learner.optimizer import OptimizerSettings, decays, learning_rate
from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import (
    GradientsNotFinite,
    LearnerSettings,
    init_state,
    make_score,
    make_step,
    make_update,
    stop_if_stuck,
)
from azr_jax.learner.terms import Objective
from azr_jax.models.sharding import LearnerRules, shardings
from azr_jax.parallel.mesh import make_mesh

# Plain descent, so that the new weights show the gradient itself and not its sign.
SETTINGS = LearnerSettings(grad_clip=1e9)
ROW = 48


def gradient(parted, batch, settings=SETTINGS, mesh=None):
    """(gradient, metrics) of one batch, read off Adam's first moment after one step from zero."""
    graphdef, params = parted
    params = jax.tree.map(jnp.copy, params)
    if mesh is not None:
        params = jax.device_put(params, shardings(SPEC, mesh, LearnerRules()))
    state, metrics = make_step(graphdef, settings)(init_state(params, settings), batch)
    first_moment = state.optimizer[0].mu
    return jax.tree.map(lambda m: np.asarray(m) / (1 - settings.optimizer.b1), first_moment), jax.device_get(metrics)


def assert_close(one, other, tolerance):
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale), one, other)


def test_microbatches_and_packing_do_not_change_the_gradient(parted, samples):
    at_once, metrics = gradient(parted, pack(samples, ROW, rows=16))
    accumulated, other = gradient(parted, pack(samples, ROW, rows=1))
    assert_close(accumulated, at_once, 1e-6)
    assert other["loss"] == pytest.approx(metrics["loss"], abs=1e-6)
    # One sample per row: rows as long as the longest, so that best fit never joins two of them.
    alone = [pack([sample], ROW) for sample in samples]
    unpacked = jax.tree.map(lambda *arrays: np.concatenate([array[:1] for array in arrays], axis=1), *alone)
    assert unpacked.tokens.shape == (1, len(samples), ROW)
    assert_close(gradient(parted, unpacked)[0], at_once, 1e-5)


@pytest.mark.parametrize(("data", "fsdp", "tensor"), [(1, 8, 1), (1, 4, 2), (2, 4, 1), (2, 2, 2), (8, 1, 1)])
def test_eight_devices_give_the_gradient_of_one(eight_devices, parted, samples, data, fsdp, tensor):
    batch = pack(samples, ROW, rows=8)
    alone, metrics = gradient(parted, batch)
    mesh = make_mesh(fsdp, tensor, eight_devices, data=data)
    with jax.set_mesh(mesh):
        spread, other = gradient(parted, batch, mesh=mesh)
    assert_close(spread, alone, 1e-5)
    assert other["gradient/norm"] == pytest.approx(metrics["gradient/norm"], rel=1e-5)


def test_metrics_say_what_happened(parted, samples):
    _, metrics = gradient(parted, pack(samples, ROW))
    assert metrics["tokens/trained"] == sum(len(sample.completion) for sample in samples)
    assert metrics["tokens/read"] == sum(sample.inputs for sample in samples)
    rows = -(-metrics["tokens/read"] // ROW)
    assert 0 <= metrics["tokens/padding_share"] < 0.5 and rows >= 1
    # A new model is close to uniform over 64 tokens, and so is the made-up sampler: log 64 = 4.16.
    assert metrics["entropy"] == pytest.approx(np.log(64), abs=0.02)
    assert 0 < metrics["gap/mean"] < metrics["gap/max"] < 1 and 0 < metrics["gap/kl"] < 0.05
    blocks = [metrics[f"gradient/{name}"] ** 2 for name in ("embed", "layers", "final_norm")]
    assert sum(blocks) == pytest.approx(metrics["gradient/norm"] ** 2, rel=1e-5)
    layers = [metrics[f"gradient/layers/{number:02d}"] ** 2 for number in range(2)]
    assert sum(layers) == pytest.approx(metrics["gradient/layers"] ** 2, rel=1e-5)
    assert metrics["steps/taken"] == 1 and metrics["clip/high"] == metrics["clip/low"] == 0


def test_a_gradient_that_is_not_finite_changes_nothing_and_stops_the_run_in_the_end(parted, samples, tmp_path):
    graphdef, params = parted
    settings = LearnerSettings(max_bad_steps=2)
    batch = pack(samples, ROW)
    poisoned = replace(batch, advantages=np.where(batch.lengths > 0, np.inf, 0).astype(np.float32))
    step, state = make_step(graphdef, settings), init_state(params, settings)
    state, _ = step(state, batch)
    before = jax.device_get(state)
    state, metrics = step(state, poisoned)
    stop_if_stuck(metrics, poisoned, settings, tmp_path)
    after = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.optimizer, before.optimizer)
    assert (after.step, after.bad_in_row, after.bad_steps) == (1, 1, 1)
    state, metrics = step(state, poisoned)
    with pytest.raises(GradientsNotFinite, match=r"2 steps in a row .max_bad_steps=2.*bad_batch.npz"):
        stop_if_stuck(metrics, poisoned, settings, tmp_path)
    assert np.isinf(np.load(tmp_path / "bad_batch.npz")["advantages"]).any()
    state, _ = step(state, batch)
    assert (int(state.bad_in_row), int(state.bad_steps)) == (0, 2)


def test_the_step_is_compiled_once_whatever_the_lengths(parted):
    graphdef, params = parted
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    step, state = make_step(graphdef, SETTINGS), init_state(params, SETTINGS)
    counts = []
    for seed in range(4):
        state, metrics = step(state, pack(make_samples(13, seed=seed, longest=8 + 5 * seed), ROW))
        jax.block_until_ready(metrics)
        counts.append(len(compiled))
    assert counts[1:] == counts[:1] * 3


def test_several_epochs_compare_with_the_policy_before_the_first(parted, samples):
    graphdef, params = parted
    settings = LearnerSettings(Objective(), OptimizerSettings(lr=3e-3), epochs=3)
    update = make_update(graphdef, settings)
    state, metrics = update(init_state(params, settings), [pack(samples[:7], ROW), pack(samples[7:], ROW)])
    clipped = [float(m["clip/low"] + m["clip/high"]) for m in metrics]
    assert len(metrics) == 6 and int(state.step) == 6
    assert clipped[0] == 0 and max(clipped[2:]) > 0


def test_the_divergence_from_the_start_policy_pulls_back(parted, samples):
    graphdef, params = parted
    start = jax.tree.map(jnp.copy, params)
    flat = pack([replace(sample, advantage=0.0) for sample in samples], ROW)
    settings = LearnerSettings(Objective(entropy=0.0, kl=1.0), OptimizerSettings(lr=3e-3, weight_decay=0.0))
    update = make_update(graphdef, settings, reference=start)
    away = jax.tree.map(lambda p: p + 0.02 * jnp.sin(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)
    state, divergence = init_state(away, settings), []
    for _ in range(15):
        state, metrics = update(state, [flat])
        divergence.append(float(metrics[0]["kl"]))
    assert divergence[-1] < 0.5 * divergence[0]
    with pytest.raises(ValueError, match=r"kl=1.0: needs the start policy"):
        make_update(graphdef, settings)(state, [flat])


@pytest.mark.parametrize("data, fsdp, tensor", [(1, 4, 2), (1, 2, 1), (1, 1, 2), (2, 2, 1)])
def test_corrections_learn_the_same_on_any_mesh(parted, samples, eight_devices, data, fsdp, tensor):
    """Their gradients go through the narrow side, whose sums over split axes are written out."""
    settings = replace(SETTINGS, trained=Trained(rank=3))
    graphdef, params = parted
    batch = pack(samples, ROW, rows=4)

    def moments(mesh):
        fresh = jax.tree.map(jnp.copy, params)
        state = init_state(jax.device_put(fresh, shardings(SPEC, mesh, LearnerRules())), settings)
        # Where b is zero, as at the beginning, nothing is learned of a.
        moved = jax.tree.map(
            lambda leaf: leaf + jax.device_put(0.1 * np.cos(np.arange(leaf.size)).reshape(leaf.shape), leaf.sharding),
            state.params,
        )
        state, metrics = make_step(graphdef, settings)(replace(state, params=moved), batch)
        return jax.device_get(state.optimizer[0].mu), metrics["gradient/norm"]

    found = []
    for sizes in ((1, 1, 1), (data, fsdp, tensor)):
        mesh = make_mesh(*sizes[1:], eight_devices[: math.prod(sizes)], data=sizes[0])
        with jax.set_mesh(mesh):
            found.append(moments(mesh))
    (one, norm), (many, other) = found
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(one))
    assert_close(many, one, 1e-5)
    assert float(other) == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize(
    "trained", [Trained(rank=2, targets=("q", "o", "gate")), Trained(freeze=("embed", "layers.q"))]
)
def test_what_is_not_trained_stays(parted, samples, trained):
    graphdef, params = parted
    before = jax.device_get(params)
    settings = LearnerSettings(optimizer=OptimizerSettings(lr=1e-2), trained=trained)
    step, batch, state = make_step(graphdef, settings), pack(samples, ROW), init_state(params, settings)
    for _ in range(2):
        state, metrics = step(state, batch)
    assert metrics["gradient/norm"] > 0
    after = merged(state.params, state.base)
    moved = {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for (path, new), old in zip(jax.tree_util.tree_leaves_with_path(after), jax.tree.leaves(before))
        if not np.array_equal(new, old)
    }
    layers = ["attn_norm", "down", "gate", "k", "k_bias", "mlp_norm", "o", "q", "q_bias", "up", "v", "v_bias"]
    everything = {"embed", "final_norm", *("layers." + name for name in layers)}
    if trained.rank:
        assert moved == {"layers.q", "layers.o", "layers.gate"}
        # The weights merged for the rollout are those the learner computes with.
        score = make_score(graphdef, settings)
        np.testing.assert_allclose(score(state.params, state.base, batch), score(after, None, batch), atol=2e-5)
    else:
        assert moved == {name for name in everything if not name.startswith(("embed", "layers.q"))}


@pytest.mark.parametrize("name", ["adamw_bf16", "adamw_factored"])
def test_small_optimizers_hold_less_and_still_learn(parted, name):
    graphdef, params = parted
    settings = LearnerSettings(Objective(entropy=0.0), OptimizerSettings(name, lr=1e-2))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    state, step = init_state(params, settings), make_step(graphdef, settings)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state.optimizer))
    assert held < 1.6 * weights  # float32 moments are 2.0 times the weights
    batch, loss = pack([TrainingSample([1, 2], [3, 4, 5], [-4.2] * 3, 1.0)], 8), []
    for _ in range(12):
        state, metrics = step(state, batch)
        loss.append(float(metrics["logprob"]))
    assert loss[-1] > loss[0] + 1


def test_schedules_by_name():
    def rates(**fields):
        rate = learning_rate(OptimizerSettings(lr=1.0, **fields))
        return [float(rate(step)) for step in range(8)]

    assert rates() == [1.0] * 8
    assert rates(warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedule="linear", steps=4)[:6] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    np.testing.assert_allclose(rates(schedule="cosine", steps=4)[:5], [1, 0.853553, 0.5, 0.146447, 0], atol=1e-6)
    with pytest.raises(ValueError, match="steps=2: should be above warmup=3"):
        OptimizerSettings(schedule="linear", warmup=3, steps=2)
    with pytest.raises(ValueError, match="optimizer='sgd': should be one of adamw"):
        OptimizerSettings("sgd")


def test_norms_and_biases_do_not_decay(parted):
    names = {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for path, yes in jax.tree_util.tree_leaves_with_path(decays(parted[1]))
        if yes
    }
    assert names == {"embed", *("layers." + name for name in ("q", "k", "v", "o", "gate", "up", "down"))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnerSettings(loss="mean"), "loss='mean': should be one of token_mean"),
        (lambda: Trained(rank=2, targets=("embed",)), "targets.*at least one of q, k, v"),
        (lambda: Trained(rank=2, freeze=("embed",)), "every weight is frozen already"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_freezing_what_is_not_there_is_named(parted):
    with pytest.raises(ValueError, match="freeze='head': no parameter starts so; there are embed"):
        init_state(parted[1], LearnerSettings(trained=Trained(freeze=("head",))))
