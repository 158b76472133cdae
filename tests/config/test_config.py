"""Wrong flags are all named at once, before anything is started; good ones give exactly what was asked for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from azr_jax.config import flags
from azr_jax.config.schema import RULES

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").glob("*.py"))
BASE = str(ROOT / "configs/base.py")
SEEDS = str(ROOT / "tests/fixtures/seeds.jsonl")
TRIPLETS, EMPTY = (str(ROOT / f"tests/fixtures/{name}.jsonl") for name in ("triplets", "no_rows"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_sound_and_has_every_field(recipe):
    loaded, problems = flags.load(str(recipe), {})
    assert problems == []
    assert set(flags.flatten(loaded)) == set(RULES)


def test_every_field_has_one_line_of_meaning_beside_or_above_it():
    lines = (ROOT / "azr_jax/config/schema.py").read_text().splitlines()
    fields = [n for n, line in enumerate(lines) if re.match(r"    [a-z]\w*: ", line) and "Config()" not in line]
    assert len(fields) == len(RULES)
    for n in fields:
        assert "  # " in lines[n] or lines[n - 1].startswith("    # "), lines[n]


def test_all_problems_are_reported_at_once_and_each_says_what_would_be_right():
    _, problems = flags.load(
        BASE, {"learner.lrr": "1", "seed": "x", "tasks.kinds": "deduction,magic", "mesh.tensor": "0"}
    )
    text = "\n".join(problems)
    assert len(problems) == 4
    assert "learner.lrr" in text and "did you mean learner.lr?" in text
    assert "seed=x" in text and "whole number" in text
    assert "magic" in text and "abduction" in text
    assert "mesh.tensor=0" in text and "from 1 up" in text


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ("learner.lr", "5e-7", 5e-7),
        ("iterations", "7", 7),
        ("tasks.kinds", "deduction,abduction", ("deduction", "abduction")),
        ("tasks.kinds", "('error',)", ("error",)),
        ("tasks.train_proposer", "false", False),
        ("monitor.sinks", "", ()),
        ("model.spell_out", "<think>,</think>", ("<think>", "</think>")),
    ],
)
def test_an_override_arrives_with_its_type(field, given, value):
    loaded, problems = flags.load(BASE, {field: given})
    assert problems == []
    assert flags.flatten(loaded)[field] == value


def test_presets_fill_what_is_not_said_and_leave_what_is():
    paper, _ = flags.load(BASE, {})
    reference, _ = flags.load(BASE, {"preset": "reference", "learner.entropy": "0.01"})
    assert (paper.learner.weighting, paper.learner.entropy, paper.rewards.zero_learnability) == ("sequence", 0.001, 0.0)
    assert (reference.learner.weighting, reference.rewards.zero_learnability) == ("token", -0.5)
    assert reference.learner.entropy == 0.01


def test_importance_weights_are_there_where_tokens_may_be_stale_and_nothing_else_is_said():
    overlapped = {"pipeline.mode": "overlapped"}
    for given, importance in (
        ({}, "none"),
        (overlapped, "token"),
        (overlapped | {"pipeline.staleness": "0"}, "none"),
        (overlapped | {"learner.importance": "none"}, "none"),
        (overlapped | {"learner.old_logprobs": "sampler"}, "none"),  # one ratio stands for both
        ({"learner.importance": "sequence"}, "sequence"),
    ):
        config, problems = flags.load(BASE, given)
        assert problems == [] and config.learner.importance == importance


def test_every_recipe_measures_as_it_goes_but_those_that_reach_for_no_file(monkeypatch):
    """A run of days whose first held-out number comes after it has ended teaches nothing on the way."""
    monkeypatch.chdir(ROOT)
    recipes = sorted((ROOT / "configs").glob("*.py"))
    without = [recipe.stem for recipe in recipes if not flags.load(str(recipe), {})[0].eval.every]
    assert without == ["qwen05b_coder_cpu", "smollm2", "tiny"]


def test_the_tags_that_a_base_model_never_learned_are_spelled_out_in_its_recipe(monkeypatch):
    """Behind Qwen3's token <think>, untrained in the base, it wrote nonsense."""
    monkeypatch.chdir(ROOT)
    qwen3, _ = flags.load("configs/qwen3_4b.py", {})
    assert qwen3.tasks.prompt_style == "think" and qwen3.model.name.endswith("-Base")
    assert tuple(qwen3.model.spell_out) == ("<think>", "</think>")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"tasks.induction_shown": "10"}, "hidden pairs"),
        ({"buffer.valid_program_filter": "non_one", "tasks.train_proposer": "false"}, "nobody measures solve rates"),
        ({"tasks.induction_fewest": "1"}, "tasks.induction_fewest=1: should be 0 (all), or from 2"),
        ({"tasks.induction_fewest": "11"}, "to tasks.induction_inputs=10"),
        ({"tasks.kinds": "induction"}, "takes its programs"),
        ({"buffer.capacity": "8"}, "(seeding.factor + 1) x batch_size = 320"),
        ({"tasks.kinds": "induction", "seeding.import_from": TRIPLETS}, "holds no induction rows"),
        ({"seeding.import_from": EMPTY}, "holds no rows"),
        ({"seeding.import_from": EMPTY, "tasks.references": "6"}, "holds no rows"),
        ({"seeding.import_from": EMPTY, "tasks.train_proposer": "false"}, "holds no rows"),
        ({"seeding.import_from": BASE}, "line 1: is not JSON"),
        ({"seeding.import_from": str(ROOT)}, "no such file"),
        ({"seeding.import_from": SEEDS, "buffer.capacity": "5", "batch_size": "1"}, "7 rows"),
        (
            {"tasks.kinds": "induction", "seeding.import_from": SEEDS, "tasks.composite_probability": "0.2"},
            "nothing to act on",
        ),
        ({"buffer.frontier_low": "0.9"}, "at most buffer.frontier_high=0.8"),
        ({"buffer.solve_sampling": "frontier", "tasks.train_proposer": "false"}, "nobody measures solve rates"),
        ({"rewards.combine": "multiply"}, "nothing to combine"),
        ({"rewards.peak_at": "0.2"}, "rewards.learnability=paper has no peak"),
        ({"learner.row_tokens": "100"}, "14240"),
        ({"rollout.pages": "3"}, "at least 224"),  # ceil(14240 / 64), and one to copy from
        ({"mesh.fsdp": "0"}, "-1"),
        ({"rollout.repetition_stop": "1"}, "2 or more"),
        ({"rollout.propose_vocab_dropout": "1"}, "a number from 0 to 0.99"),
        ({"tasks.examples": "none"}, "is for tasks.prompt_style=chat or completion"),
        ({"rollout.stop_at_answer": "true", "tasks.format": "lenient"}, "false, or tasks.format=strict"),
        ({"seeding.import_from": "/no/such/file"}, "no such file"),
        ({"pipeline.staleness": "-1"}, "pipeline.staleness=-1: should be a whole number from 0 up"),
        ({"pipeline.staleness": "2"}, "pipeline.staleness=2: has nothing to act on while pipeline.mode=synchronous"),
        ({"pipeline.kv_cache": "keep"}, "nothing to act on while pipeline.mode=synchronous"),
        ({"pipeline.follow": "there"}, "nothing to act on while pipeline.mode=synchronous"),
        ({"pipeline.mode": "overlapped", "pipeline.follow": "/no/such/file"}, "should be the schedule.jsonl of a run"),
        ({"pipeline.least_ess": "0.5"}, "nothing to act on while pipeline.mode=synchronous"),
        ({"pipeline.most_gap": "0.1"}, "nothing to act on while pipeline.mode=synchronous"),
        (
            {"pipeline.mode": "overlapped", "pipeline.least_ess": "0.5", "learner.importance": "none"},
            "pipeline.least_ess=0.5: of importance weights",
        ),
        ({"pipeline.solve_after": "0"}, "pipeline.solve_after=0.0: should be a number above 0 to 1"),
        ({"pipeline.solve_after": "0.9"}, "pipeline.solve_after=0.9: goes by what came first"),
        (
            {"pipeline.mode": "overlapped", "pipeline.staleness": "0", "pipeline.solve_after": "0.9"},
            "should be 1, or pipeline.mode=overlapped with pipeline.staleness from 1 up",
        ),
        (
            {"pipeline.mode": "overlapped", "pipeline.solve_after": "0.9", "buffer.valid_program_filter": "non_one"},
            "should be all, or pipeline.solve_after=1",
        ),
        ({"pipeline.mode": "overlapped", "learner.epochs": "2"}, "learner.epochs=2: tokens that are stale already"),
        ({"pipeline.mode": "overlapped", "rollout.propose_vocab_dropout": "0.1"}, "a proposal may see two"),
    ],
)
def test_fields_that_contradict_each_other_are_named(overrides, named):
    _, problems = flags.load(BASE, overrides)
    assert len(problems) == 1 and named in problems[0]


@pytest.mark.parametrize(
    ("field", "given", "named"),
    [
        ("tasks.kinds", "", "at least one of deduction"),
        ("tasks.kinds", "deduction,deduction", "each once"),
        ("tasks.estimate_attempts", "1", "from 2 up: with one attempt every solve rate is 0 or 1"),
        ("tasks.references", "-1", "from 0 to 64"),
        ("tasks.novelty_gate", "1.5", "from 0 to 1"),
        ("tasks.message_leak", "80", "from 0 to 1"),
        ("rewards.duplicate", "0.5", "a number from -10 to 0, or full"),
        ("rewards.duplicate", "often", "a number from -10 to 0, or full"),
        ("rewards.peak_at", "0", "from 0.01 to 0.99"),
        ("rewards.memory.mean", "-1", "from 0 to 10"),
        ("tasks.composite_probability", "nan", "from 0 to 1"),
        ("tasks.composite_most", "0", "from 1 to 8"),
        ("rewards.intrinsic.complexity", "much", "a number"),
        ("rewards.intrinsic.beauty", "1", "no such field"),
        ("rewards.intrinsic", "1", "its fields: rewards.intrinsic.complexity"),
        ("rewards.combine", "average", "add | add_product"),
    ],
)
def test_a_field_of_self_play_that_cannot_be_is_named(field, given, named):
    _, problems = flags.load(BASE, {field: given})
    assert len(problems) == 1 and field in problems[0] and named in problems[0], problems


def test_a_config_survives_its_own_json():
    loaded, _ = flags.load(BASE, {})
    again = flags.from_json(flags.to_json(loaded))
    assert flags.flatten(again) == flags.flatten(loaded)


def test_the_diff_names_only_what_differs():
    base, _ = flags.load(BASE, {})
    changed, _ = flags.load(BASE, {"learner.lr": "2e-6"})
    assert flags.diff(changed, base) == [("learner.lr", 1e-6, 2e-6)]


def test_a_field_only_a_recipe_has_is_refused():
    loaded = flags.read_recipe(BASE)
    loaded.learner = ConfigDict({**loaded.learner.to_dict(), "lrate": 1.0})
    assert any("learner.lrate" in problem for problem in flags.check(loaded))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config=configs/none.py"], ["no such file", "configs/base.py"]),
        (["--config.learner.lr=fast", "--config.batch_sise=4"], ["learner.lr=fast", "did you mean batch_size?"]),
        (["--workdri=/tmp/x"], ["workdri"]),
        (["iterations=3"], ["--config.<field>=<value>"]),
        (["--config.seed"], ["--config.seed=<value>"]),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line_each_and_exits_with_2(arguments, named):
    done = subprocess.run(
        [sys.executable, "-m", "azr_jax.main", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in named:
        assert word in done.stderr
