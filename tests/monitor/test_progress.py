"""The head of the report: how long to go, whether the run still writes, which alarms are on, whether it learned."""

import json

import pytest

from azr_jax.monitor import health, learned, rundata
from azr_jax.monitor.jsonl import JsonLines
from azr_jax.monitor.progress import progress

ROWS = [
    {"iteration": 0, "time/evaluate": 900.0},
    {"iteration": 1, "time/play": 300.0, "time/update": 100.0},  # compiles
    {"iteration": 2, "time/play": 20.0, "time/update": 10.0, "time/waiting_for_executor": 5.0},
    {"iteration": 3, "time/play": 30.0, "time/update": 10.0, "time/evaluate": 20.0},
]


def test_the_pace_leaves_out_what_is_paid_once():
    """30 and 60 seconds: 45 each, seven to go. Waiting for the executor is a part of playing."""
    found = progress(ROWS, {"iterations": 10}, written=1_000.0, now=1_010.0)
    assert (found["state"], found["done"], found["total"]) == ("going on", 3, 10)
    assert (found["pace_s"], found["left_s"]) == (45.0, 7 * 45.0)
    assert progress(ROWS[:2], {"iterations": 10}, 1_000.0, 1_010.0)["pace_s"] == 400.0


@pytest.mark.parametrize(
    ("rows", "total", "silent", "state"),
    [
        (ROWS, 10, 299.0, "going on"),  # five times the pace is less than five minutes
        (ROWS, 10, 301.0, "quiet"),
        (ROWS[:2], 10, 1_900.0, "going on"),  # an iteration of 400 s
        (ROWS[:2], 10, 2_100.0, "quiet"),
        (ROWS, 3, 1e9, "finished"),
        ([], 10, 1e9, "starting"),
        (ROWS[:1], None, 1.0, "going on"),
    ],
)
def test_a_run_that_should_have_written_by_now_is_quiet(rows, total, silent, state):
    assert progress(rows, {"iterations": total} if total else {}, 1e6, 1e6 + silent)["state"] == state


def test_the_mean_over_suites_has_the_error_of_all_of_them():
    """+0.12 and -0.02 with 0.03 and 0.04: +0.05, and 0.05 / 2."""
    suites = [
        {"before": 0.2, "now": 0.32, "difference": 0.12, "error": 0.03, "iterations": [0, 20]},
        {"before": 0.3, "now": 0.28, "difference": -0.02, "error": 0.04, "iterations": [0, 10]},
    ]
    found = learned.overall(suites)
    assert found is not None
    assert (round(found["difference"], 9), found["error"], found["verdict"]) == (0.05, 0.025, "better")
    assert (found["before"], round(found["now"], 9), found["iterations"]) == (0.25, 0.30, [0, 20])
    assert learned.overall([]) is None
    assert learned.overall([suites[0] | {"error": None}])["verdict"] == "no error known"
    once = learned.measured_once([{"iteration": 0, "eval/a/accuracy": 0.2, "eval/b/accuracy": 0.4}, {"iteration": 1}])
    assert once == {"iteration": 0, "mean": pytest.approx(0.3)}


def test_an_alarm_that_has_cleared_is_not_on(tmp_path):
    rows = [{"iteration": i, "learner/gap/mean": 1.0 if 20 <= i < 40 else 0.01} for i in range(1, 81)]
    for until, on in ((35, 1), (80, 0)):
        alarms, still = health.replayed(rows[:until], health.HealthSettings())
        assert (len(alarms), [alarm.rule for alarm in still]) == (1, ["sampler_gap"] * on)
    JsonLines(tmp_path / "metrics.jsonl").extend(rows[:35])
    run = rundata.read_run(tmp_path, tasks=1, max_bytes=100)
    assert [alarm["rule"] for alarm in run["on"]] == ["sampler_gap"]


def test_a_run_that_is_only_just_there_has_a_head(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"iterations": 5}))
    run = rundata.read_run(tmp_path, tasks=1, max_bytes=100)
    assert (run["progress"]["state"], run["overall"], run["once"], run["on"]) == ("starting", None, None, [])
