"""Whole runs whose bucket fails at every tenth request, each time in one way: what they lose, how long they take."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from azr_jax.storage.bucket import Bucket
from azr_jax.storage.mirror import Mirror
from tests.run import test_whole_loop as loop
from tests.storage.conftest import client, new_bucket
from tests.storage.proxy import Fault, Proxy
from tests.storage.test_whole_run import start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FAULTS = {
    "none": None,
    "429": Fault("status", 429),
    "503": Fault("status", 503),
    "cut": Fault("cut"),
    "lost": Fault("lost"),
    "slow": Fault("slow", 1.0),
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that has no bucket; beside it lie what all runs share."""
    folder = tmp_path_factory.mktemp("shared")
    code, output = loop.finish(folder, folder / "disk")
    assert code == 0, output
    return folder / "disk"


def bucket_behind(proxy: Proxy) -> Bucket:
    return Bucket(f"gs://{new_bucket(proxy.upstream)}/run", client(proxy.upstream))


def check_same(bucket: Bucket, disk: Path, folder: Path) -> None:
    Mirror(bucket, folder=folder).pull()
    assert loop.files_that_must_repeat(folder) == loop.files_that_must_repeat(disk)


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_whose_bucket_often_fails_loses_no_iteration(proxy: Proxy, disk: Path, tmp_path: Path, name: str):
    bucket, requests, struck, fault = bucket_behind(proxy), itertools.count(1), itertools.count(), FAULTS[name]

    def look(method: str, path: str) -> None:
        if next(requests) % 10 == 0 and fault:
            next(struck)
            proxy.spoil(fault, method=method, path=path)

    proxy.look, began = look, time.monotonic()
    process = start(proxy.url, disk.parent, bucket.url)
    output, _ = process.communicate(timeout=600)
    seconds = time.monotonic() - began
    assert process.returncode == 0 and "finished after iteration 3 of 3" in output, output
    check_same(bucket, disk, tmp_path / "bucket")
    assert bucket.exists("checkpoints/3/commit_success.txt")
    print(f"| {name} | {next(struck)} of {next(requests) - 1} | 0 | {seconds:.0f} |")


def test_a_bucket_that_no_longer_permits_ends_the_run_and_it_goes_on_later(proxy: Proxy, disk: Path, tmp_path: Path):
    """With code 2: waiting would not help."""
    bucket = bucket_behind(proxy)
    process = start(proxy.url, disk.parent, bucket.url)
    while not bucket.exists("checkpoints/1/commit_success.txt"):
        assert process.poll() is None
        time.sleep(0.05)
    rule = proxy.spoil(Fault("status", 403, "x@y.com does not have access"), times=10_000, path="/run/")
    rules = [rule, proxy.spoil(Fault("status", 403, "x@y.com does not have access"), times=10_000, method="POST")]
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2, output
    line = output.splitlines()[-1]  # Orbax may have said its own before, where it was in the middle of a save
    assert line.startswith("error: gs://") and "not permitted (x@y.com does not have access)" in line
    for rule in rules:
        rule.times = 0
    process = start(proxy.url, disk.parent, bucket.url)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "resumed after iteration" in output, output
    check_same(bucket, disk, tmp_path / "bucket")


def test_arrays_that_may_not_be_written_end_the_run_in_one_line(proxy: Proxy, disk: Path, tmp_path: Path):
    """Where nothing else is refused. It was exit code 1, with eight tracebacks, most of them of Orbax."""
    bucket, where = bucket_behind(proxy), "uploadType=media&name=run/checkpoints/2/"
    rule = proxy.spoil(Fault("status", 403, "x@y.com has no access"), times=10_000, method="POST", path=where)
    process = start(proxy.url, disk.parent, bucket.url)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2 and "Traceback" not in output, output
    line = output.splitlines()[-1]
    assert line.startswith(f"error: {bucket.url}/checkpoints: write a checkpoint: not permitted"), line
    rule.times = 0
    process = start(proxy.url, disk.parent, bucket.url)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "resumed after iteration 1" in output, output
    check_same(bucket, disk, tmp_path / "bucket")
