"""A run in a bucket that is killed twenty times leaves there what a run on a disk leaves that never was."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from azr_jax.storage.mirror import Mirror
from tests.run.test_twenty_kills import ITERATIONS, MOMENTS, finish, kill_in, start
from tests.run.test_whole_loop import ROOT, environment, files_that_must_repeat, same, weights
from tests.storage.conftest import bucket_at


def exported(shared: Path, url: str, out: Path, where: dict[str, str]) -> dict[str, np.ndarray]:
    command = [sys.executable, "-m", "azr_jax.export", f"--workdir={url}", f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(shared) | where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(out / "model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_in_a_bucket_change_nothing(server: str, tmp_path: Path):
    whole = tmp_path / "whole"
    finish(tmp_path, whole)
    bucket = bucket_at(server)
    url = bucket.url
    where = {"STORAGE_EMULATOR_HOST": server, "TENSORSTORE_GCS_HTTP_URL": server}
    random, found = np.random.default_rng(0), Counter[str]()
    for stage, times in MOMENTS:
        kill_in(start(tmp_path, url, **where), stage, times, random.uniform(0.0, 0.4))
        found[stage] += 1
        objects = {each.name for each in bucket.list("checkpoints/")[0]}
        begun = {each.split("/")[1] for each in objects}
        found["half a checkpoint left"] += any(f"checkpoints/{n}/commit_success.txt" not in objects for n in begun)
    output = finish(tmp_path, url, **where)
    resumed = re.findall(r"resumed after iteration (\d+)", output)
    print(dict(found), "the last start resumed after iteration", *resumed)
    assert resumed and f"finished after iteration {ITERATIONS} of" in output
    Mirror(bucket, folder=tmp_path / "bucket").pull()
    assert files_that_must_repeat(tmp_path / "bucket") == files_that_must_repeat(whole)
    assert same(exported(tmp_path, url, tmp_path / "hf", where), weights(tmp_path, whole))
