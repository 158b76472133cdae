"""What is measured of each group of completions: a group that falls apart must not hide in the mean of all."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_learner import SPEC, make_samples

from azr_jax.learner.packing import pack
from azr_jax.learner.step import LearnerSettings, init_state, make_score, make_step
from azr_jax.learner.terms import Group, Objective
from azr_jax.learner.update import over_steps
from azr_jax.parallel.mesh import LearnerRules, make_mesh, shardings

GROUPS = (Group("propose/a"), Group("solve/a"), Group("solve/b"))
ROW = 48


def grouped():
    return [replace(sample, group=number % 2) for number, sample in enumerate(make_samples(13))]  # none in solve/b


def measured(parted, settings, batch, mesh=None):
    graphdef, params = parted
    if mesh is not None:
        params = jax.device_put(params, shardings(SPEC, mesh, LearnerRules()))
    return jax.device_get(make_step(graphdef, settings)(init_state(params, settings), batch)[1])


@pytest.mark.parametrize("loss", ["token_mean", "sequence_mean"])
def test_each_group_has_its_own_means(parted, loss):
    settings = LearnerSettings(Objective(importance="token", importance_cap=1.05), groups=GROUPS, loss=loss)
    batch = pack(grouped(), ROW, rows=2)
    logprobs = np.asarray(make_score(parted[0], settings)(parted[1], None, batch))
    metrics = measured(parted, settings, batch)
    weight = (batch.lengths > 0) / (1 if loss == "token_mean" else np.maximum(batch.lengths, 1))
    gap = logprobs - batch.sampler_logprobs
    for number, group in enumerate(GROUPS[:2]):
        of = np.where(batch.groups == number, weight, 0.0)
        assert metrics[f"{group.name}/share"] == pytest.approx(of.sum() / weight.sum(), rel=1e-5)
        assert metrics[f"{group.name}/gap"] == pytest.approx(np.average(np.abs(gap), weights=of), rel=1e-4)
        bounded = np.minimum(np.exp(gap), 1.05)
        assert metrics[f"{group.name}/importance"] == pytest.approx(np.average(bounded, weights=of), rel=1e-4)
    shares = [metrics[f"{group.name}/share"] for group in GROUPS]
    for name in ("entropy", "gap", "importance"):
        means = [metrics[f"{group.name}/{name}"] for group in GROUPS]
        assert np.dot(shares, means) == pytest.approx(metrics[name if name == "entropy" else f"{name}/mean"], rel=1e-5)
    assert not any(name.startswith("solve/b/") for name in over_steps([metrics]))


def test_a_group_that_is_sure_of_itself_is_seen(parted, samples):
    """Its prompts end in a token whose embedding is far out: the tied unembedding answers with one word alone."""
    graphdef, params = parted
    params["embed"] = params["embed"].replace(params["embed"][...].at[5].multiply(200.0))
    made = [replace(s, prompt=[5], completion=[5] * 8, sampler_logprobs=[0.0] * 8, group=0) for s in samples[:2]]
    made += [replace(s, prompt=[9], completion=[9], sampler_logprobs=[-4.0], group=1) for s in samples[2:6]]
    settings = LearnerSettings(groups=GROUPS)
    metrics = measured((graphdef, params), settings, pack(made, ROW))
    assert metrics["propose/a/entropy"] < 0.1 < metrics["solve/a/entropy"]


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_a_mesh_measures_what_one_device_measures(eight_devices, parted, shape):
    settings, batch = LearnerSettings(groups=GROUPS), pack(grouped(), ROW, rows=8)
    graphdef, params = parted
    mesh = make_mesh(*shape, devices=eight_devices)
    params = jax.tree.map(np.asarray, params)
    alone = measured((graphdef, jax.tree.map(jax.numpy.asarray, params)), settings, batch)
    with jax.set_mesh(mesh):
        spread = measured((graphdef, params), settings, batch, mesh)
    names = [name for name in alone if name.startswith(("propose/", "solve/"))]
    assert len(names) == 3 * 4
    np.testing.assert_allclose([spread[n] for n in names], [alone[n] for n in names], rtol=1e-4, atol=1e-6)


def test_over_several_steps_a_group_counts_by_its_share():
    steps = [{"a/share": 0.5, "a/entropy": 1.0, "loss": 1.0}, {"a/share": 0.0, "a/entropy": 0.0, "loss": 3.0}]
    assert over_steps(steps) == {"a/share": 0.25, "a/entropy": 1.0, "loss": 2.0}
