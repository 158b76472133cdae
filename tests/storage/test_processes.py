"""Two real processes of one run with its workdir in a bucket: the same bytes as on a disk, through a kill of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from azr_jax.models.random_folder import write_random_folder
from azr_jax.models.spec import PRESETS
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.mirror import Mirror
from tests.run import test_on_processes as processes
from tests.run.test_whole_loop import files_that_must_repeat, wait_for
from tests.storage.conftest import NUMBERS, client, make_bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def none_outlives():
    yield
    for process in processes.STARTED:
        process.kill()


def test_two_processes_in_one_bucket_leave_what_they_leave_on_a_disk(fake_gcs: str, tmp_path: Path):
    """Each has its own folder, shards and log; the first one owns the bucket."""
    write_random_folder(PRESETS["tiny"], tmp_path / "cache/azr_jax/models/random-tiny")  # one process alone can
    disk = processes.finish(tmp_path, tmp_path / "disk", 2)
    name = f"processes-{os.getpid()}-{next(NUMBERS)}"
    make_bucket(fake_gcs, name)
    url, where = f"gs://{name}/run", {"STORAGE_EMULATOR_HOST": fake_gcs, "TENSORSTORE_GCS_HTTP_URL": fake_gcs}
    run = processes.start(tmp_path, url, 2, where=where)
    said = wait_for(run[0], "iteration 1/3:")
    for process in run:
        process.kill()
        process.communicate()
    done = processes.ends(processes.start(tmp_path, url, 2, where=where))
    assert [code for code, _ in done] == [0, 0], (said, done)
    assert "finished after iteration 3 of 3" in done[0][1]
    bucket = Bucket(url, client(fake_gcs))
    Mirror(bucket, folder=tmp_path / "bucket").pull()
    assert files_that_must_repeat(tmp_path / "bucket") == files_that_must_repeat(disk)
    logs = {each.name.partition(".log")[0] for each in bucket.list("logs/")[0]}
    assert logs <= {"logs/process_0", "logs/process_1"}
