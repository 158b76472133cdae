"""Whole runs whose iterations overlap: the little world's model, so that proposals are tasks and verdicts matter."""

import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import RULES, ConfigError
from azr_jax.run.train import train
from azr_jax.selfplay.event_loop import EventLoop
from tests.run.test_twenty_kills import TELLING
from tests.run.test_whole_loop import ROOT, SEEDS, environment, files_that_must_repeat, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SMALL = {
    "batch_size": "4", "iterations": "4", "seeding.import_from": str(SEEDS), "seeding.factor": "1",
    "rollout.slots": "8", "rollout.max_new_tokens": "96", "eval.every": "2", "eval.rows": "2", "eval.attempts": "1",
    "monitor.report_every": "0", "checkpoint.every": "1",
}  # fmt: skip
OVERLAPPED = {"pipeline.mode": "overlapped"}
TURNED = {f"pipeline.{field}" for field in ("mode", "staleness", "kv_cache", "solve_after", "follow")}
TURNED |= {"pipeline.least_ess", "pipeline.most_gap"}


def run(workdir, recipe="nano", **flags: str):
    small = SMALL if recipe == "nano" else {"seeding.import_from": str(SEEDS)}
    config, problems = configs.load(str(ROOT / f"configs/{recipe}.py"), small | flags)
    assert not problems, problems
    train(config, str(workdir), recipe=recipe, again="the same")
    return workdir


def rows(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def records(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "records.jsonl").read_text().splitlines()]


def digests(workdir) -> dict:
    """Of every array of the last checkpoint."""
    last = max((workdir / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    found = json.loads((last / "digests" / "metadata").read_text())
    return {item: of_arrays for item, of_arrays in found.items() if item != "extra"}  # which holds the config


@contextlib.contextmanager
def verdicts_only_when_all_wait_for_them():
    """As of a slow judge, but by no clock: as much is begun early as may be, and every time the same."""

    def late(loop: EventLoop, *, wait: bool) -> list:
        if not wait:
            return []
        while loop._in.keys() < loop.judging.keys():
            loop._in |= loop._told(wait=True)
        return [(number, loop._in.pop(number)) for number in sorted(loop._in)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventLoop, "_verdicts", late)
        yield


@pytest.fixture(scope="module")
def overlapped(tmp_path_factory):
    with verdicts_only_when_all_wait_for_them():
        return run(tmp_path_factory.mktemp("overlapped") / "run", **OVERLAPPED)


def test_staleness_0_is_the_synchronous_run_to_the_bit(tmp_path):
    plain = run(tmp_path / "plain", "tiny")
    other = run(tmp_path / "other", "tiny", **OVERLAPPED, **{"pipeline.staleness": "0"})
    assert files_that_must_repeat(other) == files_that_must_repeat(plain)
    assert digests(other) == digests(plain)
    assert not (other / "schedule.jsonl").exists()


def test_tokens_are_as_old_as_they_may_be_and_what_their_weights_leave_is_measured(overlapped):
    played = [row for row in rows(overlapped) if row["iteration"]]
    assert [row["iteration"] for row in played] == [1, 2, 3, 4]
    assert played[0]["learner/staleness/0/share"] == pytest.approx(1) and "learner/staleness/1/gap" not in played[0]
    for row in played[1:]:
        shares = [row[f"learner/staleness/{age}/share"] for age in (0, 1)]
        assert sum(shares) == pytest.approx(1) and shares[1] > 0
        assert row["learner/staleness/mean"] == pytest.approx(shares[1])
        # An update moved the weights. Those of now may have drawn behind a cache of before: a gap, but a small one.
        assert row["learner/staleness/1/gap"] > row["learner/staleness/0/gap"]
        assert 0 < row["learner/importance/ess"] <= 1 and "learner/importance/capped" in row
    assert "learner/staleness/2/share" not in played[-1]


def test_records_say_which_weights_drew_what(overlapped):
    found = set()
    for record in records(overlapped):
        for one in (record, *record.get("attempts", [])):
            for version, _ in one.get("versions", []):
                found.add((record["role"], record["iteration"] - version))
            assert sum(count for _, count in one.get("versions", [])) in (0, one["tokens"])
    assert ("propose", 1) in found and {age for _, age in found} <= {0, 1}


def test_the_buffers_hold_what_the_records_say_in_the_order_of_iterations(overlapped):
    check_buffers(overlapped)


def check_buffers(workdir) -> None:
    kept = {r["task_id"] for r in records(workdir) if r["role"] == "propose" and r["task_id"] is not None}
    entries = []
    for file in (workdir / "buffers").glob("*.jsonl"):
        lines = [json.loads(line)["record"] for line in file.read_text().splitlines()]
        of_kind = [line["entry"] for line in lines if "entry" in line]
        assert [e["iteration"] for e in of_kind] == sorted(e["iteration"] for e in of_kind)
        entries += of_kind
    ids = [entry["id"] for entry in entries]
    assert len(set(ids)) == len(ids) and kept == {e["id"] for e in entries if not e["seed"]} and kept


@pytest.mark.parametrize("cache", ["keep", "recompute"])
def test_a_run_that_follows_a_schedule_is_the_same_run_to_the_bit(tmp_path, cache):
    """Once a run whose verdicts came as they came, once one with tokens two updates old that solves before its turn."""
    if cache == "keep":
        overlapped = run(tmp_path / "first", **OVERLAPPED | {"pipeline.kv_cache": cache})
    else:
        flags = OVERLAPPED | {"pipeline.kv_cache": cache, "pipeline.staleness": "2", "pipeline.solve_after": "0.5"}
        with verdicts_only_when_all_wait_for_them():
            overlapped = run(tmp_path / "first", **flags)
        assert any(row.get("learner/staleness/2/share", 0.0) > 0 for row in rows(overlapped))
    flags = {name: str(value) for name, value in configs.flatten(loaded(overlapped)).items() if name in TURNED}
    followed = run(tmp_path / "again", **flags | {"pipeline.follow": str(overlapped / "schedule.jsonl")})
    assert files_that_must_repeat(followed) == files_that_must_repeat(overlapped)
    assert digests(followed) == digests(overlapped)
    assert (followed / "schedule.jsonl").read_bytes() == (overlapped / "schedule.jsonl").read_bytes()


def test_above_the_bound_nothing_is_begun_before_its_turn_also_after_a_resume(tmp_path):
    """The second update has stale tokens, so their gap, and in iteration 3 nothing is begun; stopped there, too."""
    bound = OVERLAPPED | {"pipeline.most_gap": "1e-9", "pipeline.least_ess": "0.01", "eval.every": "0"}
    bound |= {"learner.schedule": "constant"}  # or it could not be stopped sooner
    with verdicts_only_when_all_wait_for_them():
        whole = run(tmp_path / "whole", **bound)
        for last in ("2", "4"):
            stopped = run(tmp_path / "stopped", **bound | {"iterations": last})
    for workdir, within, stale in ((whole, [1, 0, 0, 1], [2, 3]), (stopped, [1, 0, 1, 1], [2])):
        played = rows(workdir)
        assert [row["pipeline/within_bound"] for row in played] == within
        assert [row["iteration"] for row in played if row.get("learner/staleness/1/share")] == stale


def loaded(workdir):
    return configs.resolve(configs.from_json((workdir / "config.json").read_text()))


def test_what_is_no_schedule_of_such_a_run_is_named_in_one_line(tmp_path):
    (tmp_path / "later.jsonl").write_text('{"iteration": 4, "begun_after": 3, "rounds": [[]]}\n')
    (tmp_path / "none.jsonl").write_text("{}\n")
    for name, said in (("later", "was started after iteration 0"), ("none", "is no schedule")):
        with pytest.raises(ConfigError, match=said):
            run(tmp_path / name, **OVERLAPPED, **{"pipeline.follow": str(tmp_path / f"{name}.jsonl")})


def start(shared, workdir) -> subprocess.Popen:
    flags = [f"--config.{name}={value}" for name, value in (SMALL | OVERLAPPED | {"iterations": "8"}).items()]
    command = [sys.executable, "-c", textwrap.dedent(TELLING), "--config=configs/nano.py", *flags]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT, env=environment(shared), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_killed_in_every_phase_it_goes_on_and_its_buffers_are_whole(tmp_path):
    """What was in flight is played again: what a kill costs is at most the iterations begun before their turn."""
    chance = random.Random(0)
    for stage, times in (("play", 2), ("round", 30), ("update", 2), ("weights", 3), ("save", 2), ("evaluate", 1)):
        process = start(tmp_path, tmp_path / "run")
        for _ in range(times):
            wait_for(process, f"stage {stage}.")
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    process = start(tmp_path, tmp_path / "run")
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0 and "finished after iteration 8 of 8" in output, output
    assert re.search(r"resumed after iteration \d", output)
    assert [row["iteration"] for row in rows(tmp_path / "run") if row["iteration"]] == list(range(1, 9))
    schedule = [json.loads(line) for line in (tmp_path / "run/schedule.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in schedule] == list(range(1, 9)) and len(
        {s["begun_after"] for s in schedule}
    ) > 1
    check_buffers(tmp_path / "run")


def test_no_field_is_without_a_test():
    assert {field for field in RULES if field.startswith("pipeline.")} == TURNED
