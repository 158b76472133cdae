"""What is measured of each group of completions: a group that falls apart must not hide in the mean of all."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_learner import SPEC, make_samples

from azr_jax.learner.measures import over_steps
from azr_jax.learner.packing import pack
from azr_jax.learner.step import LearnerSettings, init_state, make_score, make_step
from azr_jax.learner.terms import Group, Objective
from azr_jax.models.sharding import LearnerRules, shardings
from azr_jax.parallel.mesh import make_mesh

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


def first_moment(parted, settings, batch, mesh=None):
    graphdef, params = parted
    params = jax.tree.map(np.asarray, params)
    params = jax.device_put(params, None if mesh is None else shardings(SPEC, mesh, LearnerRules()))
    state, metrics = make_step(graphdef, settings)(init_state(params, settings), batch)
    return jax.tree.leaves(jax.device_get(state.optimizer[0].mu)), jax.device_get(metrics)


FREE = LearnerSettings(grad_clip=1e9)  # so that Adam's first moment after one step is the gradient itself


def test_a_groups_weight_multiplies_its_part_of_the_loss(parted):
    """The whole is half of twice its part, without the other's, and the other's without its own."""
    settings = replace(FREE, loss="sequence_mean", groups=GROUPS)
    batch = pack(grouped(), ROW, rows=2)

    def weighed(first, second):
        groups = (replace(GROUPS[0], weight=first), replace(GROUPS[1], weight=second), GROUPS[2])
        return first_moment(parted, replace(settings, groups=groups), batch)

    (all_of_it, plain), (one, metrics), (other, _) = (weighed(*w) for w in [(1, 1), (2, 0), (0, 1)])
    for whole, first, second in zip(all_of_it, one, other, strict=True):
        np.testing.assert_allclose(first / 2 + second, whole, atol=2e-7)
    # What is measured is measured of what is trained, each token as it counted before.
    assert metrics["propose/a/share"] == pytest.approx(1.0) and metrics["solve/a/share"] == 0
    assert metrics["entropy"] == pytest.approx(plain["propose/a/entropy"], rel=1e-5)
    assert metrics["tokens/trained"] == (batch.groups[batch.lengths > 0] == 0).sum()


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_weighed_groups_on_a_mesh(eight_devices, parted, shape):
    groups = (Group("propose/a", weight=0.25), Group("solve/a", weight=3.0))
    objective = Objective("dr_grpo", kl=0.5, kl_groups=(0,))
    settings = replace(FREE, groups=groups, objective=objective, longest=64)
    batch = pack(grouped(), ROW, rows=8)
    batch = replace(batch, reference_logprobs=batch.sampler_logprobs)
    alone, metrics = first_moment(parted, settings, batch)
    mesh = make_mesh(*shape, devices=eight_devices)
    with jax.set_mesh(mesh):
        spread, other = first_moment(parted, settings, batch, mesh)
    scale = max(float(np.abs(leaf).max()) for leaf in alone)
    for one, two in zip(alone, spread, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5 * scale)
    assert other["loss"] == pytest.approx(metrics["loss"], rel=1e-4)


def test_dr_grpo_counts_a_token_the_same_in_every_batch(parted):
    """Its loss is a sum over tokens, divided by sequences x the longest: no completion's length changes another's."""
    made = grouped()
    settings = replace(FREE, objective=Objective("dr_grpo", entropy=0.0), longest=100)
    batches = [pack(part, ROW) for part in (made[:6], made[6:12], made[:12])]
    (first, _), (second, _), (both, metrics) = (first_moment(parted, settings, batch) for batch in batches)
    for one, two, together in zip(first, second, both, strict=True):
        np.testing.assert_allclose((one + two) / 2, together, atol=1e-7)
    tokens = sum(len(sample.completion) for sample in made[:12])
    mean = sum(len(sample.completion) * sample.advantage for sample in made[:12]) / (12 * 100)
    assert metrics["loss"] == pytest.approx(-mean, rel=1e-4) and metrics["tokens/trained"] == tokens
    assert metrics["entropy"] == pytest.approx(np.log(64), abs=0.05), "measured per token all the same"
    with pytest.raises(ValueError, match="longest=0: policy_loss=dr_grpo divides by it"):
        LearnerSettings(Objective("dr_grpo"))


def test_over_several_steps_a_group_counts_by_its_share():
    steps = [{"a/share": 0.5, "a/entropy": 1.0, "loss": 1.0}, {"a/share": 0.0, "a/entropy": 0.0, "loss": 3.0}]
    assert over_steps(steps) == {"a/share": 0.25, "a/entropy": 1.0, "loss": 2.0}


def test_how_stale_tokens_are_is_measured_of_each_group_by_itself(parted):
    objective = Objective(importance="token", importance_cap=1.05)
    settings = LearnerSettings(objective, groups=GROUPS, oldest=2)  # none of them is two updates old
    made = [replace(sample, ages=[n % 2 for n in range(len(sample.completion))]) for sample in grouped()]
    batch = pack(made, ROW, rows=2, ages=True)
    gap = np.asarray(make_score(parted[0], settings)(parted[1], None, batch)) - batch.sampler_logprobs
    metrics = measured(parted, settings, batch)
    for number, group in enumerate(GROUPS[:2]):
        for age in (0, 1):
            name = f"{group.name}/staleness/{age}"
            of = (batch.lengths > 0) & (batch.groups == number) & (batch.ages == age)
            assert metrics[f"{name}/share"] == pytest.approx(of.sum() / (batch.lengths > 0).sum(), rel=1e-5)
            assert metrics[f"{name}/gap"] == pytest.approx(np.abs(gap[of]).mean(), rel=1e-4)
            assert metrics[f"{name}/importance"] == pytest.approx(np.minimum(np.exp(gap[of]), 1.05).mean(), rel=1e-4)
            assert metrics[f"{name}/capped"] == pytest.approx((np.exp(gap[of]) >= 1.05).mean(), abs=1e-6)
    told = {name for name in over_steps([metrics]) if "/staleness/" in name}
    assert told and not any("/staleness/2/" in name or name.startswith("solve/b/") for name in told)
