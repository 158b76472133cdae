"""Every field of the learner does what config/schema.py says of it: the config's update with it and without it.

The model and the samples are made up and tiny; the settings come from the config by the code the loop uses. What only
the loop can show (weights merged for sampling, resume, the kept checkpoints) is shown by short runs of it.
"""

import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.config import flags as configs
from azr_jax.config.schema import RULES, ConfigError
from azr_jax.export import export
from azr_jax.learner.checkpoint import Checkpointer
from azr_jax.learner.measures import over_steps
from azr_jax.learner.packing import TrainingSample, minibatches, pack
from azr_jax.learner.step import init_state, make_update, step_program
from azr_jax.models import hf
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer
from azr_jax.rollout.engine import Request, Rollout
from azr_jax.run import build
from azr_jax.run.train import train
from azr_jax.selfplay import scoring
from azr_jax.selfplay.results import Completion, Proposed, Solved
from azr_jax.tasks.types import FormatError, Kind, Role
from tests.run.test_whole_loop import ROOT, SEEDS

SPEC = ModelSpec("qwen2", 64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=True, max_positions=256)
BASE = {"learner.lr": "0.01", "learner.grad_clip": "0.1", "learner.importance_cap": "1.5"}


def configured(**flags: str):
    given = BASE | {name.replace("__", "."): value for name, value in flags.items()}
    config, problems = configs.load(str(ROOT / "configs/tiny.py"), given)
    assert not problems, problems
    return config


def samples(count: int = 9) -> list[TrainingSample]:
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        prompt, completion = random.integers(1, 12), random.integers(1, 12)
        ids = random.integers(0, SPEC.vocab, prompt + completion).tolist()
        told = (-4.2 + random.normal(size=completion)).tolist()
        made.append(TrainingSample(ids[:prompt], ids[prompt:], told, float(random.normal()), group=number % 6))
    return made


@functools.cache
def updated(**flags: str):
    """The state and the numbers after three iterations' updates, as the loop makes them."""
    c = configured(**flags)
    settings = build.learner_settings(c)
    graphdef, params = nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))
    update = make_update(graphdef, settings, reference=build.start_policy(params, settings))
    state, numbers = init_state(params, settings), []
    for _ in range(3):
        batches = [pack(part, 32, rows=2) for part in minibatches(samples(), c.learner.minibatches)]
        state, steps = update(state, batches)
        numbers.append(over_steps(steps))
    return state, numbers


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    """Compiling is nearly all of what these tests do."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    updated.cache_clear()


@pytest.fixture(scope="module")
def plain():
    return updated()


def moved(one, other) -> float:
    leaves = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in leaves)


MOVES = {
    "learner.lr": {"learner__lr": "0.02"},
    "learner.schedule": {"learner__schedule": "linear"},
    "learner.warmup": {"learner__warmup": "2"},
    "learner.b1": {"learner__b1": "0.5"},
    "learner.b2": {"learner__b2": "0.5"},
    "learner.eps": {"learner__eps": "0.01"},
    "learner.weight_decay": {"learner__weight_decay": "1"},
    "learner.grad_clip": {"learner__grad_clip": "0.001", "learner__eps": "0.001"},
    "learner.loss": {"learner__loss": "sequence_mean"},
    "learner.entropy": {"learner__entropy": "0.5"},
    "learner.kl": {"learner__kl": "1"},
    "learner.epochs": {"learner__epochs": "2"},
    "learner.minibatches": {"learner__minibatches": "2"},
    "learner.importance": {"learner__importance": "token"},
    "learner.old_logprobs": {"learner__old_logprobs": "sampler"},
    "learner.policy_loss": {"learner__policy_loss": "dr_grpo", "learner__grad_clip": "10", "learner__eps": "0.01"},
    "learner.weights": {"learner__weights": "propose=0,solve/induction=2"},
}
# Fields that matter only beside another one: (with the other alone, with both).
BESIDE = {
    "learner.kl_in": ({"learner__kl": "1"}, {"learner__kl": "1", "learner__kl_in": "reward"}),
    "learner.importance_cap": (
        {"learner__importance": "token"},
        {"learner__importance": "token", "learner__importance_cap": "1"},
    ),
    "learner.kl_estimator": ({"learner__kl": "1"}, {"learner__kl": "1", "learner__kl_estimator": "k2"}),
    "learner.kl_roles": ({"learner__kl": "1"}, {"learner__kl": "1", "learner__kl_roles": "propose"}),
    "learner.importance_mode": (
        {"learner__importance": "token"},
        {"learner__importance": "token", "learner__importance_mode": "mask"},
    ),
    "learner.importance_low": (
        {"learner__importance": "token", "learner__importance_mode": "two_sided"},
        {"learner__importance": "token", "learner__importance_mode": "two_sided", "learner__importance_low": "0.9"},
    ),
    "learner.importance_length_norm": (
        {"learner__importance": "sequence"},
        {"learner__importance": "sequence", "learner__importance_length_norm": "true"},
    ),
    "learner.policy_loss=gspo": (
        {"learner__epochs": "4", "learner__loss": "sequence_mean"},
        {"learner__epochs": "4", "learner__policy_loss": "gspo"},
    ),
    "learner.policy_loss=cispo": ({"learner__epochs": "4"}, {"learner__epochs": "4", "learner__policy_loss": "cispo"}),
    "learner.clip_low": ({"learner__epochs": "4"}, {"learner__epochs": "4", "learner__clip_low": "0.01"}),
    "learner.clip_high": ({"learner__epochs": "4"}, {"learner__epochs": "4", "learner__clip_high": "0.01"}),
    "learner.clip_dual": (
        {"learner__epochs": "4", "learner__lr": "0.05"},
        {"learner__epochs": "4", "learner__lr": "0.05", "learner__clip_dual": "1.01"},
    ),
}


@pytest.mark.parametrize("field", MOVES)
def test_the_update_is_another_with_it(plain, field):
    assert moved(updated(**MOVES[field])[0], plain[0]) > 1e-6


@pytest.mark.parametrize("field", BESIDE)
def test_the_update_is_another_with_it_beside_what_it_belongs_to(field):
    without, beside = (updated(**flags)[0] for flags in BESIDE[field])
    assert moved(without, beside) > 1e-6


def test_against_the_samplers_logprobs_without_a_clip_a_step_is_that_of_free_importance_weights():
    """p/s as a ratio and p/s as a weight have one gradient; only what is clipped tells them apart."""
    unclipped = {"learner__clip_low": "1", "learner__clip_high": "1e9"}
    (_, ratio), (_, clipped) = (updated(learner__old_logprobs="sampler", **more) for more in (unclipped, {}))
    _, weight = updated(learner__importance="token", learner__importance_cap="1e9")
    for name in ("loss", "gradient/norm"):
        assert ratio[0][name] == pytest.approx(weight[0][name], rel=1e-4)
        assert clipped[0][name] != pytest.approx(weight[0][name], rel=1e-2)
    assert clipped[0]["clip/high"] + clipped[0]["clip/low"] > 0.1, "already in the one step of an iteration"


def test_a_schedule_ends_at_the_last_iteration_whatever_the_steps_in_one():
    for epochs, parts in (("1", "1"), ("2", "3")):
        flags = {"learner__schedule": "linear", "learner__epochs": epochs, "learner__minibatches": parts}
        before, after = (updated(**flags, iterations=count) for count in ("3", "6"))
        assert int(before[0].step) == 3 * int(epochs) * int(parts)
        # Without a rate nothing moves: the last step of 3 iterations has less of it than the same step of 6.
        assert before[1][-1]["update/ratio"] < 0.75 * after[1][-1]["update/ratio"]


def test_the_optimizers_are_those_named():
    state = {name: updated(learner__optimizer=name)[0].optimizer for name in ("adamw", "adamw_bf16", "adamw_factored")}
    bytes_held = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(each)) for name, each in state.items()}
    assert bytes_held["adamw_bf16"] < 0.8 * bytes_held["adamw"]
    factored = [name for name, each in state.items() if "FactoredState" in str(jax.tree.structure(each))]
    assert factored == ["adamw_factored"]


def test_what_is_frozen_does_not_move():
    start = nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))[1]
    state, _ = updated(learner__freeze="embed,layers.q")
    assert np.array_equal(state.base["embed"][...], start["embed"][...])
    assert "embed" not in state.params and "q" not in state.params["layers"]


def test_low_rank_corrections_of_the_targets_alone():
    state, _ = updated(learner__lora__rank="2", learner__lora__targets="q,up")
    assert set(state.params) == {"q", "up"} and state.params["q"]["a"].shape[1] == 2
    assert float(np.abs(np.asarray(state.params["up"]["b"])).max()) > 0


def test_the_random_half_of_the_corrections_follows_from_the_seed():
    """It was the same for every seed: runs that were to differ by their seed began alike."""
    rows = [updated(learner__lora__rank="2", learner__lr="0", seed=seed)[0] for seed in ("1", "1", "2")]
    first, again, other = (np.asarray(state.params["q"]["a"]) for state in rows)
    assert np.array_equal(first, again) and np.abs(first - other).max() > 0.1


def test_the_divergence_with_corrections_needs_no_second_copy():
    settings = build.learner_settings(configured(learner__lora__rank="2", learner__kl="1"))
    assert build.start_policy({"w": np.ones(3)}, settings) is None
    _, numbers = updated(learner__lora__rank="2", learner__kl="1")
    assert numbers[-1]["kl"] > 0


def test_the_chunk_bounds_the_logits_held():
    graphdef, params = nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))

    def program(chunk: str) -> str:
        settings = build.learner_settings(configured(learner__chunk=chunk))
        state = jax.eval_shape(lambda: init_state(params, settings))
        return step_program(graphdef, settings).lower(state, pack(samples(), 32)).as_text()

    assert "1x8x64xf32" in program("8") and "1x8x64xf32" not in program("16")


def test_every_role_and_kind_is_measured_by_itself():
    groups = [group.name for group in build.learner_settings(configured(tasks__kinds="abduction,deduction")).groups]
    assert groups == ["propose/abduction", "solve/abduction", "propose/deduction", "solve/deduction"]
    completion = Completion((1, 2), Rollout(Request(0, (1, 2), 5), 0, (3, 4), (-1.0, -1.0), (-2.0, -2.0), "stop"), "")
    solved = Solved(Kind.DEDUCTION, completion, None, 7, FormatError(""))
    proposed = Proposed(Kind.DEDUCTION, completion, 0, (), 0, (), FormatError(""))
    chosen = [(Role.SOLVE, solved), (Role.PROPOSE, proposed)]
    made = scoring.training_samples(chosen, {solved.key: 0.0}, (Kind.ABDUCTION, Kind.DEDUCTION), 1)
    assert [groups[sample.group] for sample in made] == ["solve/deduction", "propose/deduction"]


def test_settings_that_make_no_sense_are_named():
    wrong = {
        "learner.clip_dual": ({"learner.clip_dual": "0.5"}, "above 1"),
        "learner.warmup": ({"learner.schedule": "cosine", "learner.warmup": "3"}, "less than iterations=3"),
        "learner.freeze": ({"learner.lora.rank": "2", "learner.freeze": "embed"}, "give one"),
        "learner.policy_loss": ({"learner.policy_loss": "grpo"}, "ppo | gspo | cispo | dr_grpo"),
        "learner.clip_dual=3": ({"learner.clip_dual": "3", "learner.policy_loss": "gspo"}, "should be 0"),
        "learner.loss": ({"learner.policy_loss": "dr_grpo", "learner.loss": "sequence_mean"}, "give one of the two"),
        "learner.kl_estimator": ({"learner.kl": "1", "learner.kl_estimator": "k1"}, "should be k2 or k3"),
        "learner.kl_roles": ({"learner.kl_roles": "propose"}, "while learner.kl=0"),
        "learner.importance_mode": ({"learner.importance_mode": "mask"}, "while learner.importance=none"),
        "learner.importance=token": (
            {"learner.importance": "token", "learner.old_logprobs": "sampler"},
            "should be none, or learner.old_logprobs=learner",
        ),
        "learner.importance_length_norm": ({"learner.importance_length_norm": "true"}, "is for learner.importance="),
        "learner.weights": ({"learner.weights": "propose=-1"}, "numbers from 0 up"),
        "learner.weights=solve/error=2": ({"learner.weights": "solve/error=2"}, "is not played"),
        "learner.weights=solve=0": ({"learner.weights": "solve=0,propose=0"}, "nothing is left to train"),
        "learner.lora.targets": ({"learner.lora.targets": "embed"}, "at least one of q, k, v"),
    }
    for field, (flags, named) in wrong.items():
        _, problems = configs.load(str(ROOT / "configs/tiny.py"), flags)
        assert len(problems) == 1 and field in problems[0] and named in problems[0], problems
    for frozen, named in (("unembed", "has no unembed"), ("embed,final_norm,layers", "nothing is left to train")):
        with pytest.raises(ConfigError, match=named):
            build.check_fits(configured(learner__freeze=frozen, rollout__max_prompt_tokens="200"), SPEC)


# --- short runs of the loop


def run(workdir, **flags: str) -> None:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    given["seeding.import_from"] = str(SEEDS)
    config, problems = configs.load(str(ROOT / "configs/tiny.py"), given)
    assert not problems, problems
    train(config, str(workdir), recipe="tiny", again="the same")


def rows(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def quiet_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_with_corrections_samples_from_resumes_and_exports_the_merged_weights(tmp_path, quiet_hub, monkeypatch):
    sampled = []
    load_weights = build.Engine.load_weights

    def noted(engine, params, *rest):
        sampled.append(jax.device_get(params))
        load_weights(engine, params, *rest)

    monkeypatch.setattr(build.Engine, "load_weights", noted)
    lora = {"learner__lora__rank": "2", "learner__lora__targets": "q,down"}
    run(tmp_path / "run", iterations="1", **lora)
    run(tmp_path / "run", iterations="2", **lora)  # resumes
    assert [row["iteration"] for row in rows(tmp_path / "run")] == [1, 2]
    out = export(tmp_path / "run", tmp_path / "hf")
    exported, start = nnx.split(hf.load(out))[1], sampled[0]
    for (path, first), last, theirs in zip(
        jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(sampled[-1]), jax.tree.leaves(exported), strict=True
    ):
        assert np.array_equal(last, theirs), path
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        assert np.array_equal(first, last) == (name not in ("layers.q", "layers.down")), name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_of_several_steps_an_iteration_with_a_divergence_keeps_what_it_is_told(tmp_path, quiet_hub):
    run(
        tmp_path, iterations="5", learner__epochs="2", learner__minibatches="2", learner__kl="0.1",
        checkpoint__keep="1", checkpoint__keep_every="2", checkpoint__moments="bfloat16",
    )  # fmt: skip
    assert [row["learner/steps/taken"] for row in rows(tmp_path)] == [4, 8, 12, 16, 20]
    assert rows(tmp_path)[-1]["learner/kl"] > 0
    checkpointer = Checkpointer(tmp_path)
    assert checkpointer.iterations() == [2, 4, 5]
    checkpointer.close()
    rounded = json.loads((tmp_path / "checkpoints" / "5" / "digests" / "metadata").read_text())["rounded"]
    assert {"optimizer.0.mu.embed", "optimizer.0.nu.embed"} <= {name.removesuffix(".value") for name in rounded}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_moving_baselines_go_on_where_a_stopped_run_left_them(tmp_path, quiet_hub):
    for workdir, stops in ((tmp_path / "whole", ["3"]), (tmp_path / "stopped", ["1", "2", "3"])):
        for iterations in stops:
            run(workdir, iterations=iterations, learner__advantage="rae", learner__rae_decay="0.5")
    whole, stopped = rows(tmp_path / "whole"), rows(tmp_path / "stopped")
    names = [name for name in whole[-1] if name.endswith("/advantage/baseline") or name.startswith("learner/")]
    assert any(name.startswith("solve/") for name in names)
    assert [[row[name] for name in names] for row in stopped] == [[row[name] for name in names] for row in whole]
    moves = [row["propose/deduction/advantage/baseline"] for row in whole]
    means = [row["propose/deduction/reward/mean"] for row in whole]
    assert moves[0] == pytest.approx(means[0])
    for before, after, mean in zip(moves, moves[1:], means[1:]):
        assert after == pytest.approx((before + mean) / 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_whose_rate_falls_cannot_be_made_longer(tmp_path, quiet_hub):
    run(tmp_path, iterations="1", learner__schedule="linear")
    with pytest.raises(ConfigError, match="iterations: 1 -> 2"):
        run(tmp_path, iterations="2", learner__schedule="linear")


def test_no_field_is_without_a_test():
    tested = {*MOVES, *BESIDE, "learner.optimizer", "learner.freeze", "learner.lora.rank", "learner.lora.targets"}
    tested |= {"learner.chunk"}
    # Tested where they are used: advantages, packing, what was cut, the guard against gradients that are not finite.
    elsewhere = {
        "learner.advantage",
        "learner.rae_decay",
        "learner.weighting",
        "learner.row_tokens",
        "learner.row_lengths",
        "learner.share_prompts",
    }
    elsewhere |= {"learner.microbatch", "learner.max_bad_steps", "learner.overlong"}
    assert {name for name in tested | elsewhere if "=" not in name} == {
        field for field in RULES if field.startswith("learner.")
    }
