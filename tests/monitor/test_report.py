"""What goes into the report, before a browser sees it: series, samples within bounds, lineage, comparison, escaping."""

import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import made_up_run
import pytest

from azr_jax.monitor import learned, report, rundata, samples
from azr_jax.monitor.jsonl import Damaged, JsonLines
from azr_jax.monitor.metrics import MetricsWriter
from azr_jax.monitor.records import RecordWriter
from azr_jax.monitor.report import NothingToReport, build
from azr_jax.monitor.rundata import read_run
from azr_jax.monitor.system import system_metrics

ROOT = Path(__file__).parents[2]


def data_of(page):
    """The JSON inside the page, as the browser would read it."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_a_run_becomes_columns_with_gaps_where_nothing_was_measured(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"a": 1.0}, {"time/play": 2.0})
    writer.write(2, {"a": 3.0, "b": 0.123456789}, {})
    (run,) = data_of(build([tmp_path], tmp_path / "out" / "report.html"))["runs"]
    assert run["iterations"] == [1, 2]
    assert run["series"] == {"a": [1.0, 3.0], "b": [None, 0.12346], "time/play": [2.0, None]}


def test_long_runs_are_averaged_over_neighbours(tmp_path):
    JsonLines(tmp_path / "metrics.jsonl").extend({"iteration": i, "a": float(i)} for i in range(1, 2_501))
    run = rundata.read_run(tmp_path, tasks=10, max_bytes=1_000)
    assert len(run["iterations"]) == 834  # three together, and one left over
    assert run["iterations"][:2] == [3, 6]
    assert run["series"]["a"][:2] == [2.0, 5.0]
    assert run["iterations"][-1] == 2_500


def test_the_head_of_the_report_says_whether_it_learned(tmp_path):
    """Before, now, and the difference with its error: 0.25 and 0.37, each with 0.03, differ by 0.12 +- 0.042."""
    rows = [
        {"iteration": 0, "eval/a/accuracy": 0.25, "eval/a/accuracy_se": 0.03, "eval/b/accuracy": 0.5},
        {"iteration": 10, "eval/a/accuracy": 0.30, "eval/a/accuracy_se": 0.03, "eval/b/accuracy": 0.4},
        {"iteration": 20, "eval/a/accuracy": 0.37, "eval/a/accuracy_se": 0.03, "eval/c/accuracy": 0.4, "x": 1.0},
    ]
    a, b = learned.learned(rows)
    assert (a["suite"], a["iterations"], a["before"], a["now"]) == ("a", [0, 20], 0.25, 0.37)
    assert (round(a["difference"], 6), round(a["error"], 4), a["verdict"]) == (0.12, 0.0424, "better")
    assert (b["suite"], b["error"], b["verdict"]) == ("b", None, "no error known")
    assert learned.learned(rows[:2])[0]["verdict"] == "no change beyond its error"
    assert (
        learned.learned([{**row, "eval/a/accuracy": 1 - row["eval/a/accuracy"]} for row in rows])[0]["verdict"]
        == "worse"
    )
    assert learned.learned([]) == []
    by_task = [rows[0], {**rows[2], "eval/a/gain": 0.12, "eval/a/gain_se": 0.07}]  # compared task by task
    assert [(one["error"], one["verdict"]) for one in learned.learned(by_task)] == [
        (0.07, "no change beyond its error")
    ]
    by_task[-1] = {**by_task[-1], "eval/a/gain": 0.08}  # since a later one: begun before gains were written down
    assert round(learned.learned(by_task)[0]["error"], 4) == 0.0424
    JsonLines(tmp_path / "metrics.jsonl").extend(rows)
    (run,) = data_of(build([tmp_path], tmp_path / "report.html"))["runs"]
    assert run["learned"] == learned.learned(rows)


def race(workdir, out, writers, each):
    """So many writers of one report at once; every time that it is read meanwhile, it is whole."""
    problems = []

    def write():
        for _ in range(each):
            try:
                build([workdir], out)
            except OSError as error:
                problems.append(error)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if out.exists() and not out.read_text().rstrip().endswith("</html>"):
            problems.append("half a page")
    assert not problems
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_writers_of_one_report_do_not_meet(tmp_path):
    """The background report and the last one wrote the same temporary file: one of them found it gone."""
    JsonLines(tmp_path / "metrics.jsonl").extend({"iteration": i, "a": 1.0} for i in range(20))
    race(tmp_path, tmp_path / "out" / "report.html", 8, 4)


@pytest.mark.slow
def test_two_hundred_races_and_none_is_lost(tmp_path):
    JsonLines(tmp_path / "metrics.jsonl").extend({"iteration": i, "a": 1.0} for i in range(20))
    for number in range(200):
        race(tmp_path, tmp_path / f"out{number}" / "report.html", 4, 1)


def test_a_folder_without_a_run_is_an_error_that_names_it(tmp_path):
    with pytest.raises(NothingToReport, match=r"holds no run: neither metrics\.jsonl nor config\.json"):
        build([tmp_path / "nothing"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "", "config.json: is not JSON"),
        ("config.json", "null", "holds 'None': should be an object"),
        ("config.json", '{"monitor": {"health": [1]}}', "monitor.health holds"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl: a line without `iteration`"),
        ("metrics.jsonl", "[1]\n", "metrics.jsonl: line 1 holds"),
        ("timings.jsonl", '{"iteration": 1}\nx\n', "timings.jsonl: line 2 is not JSON"),
        ("config_changes.jsonl", "{}\n", "config_changes.jsonl: a line without `changes`"),
    ],
)
def test_a_damaged_file_of_a_run_is_one_line(tmp_path, name, content, said):
    """It was a traceback."""
    run = made_up_run.write(tmp_path / "run", 1, per_kind=1)
    (run / name).write_text(content)
    with pytest.raises(Damaged) as told:
        build([run], tmp_path / "report.html")
    assert said in str(told.value) and "\n" not in str(told.value)


def test_samples_keep_their_bounds_cover_the_run_and_stay_when_it_grows(tmp_path):
    run = made_up_run.write(tmp_path / "run", 60, per_kind=8)
    found = samples.sample(run, tasks=200, max_bytes=10_000_000)
    assert (len(found["tasks"]), found["proposals"], found["solutions"]) == (200, 1_440, 1_440)
    assert len({task["iteration"] for task in found["tasks"]}) > 50
    accepted = sum(not task["refused"] for task in found["tasks"]) / 200
    assert accepted > 0.7  # 0.6 of all are
    small = samples.sample(run, tasks=200, max_bytes=100_000)
    assert len(json.dumps(small["tasks"])) < 102_000

    def key(task):
        return task["iteration"], task["kind"], task["index"]

    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(lines[: len(lines) // 2]))
    earlier = samples.sample(run, tasks=100, max_bytes=10_000_000)
    assert len({key(t) for t in earlier["tasks"]} & {key(t) for t in found["tasks"]}) > 40


def test_a_task_finds_its_solutions_and_its_ancestors_down_to_the_seed(tmp_path):
    records = []
    for task_id, parents in ((1, [0]), (2, [1]), (3, [2, 77])):
        rng = made_up_run.random.Random(3)
        record = made_up_run.proposal(task_id, "deduction", 0, task_id, rng)
        records.append({"iteration": task_id} | record | {"references": parents, "refused": ""})
        records.append(
            {"iteration": task_id, "role": "solve", "kind": "deduction", "task_id": task_id, "correct": True}
        )
    run = made_up_run.write(tmp_path / "run", 1)
    (run / "records.jsonl").unlink()
    JsonLines(run / "records.jsonl").extend(records)
    found = samples.sample(run, tasks=10, max_bytes=1_000_000)
    assert [task["task_id"] for task in found["tasks"]] == [1, 2, 3]
    assert [len(task["solved"]) for task in found["tasks"]] == [1, 1, 1]
    assert set(found["ancestors"]) == {0, 1, 2}  # 77 is nowhere: the page says so
    assert found["ancestors"][0]["seed"] is True
    assert found["ancestors"][0]["program"] == "def f(x):\n    return x"
    assert found["ancestors"][2]["references"] == [1]


def test_text_that_looks_like_a_record_does_not_confuse_the_scan(tmp_path):
    record = made_up_run.proposal(1, "deduction", 0, 5, made_up_run.random.Random(3))
    record["completion"] = '"task_id": 99, {"iteration": 1, "role": "solve", "task": null'
    JsonLines(tmp_path / "records.jsonl").append({"iteration": 1} | record)
    (task,) = samples.sample(tmp_path, tasks=5, max_bytes=100_000)["tasks"]
    assert task["task_id"] == 5
    assert task["completion"] == record["completion"]


def test_long_texts_are_cut_and_say_how_long_they_were(tmp_path):
    record = made_up_run.proposal(1, "deduction", 0, 5, made_up_run.random.Random(3)) | {"completion": "a" * 1_000_000}
    JsonLines(tmp_path / "records.jsonl").append({"iteration": 1} | record)
    (task,) = samples.sample(tmp_path, tasks=5, max_bytes=100_000)["tasks"]
    assert task["completion"].endswith("[... cut: 1000000 characters in records.jsonl]")
    assert len(task["completion"]) < 5_000


def test_text_that_grows_when_escaped_does_not_grow_the_report_beyond_its_bound(tmp_path):
    run = made_up_run.write(tmp_path / "run", 20, text="<" * 3_000)
    bound = 300_000
    found = samples.sample(run, tasks=1_000, max_bytes=bound)
    assert found["tasks"]
    assert len(report._json_for_html(found["tasks"])) <= bound


def test_what_could_not_be_computed_is_shown_as_missing(tmp_path):
    record = made_up_run.proposal(1, "deduction", 0, 5, made_up_run.random.Random(3)) | {"advantage": math.nan}
    RecordWriter(tmp_path).write(1, [record])
    (task,) = samples.sample(tmp_path, tasks=5, max_bytes=100_000)["tasks"]
    assert task["advantage"] is None


def test_alarms_of_the_past_are_in_the_report(tmp_path):
    rows = [{"iteration": i, "learner/gap/mean": 0.01 if i < 20 else 1.0} for i in range(1, 41)]
    JsonLines(tmp_path / "metrics.jsonl").extend(rows)
    (alarm,) = data_of(build([tmp_path], tmp_path / "report.html"))["runs"][0]["alarms"]
    assert (alarm["rule"], alarm["subject"]) == ("sampler_gap", "learner/gap/mean")
    assert 20 <= alarm["iteration"] < 30


def test_it_can_be_written_by_another_process_while_the_run_goes_on(tmp_path):
    run = made_up_run.write(tmp_path / "run", 3)
    report.build_in_background(run).join(timeout=240)
    assert len(data_of(run / "report.html")["runs"][0]["iterations"]) == 3


def test_memory_of_the_process_is_measured():
    before = system_metrics()["system/rss_mb"]
    held = bytearray(200_000_000)
    assert 150 < system_metrics()["system/rss_mb"] - before < 300
    assert len(held) == 200_000_000


def test_nothing_in_the_data_can_end_its_script_element(tmp_path):
    run = made_up_run.write(tmp_path / "<i>run", 3, text="</script><!--<script>&amp;\x00\ud800\u2028")
    page = build([run], tmp_path / "report.html")
    text = page.read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "<i>run" not in text
    assert data_of(page)["runs"][0]["tasks"][0]["completion"].endswith("</script><!--<script>&amp;\x00\ud800\u2028")
    outside = re.sub(r"https?://www\.w3\.org/2000/svg", "", text)
    assert "http://" not in outside and "https://" not in outside


def test_paired_differences_by_hand():
    """Over the later half: differences 1, 3, 1, 3; two blocks of means 2 and 2, so no scatter between blocks."""
    first = {"iterations": list(range(8)), "series": {"learner/entropy": [0.0] * 8, "learner/loss": [0.0] * 8}}
    other = {
        "iterations": list(range(8)),
        "series": {"learner/entropy": [9, 9, 9, 9, 1, 3, 1, 3], "learner/loss": [1] * 8},
    }
    (row,) = rundata.paired(first, other)
    assert (row["name"], row["n"], row["difference"], row["error"]) == ("learner/entropy", 4, 2.0, 0.0)


def test_the_error_of_blocks_by_hand():
    """Blocks (0, 0) and (2, 2): mean 1, deviation sqrt(2), standard error sqrt(2) / sqrt(2) = 1."""
    mean, error = rundata.blocked([0, 0, 2, 2])
    assert mean == 1.0
    assert math.isclose(error, 1.0)
    assert rundata.blocked([5.0]) == (5.0, None)


def test_only_fields_that_differ_are_compared():
    assert rundata.differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}]) == [("b", [2, 3]), ("c", ["-", 4])]


def test_the_command_writes_a_file_and_says_how_large_it_is(tmp_path):
    run = made_up_run.write(tmp_path / "run", 3)
    command = [sys.executable, "-m", "azr_jax.report"]
    done = subprocess.run([*command, f"--workdir={run}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r".*report\.html: \d+\.\d MB\n", done.stdout)
    assert (run / "report.html").exists()
    wrong = subprocess.run([*command, f"--workdir={tmp_path / 'no'}"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --workdir=")
    assert wrong.stderr.count("\n") == 1


def test_what_a_later_start_did_otherwise_stands_beside_what_differs_from_the_base(tmp_path):
    (tmp_path / "config_diff.txt").write_text("seed  0 -> 1\n")
    (tmp_path / "config_changes.jsonl").write_text(
        '{"from": 3, "changes": {"iterations": [2, 4], "mesh.tensor": [1, 2]}}\n'
    )
    diff = read_run(tmp_path, tasks=1, max_bytes=1000)["diff"]
    assert diff.splitlines() == ["seed  0 -> 1", "from iteration 3 on: iterations  2 -> 4, mesh.tensor  1 -> 2"]
