"""One owner of a workdir in a bucket: who comes second is told who is first, and who was away too long stops."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import Changed
from azr_jax.storage.lease import NAME, BucketLease, Taken
from azr_jax.storage.mirror import Mirror
from azr_jax.storage.spans import SpanFile, files_in
from tests.storage.conftest import bucket_at, client
from tests.storage.proxy import Fault, Proxy

SOON = {"alive_every_s": 0.1, "dead_after_s": 1.0}


def on_another_machine(bucket: Bucket) -> None:
    """As if the owner that stands there were of a machine that this one cannot look into."""
    owner = json.loads(bucket.read(NAME)) | {"machine": "another", "host": "far-away"}
    bucket.write(NAME, json.dumps(owner).encode())


def test_a_second_start_is_told_who_is_there_and_the_owner_notices_nothing(fake_gcs: str):
    bucket = bucket_at(fake_gcs)
    with BucketLease(bucket, **SOON) as first:
        with pytest.raises(Taken, match=r"--workdir=gs://\S+: process \d+ on \S+ \(since .*\) is running in it"):
            BucketLease(bucket, **SOON)
        first.check()
    with BucketLease(bucket, **SOON) as second:
        second.check()
        assert (first.term, second.term) == (1, 2)


def test_a_process_of_this_machine_that_was_killed_is_followed_at_once(fake_gcs: str):
    bucket = bucket_at(fake_gcs)
    code = (
        "import os, sys; from tests.storage.conftest import client; from azr_jax.storage.bucket import Bucket;"
        "from azr_jax.storage.lease import BucketLease;"
        f"BucketLease(Bucket({bucket.url!r}, client({fake_gcs!r}))); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    began = time.monotonic()
    with BucketLease(bucket) as lease:  # with the waits as they are
        assert lease.term == 2
    assert time.monotonic() - began < 5


def test_an_owner_elsewhere_is_dead_after_its_time_by_the_clock_of_who_waits(fake_gcs: str):
    """What it wrote of the time says nothing: its clock may be an hour off."""
    bucket = bucket_at(fake_gcs)
    bucket.write(
        NAME, json.dumps({"process": 1, "host": "far-away", "token": "x", "since": "2030", "term": 7}).encode()
    )
    began = time.monotonic()
    with BucketLease(bucket, alive_every_s=0.1, dead_after_s=0.5) as lease:
        assert lease.term == 8
    assert 0.5 <= time.monotonic() - began < 5


def test_who_was_stopped_too_long_does_not_write_again(fake_gcs: str):
    bucket = bucket_at(fake_gcs)
    asleep = BucketLease(bucket, alive_every_s=3600)
    on_another_machine(bucket)
    with BucketLease(Bucket(bucket.url, client(fake_gcs)), alive_every_s=0.1, dead_after_s=0.3) as awake:
        with pytest.raises(Taken, match="has taken this run over"):
            asleep.check()
        asleep.release()  # leaves the other one's as it is
        awake.check()


def test_of_two_that_take_over_at_once_one_gets_it(fake_gcs: str, monkeypatch):
    bucket = bucket_at(fake_gcs)
    write = Bucket.write

    def first_another(self: Bucket, name: str, data: bytes, *, generation: int | None = None) -> int:
        monkeypatch.setattr(Bucket, "write", write)
        write(self, name, json.dumps({"process": 9, "host": "faster", "token": "y", "since": "now"}).encode())
        return write(self, name, data, generation=generation)

    monkeypatch.setattr(Bucket, "write", first_another)
    with pytest.raises(Taken, match="process 9 on faster"):
        BucketLease(bucket, **SOON)
    with pytest.raises(Changed):
        bucket.write(NAME, b"", generation=0)


@pytest.mark.parametrize("left", [None, b"", b"{}", b'{"term": "x"}', b"\xff"])
def test_who_comes_after_an_object_that_was_deleted_or_damaged_by_hand_loses_nothing(
    fake_gcs: str, tmp_path: Path, left: bytes | None
):
    """Terms began at 1 again, and what was written from then on was passed over: the run could not go on."""
    bucket = bucket_at(fake_gcs)
    SpanFile(bucket, "metrics.jsonl", 4).append(b"1")
    if left is not None:
        bucket.write(NAME, left)
    with BucketLease(bucket, **SOON) as lease:
        assert lease.term == 5
        SpanFile(bucket, "metrics.jsonl", lease.term, files_in(bucket.list()[0])["metrics.jsonl"]).append(b"2")
    Mirror(bucket, folder=tmp_path).pull()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"12"


def test_an_owner_whose_sign_of_life_got_no_answer_goes_on_giving_them(proxy: Proxy):
    """It met its own writing, took it for another's, and was silent from then on: whoever came had the workdir."""
    bucket = bucket_at(proxy.url, patience_s=0.0)
    with BucketLease(bucket, alive_every_s=0.05) as lease:
        proxy.spoil(Fault("lost"), method="POST")
        until = time.monotonic() + 5
        while json.loads(bucket.read(NAME)).get("signs_of_life", 0) < 10 and time.monotonic() < until:
            time.sleep(0.05)
        assert json.loads(bucket.read(NAME))["signs_of_life"] >= 10
        lease.check()
