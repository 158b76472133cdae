"""docs/ABLATIONS.md: every command in it is a command, and changes what it names and nothing else."""

import re
import shlex
from pathlib import Path

import pytest

from azr_jax.config import flags as configs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ABLATIONS.md").read_text()
COMMANDS = re.findall(r"`(python -m azr_jax\.main [^`]+)`", PAGE)
# Ablations of the paper and what they must set.
PROMISED = [
    {"tasks.kinds": ("deduction",)},
    {"tasks.kinds": ("deduction", "abduction")},
    {"tasks.kinds": ("deduction", "abduction", "induction", "error")},
    {"tasks.references": 0},
    {"tasks.train_proposer": False},
    {"tasks.composite_probability": 0.5},  # and up to three of them, which is the default
    {"tasks.strip_comments": True},
    {"tasks.strip_globals": True},
    *({f"rewards.intrinsic.{term}": 0.5} for term in ("complexity", "halstead", "ast_distance", "answer_diversity")),
]


def load(command: str) -> tuple[dict, dict]:
    """What the command changes in its recipe, and the flags it gives."""
    words = shlex.split(command)
    (recipe,) = (word.removeprefix("--config=") for word in words if word.startswith("--config="))
    fields = [word.removeprefix("--config.") for word in words if word.startswith("--config.")]
    overrides = {field: value for field, _, value in (flag.partition("=") for flag in fields)}
    assert len(words) == 4 + len(overrides), f"flags that are no fields: {command}"
    plain, _ = configs.load(str(ROOT / recipe), {})
    changed, problems = configs.load(str(ROOT / recipe), overrides)
    assert problems == []
    return {field: value for field, _, value in configs.diff(changed, plain)}, overrides


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition("--config.")[2] or "full")
def test_every_command_loads_and_changes_only_what_it_says(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    changed, given = load(command)
    if given == {"preset": "reference"}:
        assert set(changed) == {"preset", *configs.PRESETS["reference"]}
    else:
        assert set(changed) <= set(given), "nothing else changes"
        # composite_most=3 and peak_power=1 are written out although they are the defaults.
        assert set(given) - set(changed) <= {"tasks.composite_most", "rewards.peak_power"}


def test_no_ablation_of_the_paper_is_missing(monkeypatch):
    monkeypatch.chdir(ROOT)
    changes = [load(command)[0] for command in COMMANDS]
    assert {} in changes, "the full run"
    assert [promised for promised in PROMISED if promised not in changes] == []


def test_the_papers_numbers_stand_beside_their_commands():
    rows = {
        line.split("|")[1].strip(): line.split("|")[4].strip()
        for line in PAGE.splitlines()
        if line.startswith("| ") and line.count("|") > 4
    }
    assert rows["full"] == "55.2 / 38.4 / 46.8" and rows["deduction only"] == "54.6 / 32.0 / 43.3"
    assert rows["without induction"] == "54.2 / 33.3 / 43.8" and rows["without references"] == "54.4 / 33.1 / 43.8"
    assert rows["train the solver only"] == "54.8 / 36.0 / 45.4"


def test_every_difference_between_the_presets_stands_in_the_table_with_both_values_and_a_test_that_is_there():
    part = PAGE.partition("## Where the paper and its public code differ")[2].partition("With one optimizer step")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines() if "`test_" in line]
    paper, reference = configs.PRESETS["paper"], configs.PRESETS["reference"]
    told = {row[1].strip("`"): tuple(value.split("`")[1] for value in row[2:4]) for row in rows}
    assert told == {field: (str(paper[field]), str(reference[field])) for field in paper}
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert [row[4] for row in rows if f"def {row[4].strip('` ')}(" not in tests] == []
