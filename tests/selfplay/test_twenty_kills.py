"""Exact resume: a run killed twenty times, in seeding, sampling, update and while saving, ends as if never killed."""

import re
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import pytest

from tests.selfplay.test_whole_loop import ROOT, TINY, environment, files_that_must_repeat, same, wait_for, weights

ITERATIONS = 20  # a killed start gets at most two iterations further, and twelve of the twenty get anywhere at all
# The program itself, but that it says on standard output which stage it enters.
TELLING = """
    import contextlib, runpy
    from azr_jax.selfplay.watching import Watch
    stage = Watch.stage

    @contextlib.contextmanager
    def told(self, name):
        print(f"stage {name}.", flush=True)
        with stage(self, name):
            yield

    Watch.stage = told
    runpy.run_module("azr_jax.main", run_name="__main__", alter_sys=True)
"""


def start(shared, workdir) -> subprocess.Popen:
    flags = [*TINY, f"--config.iterations={ITERATIONS}", f"--workdir={workdir}"]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TELLING), *flags],
        cwd=ROOT, env=environment(shared), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(shared, workdir) -> str:
    process = start(shared, workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_nothing(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(tmp_path, whole)
    random, found = np.random.default_rng(0), Counter()
    # It seeds only at first. Who gets to its second update or save has left a checkpoint of the iteration before.
    moments = [("seed", 1)] * 4 + [("play", 1), ("update", 2), ("save", 1), ("save", 2)] * 4
    for stage, times in moments:
        process = start(tmp_path, killed)
        for _ in range(times):
            wait_for(process, f"stage {stage}.")
        time.sleep(random.uniform(0.0, 0.4))
        process.kill()
        process.wait()
        process.stdout.close()
        found[stage] += 1
        folder = killed / "checkpoints"
        found["half a checkpoint left"] += folder.is_dir() and any("tmp" in path.name for path in folder.iterdir())
    output = finish(tmp_path, killed)
    resumed = re.findall(r"resumed after iteration (\d+)", output)
    print(dict(found), "the last start resumed after iteration", *resumed)
    assert resumed and f"finished after iteration {ITERATIONS} of" in output
    assert files_that_must_repeat(killed) == files_that_must_repeat(whole)
    assert same(weights(tmp_path, killed), weights(tmp_path, whole))
