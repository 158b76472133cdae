"""Runs side by side and their table, with runs that were made up by hand."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from azr_jax.config import flags
from azr_jax.nano import ablate, runs, variants
from azr_jax.nano.runs import Plan, read_curve, run_all


def write_run(workdir, *, first, last, valid=(0.5, 0.75), kinds=runs.KINDS):
    workdir.mkdir(parents=True)
    copies = {"propose/deduction/duplicate_rate": 0.25, "propose/abduction/duplicate_rate": 0.05}
    rows = [{"iteration": 0} | {f"eval/nano/{kind}/accuracy": first for kind in kinds}]
    rows += [{"iteration": n, "propose/valid_rate": valid[n > 10]} | copies for n in range(1, 21)]
    rows[-1] |= {f"eval/nano/{kind}/accuracy": last for kind in kinds}
    (workdir / "config.json").write_text('{"iterations": 20}')
    times = [{"iteration": n, "time/play": 2.0, "time/update": 1.0} for n in range(1, 21)]
    for name, lines in (("metrics", rows), ("timings", times)):
        (workdir / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_curve_is_read_from_first_to_last_measurement(tmp_path):
    write_run(tmp_path / "run", first=0.25, last=0.5)
    curve = read_curve(tmp_path / "run")
    assert curve.gain == {"deduction": 0.25, "abduction": 0.25, "induction": 0.25}
    assert (curve.new_first, curve.new_last) == pytest.approx((0.35, 0.6))
    assert (curve.valid_first, curve.valid_last, curve.seconds_per_iteration, curve.iterations) == (0.5, 0.75, 3.0, 20)


def test_a_run_without_two_measurements_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "propose/valid_rate": 0.5}\n')
    (tmp_path / "timings.jsonl").write_text('{"iteration": 1, "time/play": 1, "time/update": 1}\n')
    with pytest.raises(ValueError, match="0 held-out measurements"):
        read_curve(tmp_path)


def test_the_table_pairs_seeds_with_the_full_run(tmp_path):
    gains = {"full": (0.30, 0.34), "solver_only": (0.20, 0.26)}
    curves = {}
    for name, lasts in gains.items():
        for seed, last in enumerate(lasts):
            write_run(tmp_path / f"{name}-{seed}", first=0.10, last=last)
        curves[name] = [read_curve(tmp_path / f"{name}-{seed}") for seed in range(2)]
    lines = ablate.table(curves).splitlines()
    # gains 20 and 24 points: mean 22, error 2; against full -10 and -8: mean -9, error 1
    assert lines[2].startswith("| full | +22.0 ± 2.0 |")
    assert "| -9.0 ± 1.0 |" in lines[3] and "| 50 -> 75 % | 35 -> 60 % |" in lines[3]
    # Student's t with one degree of freedom at t = 22/2: 2/pi * atan(1/11) = 0.0577
    assert "| 0.0577 |" in lines[2]


def test_one_seed_has_no_standard_error(tmp_path):
    curves = {}
    for name, last in (("full", 0.3), ("solver_only", 0.2)):
        write_run(tmp_path / name, first=0.10, last=last)
        curves[name] = [read_curve(tmp_path / name)]
    full, other = ablate.table(curves).splitlines()[2:]
    assert full.startswith("| full | +20.0 |") and "nan" not in full
    assert "| -10.0 |" in other and "nan" not in other


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_is_a_valid_config_and_another_one(name):
    fields = variants.VARIANTS[name]
    changed, problems = flags.load("configs/nano.py", fields)
    # From the recipe, or from what stale tokens fill in where nothing is said.
    stale = {field: value for field, value in fields.items() if field.startswith("pipeline.")}
    plain = [flags.load("configs/nano.py", beside)[0] for beside in ({}, stale)]
    differs = {field for other in plain for field, *_ in flags.diff(changed, other)}
    assert problems == [] and differs >= set(fields)


def test_variants_are_named_one_by_one_or_by_group():
    names = variants.chosen(["frontier", "old", "full", "frontier"])
    assert names == ["frontier", *variants.GROUPS["old"], "full"]
    assert sum(map(len, variants.GROUPS.values())) == len(variants.VARIANTS), "no name in two groups"
    with pytest.raises(KeyError, match="frontear"):
        variants.chosen(["full", "frontear"])


class Scripted(Plan):
    def command(self):
        return [sys.executable, "-c", self.fields["code"]]


def test_runs_end_in_turn_and_a_failure_names_the_run_and_stops_the_others(tmp_path):
    write_run(tmp_path / "good-0", first=0.1, last=0.2)
    told = []
    run_all([Scripted("good", 0, {"code": "pass"}, tmp_path / "good-0")], side_by_side=2, tell=told.append)
    assert told[0].startswith("1/1 good, seed 0: deduction 10.0 -> 20.0 %")
    assert {file.name for file in (tmp_path / "good-0").iterdir()} == {"config.json", "metrics.jsonl", "timings.jsonl"}
    slow = Scripted("slow", 0, {"code": "import time; time.sleep(60)"}, tmp_path / "slow-0")
    bad = Scripted("bad", 1, {"code": "raise SystemExit('no such field')"}, tmp_path / "bad-1")
    with pytest.raises(RuntimeError, match=r"bad, seed 1: exit 1\nno such field"):
        run_all([slow, bad], side_by_side=2, tell=told.append)


class Passing(Plan):
    def command(self):
        return [sys.executable, "-c", "pass"]


def test_a_finished_run_is_not_started_again_and_one_of_another_seed_is(tmp_path):
    fields = {"iterations": "20"}
    plans = [Passing("done", 0, fields, tmp_path / "done-0"), Passing("other", 1, fields, tmp_path / "other-1")]
    config, _ = flags.load(str(runs.ROOT / runs.RECIPE), {"seed": "0", **fields})
    for plan in plans:
        write_run(plan.workdir, first=0.1, last=0.2)
        (plan.workdir / "config.json").write_text(flags.to_json(config))
    said = []
    run_all(plans, side_by_side=1, tell=said.append)
    assert [line.partition(",")[0] for line in said] == ["2/2 other"]


def test_who_is_told_to_end_leaves_no_run_behind(tmp_path):
    slow = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"import os; os.chdir({str(tmp_path)!r}); {slow}"
    before = signal.getsignal(signal.SIGTERM)

    def end():
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_all([Scripted("slow", 0, {"code": code}, tmp_path / "slow-0")], side_by_side=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_was_asked_to_stop_does_not_count_as_finished(tmp_path):
    write_run(tmp_path / "cut-0", first=0.1, last=0.2)
    (tmp_path / "cut-0" / "config.json").write_text('{"iterations": 30}')
    with pytest.raises(RuntimeError, match="cut, seed 0: stopped after iteration 20 of 30"):
        run_all([Scripted("cut", 0, {"code": "pass"}, tmp_path / "cut-0")], side_by_side=1)
