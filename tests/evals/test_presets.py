"""One word for what others report; flags given by hand win; the table says of how many samples a figure is."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from azr_jax.evals import published
from azr_jax.evals.asked import Asked
from azr_jax.evals.presets import PRESETS, BadRequest, in_parts, told
from azr_jax.evals.suites import SUITES, named
from azr_jax.evals.table import averages, result, rows_of_table

ROOT = Path(__file__).parents[2]
FLAGS = Asked(
    ("in_distribution",), "think", 1, 0.0, 1.0, 8096, 0, "float32", 4, 0, (0, 1), None, Path("evals"), 10.0, 64, False
)  # fmt: skip


def how(parts):
    return {suite: (p.n, p.temperature, p.top_p, p.max_new_tokens) for p in parts for suite in p.suites}


def test_the_paper_is_greedy_in_the_conversation_of_training():
    parts = in_parts(FLAGS, "paper", set())
    assert {part.style for part in parts} == {"think"}
    asked = how(parts)
    assert len(asked) == 9 and "livecodebench_v5" in asked
    assert asked["humaneval_plus"] == (1, 0.0, 1.0, 8096)
    assert asked["aime24"] == (1, 0.0, 1.0, 16_000)


def test_contests_of_2026_are_means_of_many_samples_and_livecodebench_has_its_window():
    parts = in_parts(FLAGS, "2026", set())
    asked = how(parts)
    assert asked["aime26"] == asked["amc23"] == (32, 0.6, 0.95, 32_768)
    assert asked["livecodebench_v6"][0] == 8
    assert asked["bbeh"] == asked["math500"] == (1, 0.0, 1.0, 16_000)
    assert {(part.style, part.since, part.until) for part in parts} == {("boxed", "2024-08-01", "2025-05-01")}


def test_a_flag_given_by_hand_wins():
    by_hand = replace(FLAGS, n=4, style="completion", suites=("aime25", "gsm8k"), temperature=0.8)
    (part, greedy) = in_parts(by_hand, "2026", {"n", "style", "suites", "temperature"})
    assert (part.suites, part.style, part.n, part.temperature, part.top_p) == (("aime25",), "completion", 4, 0.8, 0.95)
    assert (greedy.suites, greedy.n, greedy.top_p) == (("gsm8k",), 4, 1.0)
    once = in_parts(replace(FLAGS, n=1), "2026", {"n"})
    assert {part.n for part in once} == {1}
    assert in_parts(by_hand, "", {"n"}) == [by_hand]


def test_samples_that_would_all_be_the_same_are_refused_also_in_a_preset():
    with pytest.raises(BadRequest, match=r"--n=2: greedy samples are all the same"):
        in_parts(replace(FLAGS, n=2), "", {"n"})
    with pytest.raises(BadRequest, match=r"--n=32: greedy .*\(amc23, aime24, aime25, aime26\)"):
        in_parts(FLAGS, "2026", {"temperature"})


def test_every_preset_names_suites_that_exist_once_and_parts_never_share_a_folder():
    for name, preset in PRESETS.items():
        assert len({suite.name for suite in named(preset.suites)}) == len(preset.suites)
        assert set(preset.other) <= set(preset.suites)
        parts = in_parts(FLAGS, name, set())
        folders = {(part.style, part.n, part.temperature, part.max_new_tokens) for part in parts}
        assert len(folders) == len(parts)


def test_the_list_says_what_each_means():
    text = told()
    assert "--suite=amc23,aime24,aime25,aime26\n      --n=32 --temperature=0.6 --top_p=0.95" in text
    assert "--since=2024-08-01 --until=2025-05-01" in text
    assert all(name in text for name in (*PRESETS, *SUITES))


def test_the_table_says_of_how_many_samples_a_figure_is():
    """Two rows of 1 and 0.5: mean 0.75, standard error 0.25."""

    def line(row, sample, score):
        return {"id": row, "sample": sample, "score": score, "answer": "7", "category": "", "reason": "correct"}

    many = [line("a", 0, 1.0), line("a", 1, 1.0), line("b", 0, 1.0), line("b", 1, 0.0)]
    avg = result("aime25", many, 2, ["a", "b"], "avg@2")
    greedy = result("livecodebench_v6", [line("a", 0, 1.0)], 1, ["a"], "greedy", "2024-08-01 to 2025-05-01")
    head, (first, second) = rows_of_table([avg, greedy])
    assert head[:6] == ["suite", "rows", "measure", "pass@1", "pass@2", "maj@n"]
    assert first[:4] == ["aime25", "2", "avg@2", "75.0 ± 25.0"]
    assert second[:6] == ["livecodebench_v6", "1", "greedy, 2024-08-01 to 2025-05-01", "100.0", "", ""]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model=x", "--preset=2025"], "error: --preset=2025: should be of paper, 2026; --list says what they mean"),
        ([], "error: --model: missing; should be a folder, a hub name, or workdir@iteration"),
    ],
)
def test_what_is_wrong_is_one_line(flags, said):
    command = [sys.executable, "-m", "azr_jax.evaluate", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.stderr


def test_a_published_model_has_its_row_of_the_paper_beside():
    """The paper's own averages of these rows: 61.6, 39.1 and 50.4 for the coder of 7B, 53.3 for that of 14B."""
    coder = published.row("andrewzh/Absolute_Zero_Reasoner-Coder-7b")
    assert {name: round(value, 1) for name, value in averages(coder).items()} == {
        "code": 61.6,
        "math": 39.1,
        "overall": 50.4,
    }
    assert round(averages(published.row("models/absolute_zero_reasoner-coder-14b/"))["overall"], 1) == 53.3
    assert round(averages(published.row("Qwen/Qwen2.5-7B"))["overall"], 1) == 39.8
    assert published.row("Qwen/Qwen2.5-7B-Instruct") == {}
    found = published.beside("andrewzh/Absolute_Zero_Reasoner-Coder-7b", {"math500": 0.7, "gsm8k": 0.5})
    assert found == (["", "math500"], [["the paper", "72.6"], ["here", "70.0"]])
    assert published.beside("runs/first", {"math500": 0.7}) is None
