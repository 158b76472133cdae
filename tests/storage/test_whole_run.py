"""The whole program with its workdir in a bucket: the same bytes as on a disk, through kills, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from azr_jax.storage.mirror import Mirror
from tests.run import test_whole_loop as loop
from tests.storage.conftest import bucket_at

pytestmark = pytest.mark.slow


def start(server: str, shared: Path, workdir: str, *flags: str) -> subprocess.Popen:
    where = {"STORAGE_EMULATOR_HOST": server, "TENSORSTORE_GCS_HTTP_URL": server}
    command = [sys.executable, "-m", "azr_jax.main", *loop.TINY, f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command,
        cwd=loop.ROOT,
        env=loop.environment(shared) | where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_in_a_bucket_is_killed_goes_on_and_leaves_what_a_run_on_disk_leaves(server: str, tmp_path: Path):
    code, output = loop.finish(tmp_path, tmp_path / "disk")
    assert code == 0, output
    bucket = bucket_at(server)
    url = bucket.url
    killed = start(server, tmp_path, url)
    said = loop.wait_for(killed, "iteration 2/")
    while not bucket.exists("checkpoints/1/commit_success.txt"):
        assert killed.poll() is None, said
    killed.kill()
    killed.communicate()
    process = start(server, tmp_path, url)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said + output
    assert "resumed after iteration" in output
    Mirror(bucket, folder=tmp_path / "bucket").pull()
    assert loop.files_that_must_repeat(tmp_path / "bucket") == loop.files_that_must_repeat(tmp_path / "disk")


def test_a_run_that_is_preempted_saves_and_one_that_lost_its_workdir_writes_nothing(fake_gcs: str, tmp_path: Path):
    """Exit codes: 0 after SIGTERM, as on a disk, and 2 for who is no owner any more: it must not be started again."""
    bucket = bucket_at(fake_gcs)
    url = bucket.url
    preempted = start(fake_gcs, tmp_path, url, "--config.iterations=50")
    loop.wait_for(preempted, "iteration 1/")
    preempted.send_signal(signal.SIGTERM)
    output, _ = preempted.communicate(timeout=240)
    assert preempted.returncode == 0 and "stopped after iteration" in output, output
    assert bucket.exists("checkpoints/1/commit_success.txt")
    lost = start(fake_gcs, tmp_path, url, "--config.iterations=50")
    said = loop.wait_for(lost, "resumed after iteration")
    bucket.write("owner.json", json.dumps({"token": "x", "process": 7, "host": "far-away", "term": 9}).encode())
    before = {each.name for each in bucket.list("metrics.jsonl/")[0]}
    output, _ = lost.communicate(timeout=240)
    assert lost.returncode == 2, said + output
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert f"--workdir={url}: process 7 on far-away" in line and "has taken this run over" in line
    assert {each.name for each in bucket.list("metrics.jsonl/")[0]} == before


def test_one_that_lost_its_workdir_and_is_preempted_saves_nothing(fake_gcs: str, tmp_path: Path):
    """Asleep for a minute and then taken away: its checkpoint went into the run of who had taken over."""
    bucket = bucket_at(fake_gcs)
    lost = start(fake_gcs, tmp_path, bucket.url, "--config.iterations=50", "--config.checkpoint.every=50")
    while not bucket.list("records.jsonl/")[0]:
        assert lost.poll() is None
    lost.send_signal(signal.SIGSTOP)
    bucket.write("owner.json", json.dumps({"token": "x", "process": 7, "host": "far-away", "term": 9}).encode())
    lost.send_signal(signal.SIGTERM)
    lost.send_signal(signal.SIGCONT)
    output, _ = lost.communicate(timeout=240)
    assert lost.returncode == 2 and "has taken this run over" in output, output
    assert bucket.list("checkpoints/") == ([], [])


def test_what_cannot_be_a_workdir_is_one_line(server: str, tmp_path: Path):
    for workdir, words in (
        ("gs://no-such-bucket/run", "there is no such bucket"),
        ("s3://bucket/run", "should be a folder, or gs://<bucket>/<folder>"),
    ):
        process = start(server, tmp_path, workdir)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2, output
        (line,) = [line for line in output.splitlines() if line.startswith("error:")]
        assert f"--workdir={workdir}: " in line and words in line
