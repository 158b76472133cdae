"""Exact resume: a run killed twenty times, in seeding, sampling, update and while saving, ends as if never killed."""

import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pytest

from tests.run.test_whole_loop import ROOT, TINY, environment, files_that_must_repeat, same, wait_for, weights

ITERATIONS = 20  # a killed start gets at most two iterations further, and twelve of the twenty get anywhere at all
# The program itself, but that it says on standard output which stage it enters.
TELLING = """
    import contextlib, runpy
    from azr_jax.run.stage_deadlines import Watch
    stage = Watch.stage

    @contextlib.contextmanager
    def told(self, name):
        print(f"stage {name}.", flush=True)
        with stage(self, name):
            yield

    Watch.stage = told
    runpy.run_module("azr_jax.main", run_name="__main__", alter_sys=True)
"""


# It seeds only at first. Who gets to its second update or save has left a checkpoint of the iteration before.
MOMENTS = [("seed", 1)] * 4 + [("play", 1), ("update", 2), ("save", 1), ("save", 2)] * 4


def start(shared, workdir, *flags: str, **where: str) -> subprocess.Popen:
    flags = [*TINY, f"--config.iterations={ITERATIONS}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TELLING), *flags],
        cwd=ROOT, env=environment(shared) | where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(shared, workdir, *flags: str, **where: str) -> str:
    process = start(shared, workdir, *flags, **where)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def kill_in(process: subprocess.Popen, stage: str, times: int, after_s: float) -> None:
    """Some moment after it has entered the stage so many times."""
    for _ in range(times):
        wait_for(process, f"stage {stage}.")
    time.sleep(after_s)
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_nothing(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(tmp_path, whole)
    random, found = np.random.default_rng(0), Counter()
    for stage, times in MOMENTS:
        kill_in(start(tmp_path, killed), stage, times, random.uniform(0.0, 0.4))
        found[stage] += 1
        folder = killed / "checkpoints"
        found["half a checkpoint left"] += folder.is_dir() and any("tmp" in path.name for path in folder.iterdir())
    output = finish(tmp_path, killed)
    resumed = re.findall(r"resumed after iteration (\d+)", output)
    print(dict(found), "the last start resumed after iteration", *resumed)
    assert resumed and f"finished after iteration {ITERATIONS} of" in output
    assert files_that_must_repeat(killed) == files_that_must_repeat(whole)
    assert same(weights(tmp_path, killed), weights(tmp_path, whole))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_that_goes_away_loses_only_what_was_being_sampled(tmp_path):
    flags = ["--config.iterations=4", "--config.checkpoint.every=10"]
    whole, preempted = tmp_path / "whole", tmp_path / "preempted"
    finish(tmp_path, whole, *flags)
    process = start(tmp_path, preempted, *flags)
    for _ in range(3):
        wait_for(process, "stage play.")
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped after iteration 2 of 4" in rest, rest
    output = finish(tmp_path, preempted, *flags)
    assert "resumed after iteration 2" in output, "no checkpoint was due before iteration 10: SIGTERM made one"
    assert files_that_must_repeat(preempted) == files_that_must_repeat(whole)
    assert same(weights(tmp_path, preempted), weights(tmp_path, whole))
