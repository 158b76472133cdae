"""Every command with a bucket: a run lives there, is looked at, evaluated, exported, forked and learned from."""

from __future__ import annotations

import http.client
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from azr_jax.storage.bucket import Bucket
from azr_jax.storage.spans import SpanFile, files_in
from tests.run import test_whole_loop as loop
from tests.storage.conftest import client, new_bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
DATA = Path(os.environ.get("AZR_DATA", loop.ROOT.parent / "shared" / "data"))


class Place:
    """A server's bucket, and the commands that are told of it."""

    def __init__(self, server: str, shared: Path):
        self.server, self.shared, self.name = server, shared, new_bucket(server)

    def url(self, path: str) -> str:
        return f"gs://{self.name}/{path}"

    def at(self, path: str) -> Bucket:
        return Bucket(self.url(path), client(self.server))

    def start(self, module: str, *flags: str) -> subprocess.Popen:
        where = {"STORAGE_EMULATOR_HOST": self.server, "TENSORSTORE_GCS_HTTP_URL": self.server}
        return subprocess.Popen(
            [sys.executable, "-m", f"azr_jax.{module}", *flags],
            cwd=loop.ROOT,
            env=loop.environment(self.shared) | where,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, module: str, *flags: str, code: int = 0) -> str:
        process = self.start(module, *flags)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, out + err
        return out if code == 0 else err


@pytest.fixture(scope="module")
def place(fake_gcs: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(fake_gcs, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def run(place: Place) -> str:
    """Two iterations, with TensorBoard's events."""
    url = place.url("runs/first")
    place("main", *loop.TINY, f"--workdir={url}", "--config.iterations=2", "--config.monitor.sinks=tensorboard")
    return url


@pytest.fixture(scope="module")
def model(place: Place, run: str) -> str:
    """Its export, in the bucket."""
    url = place.url("models/first")
    assert place("export", f"--workdir={run}", f"--out={url}") == f"{url}: 0.00 GB\n"
    return url


def test_the_report_is_handed_back(place: Place, run: str):
    place.at("runs/first").delete(["report.html"])
    assert place("report", f"--workdir={run}").startswith(f"{run}/report.html: ")
    assert place.at("runs/first").stat("report.html").size > 10_000


def test_a_live_page_follows_the_bucket(place: Place, run: str):
    process = place.start("report", "--live", run, "--port=0")
    assert process.stdout is not None
    said = process.stdout.readline()
    port = int(re.search(r" at http://127\.0\.0\.1:(\d+)/ ", said)[1])

    def get(path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    before, page = get("/version"), get("/")
    assert '"iterations":[0,1,2]' in page
    bucket = place.at("runs/first")
    spans = files_in(bucket.list()[0])["metrics.jsonl"]
    SpanFile(bucket, "metrics.jsonl", 1, spans).append(b'{"iteration": 3, "learner/entropy": 1.0}\n')
    try:
        for _ in range(60):  # the bucket is asked every three seconds
            if get("/version") != before:
                break
            time.sleep(0.5)
        assert '"iterations":[0,1,2,3]' in get("/")
    finally:
        SpanFile(bucket, "metrics.jsonl", 1, files_in(bucket.list()[0])["metrics.jsonl"]).cut(spans[-1].end)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "\nended; the run goes on\n", "")


def test_every_object_of_tensorboard_is_a_file_of_events(place: Place, run: str):
    objects = place.at("runs/first").list("tensorboard/")[0]
    assert len(objects) >= 2, "one for each iteration"
    for each in objects:
        assert "tfevents" in each.name.rpartition("/")[2]
        data, at = place.at("runs/first").read(each.name), 0
        while at < len(data):  # length, checksum, record, checksum
            (length,) = struct.unpack_from("<Q", data, at)
            at += 8 + 4 + length + 4
        assert at == len(data), "a record is cut"


def test_an_export_goes_there_and_is_the_one_on_disk(place: Place, run: str, model: str, tmp_path: Path):
    place("export", f"--workdir={run}", f"--out={tmp_path / 'hf'}")
    names = {each.name for each in place.at("models/first").list()[0]}
    assert names == {path.name for path in (tmp_path / "hf").iterdir()}
    for name in names:
        assert place.at("models/first").read(name) == (tmp_path / "hf" / name).read_bytes()
    again = ["export", f"--workdir={run}", f"--out={model}"]
    assert place(*again, code=2) == f"--out={model}: is not empty: give another folder, or --overwrite\n"
    place(*again, "--overwrite", "--dtype=bfloat16")
    assert {each.name for each in place.at("models/first").list()[0]} == names
    taken = place("export", f"--workdir={run}", f"--out={place.url('runs')}", "--overwrite", code=2)
    assert "holds no config.json, so it is no model to overwrite" in taken and taken.count("\n") == 1
    place(*again, "--overwrite")


def test_a_damaged_checkpoint_there_is_named(place: Place, run: str, tmp_path: Path):
    """And no traceback of what Orbax had begun to read of its other arrays."""
    source, damaged = place.at("runs/first"), place.at("runs/damaged")
    for each in source.list()[0]:
        if not (each.name.startswith("checkpoints/1/") or "params/layers.up.value/0" in each.name):
            damaged.write(each.name, source.read(each.name) or b"")
    damaged.write("checkpoints/2/params/layers.up.value/0.0.0", b"nothing")
    export = ["export", f"--workdir={damaged.url}", f"--out={tmp_path / 'out'}"]
    for _ in range(3):  # who reads first is another one each time
        said = place(*export, code=2)
        assert "Traceback" not in said and said.endswith("\n"), said
        assert "every checkpoint asked for is damaged: 2 (" in said.splitlines()[-1], said
        assert "params/layers.up.value/0.0.0" in said.splitlines()[-1], said


def test_a_run_and_a_model_are_evaluated_there_and_results_go_on(place: Place, run: str, model: str):
    if not (DATA / "cruxeval_public.jsonl.gz").exists():
        pytest.skip(f"no benchmarks in {DATA}: set AZR_DATA")
    how = ["--suite=cruxeval_o", "--limit=2", "--style=completion", f"--data_dir={DATA}", "--max_new_tokens=8"]
    how += ["--dtype=float32", f"--out={place.url('evals')}"]
    said = place("evaluate", f"--model={run}@2", *how)
    assert f"{run}@2: 2 rows, 0 of them done already; results in {place.url('evals/runs_first@2')}" in said
    assert "2 rows, 2 of them done already" in place("evaluate", f"--model={run}", *how)
    assert "2 rows, 0 of them done already" in place("evaluate", f"--model={model}", *how)
    found = files_in(place.at("evals").list("runs_first@2")[0])
    (lines,) = [spans for name, spans in found.items() if name.endswith("cruxeval_o.0of1.jsonl")]
    assert lines[-1].end > 0
    again = place("evaluate", f"--model={run}@7", *how, code=2)
    assert again == f"error: --model={run}@7: there is no checkpoint 7, but 1, 2\n"


def test_a_model_comes_once_and_again_where_it_has_changed(place: Place, model: str, tmp_path: Path):
    cache = place.shared / "cache/azr_jax/buckets"
    flags = [*loop.TINY, f"--config.model.name={model}", "--config.iterations=1"]
    place("main", *flags, f"--workdir={tmp_path / 'one'}")
    (copy,) = [each for each in cache.iterdir() if "models_first-" in each.name]
    before = (copy / "model.safetensors").stat()
    assert np.isfinite(load_file(copy / "model.safetensors")["model.norm.weight"]).all()
    bucket = place.at("models/first")
    bucket.write("config.json", (bucket.read("config.json") or b"").replace(b"{", b'{"x": 1, ', 1))
    assert "finished after iteration 1" in place("main", *flags, f"--workdir={tmp_path / 'two'}")
    assert '"x": 1' in (copy / "config.json").read_text()
    assert (copy / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_a_fork_takes_weights_and_tasks_from_the_bucket(place: Place, run: str):
    url = place.url("runs/second")
    said = place("main", *loop.TINY, f"--workdir={url}", f"--fork_from={run}", "--config.iterations=1")
    assert f"forked from {run}: its latest weights and tasks" in said
    before = files_in(place.at("runs/first").list("buffers/")[0])
    after = files_in(place.at("runs/second").list("buffers/")[0])
    assert before.keys() == after.keys()
    assert all(after[name][-1].end >= before[name][-1].end for name in before)


def test_what_cannot_be_read_there_is_one_line(place: Place, run: str, tmp_path: Path):
    for module, flags in (
        ("evaluate", ["--model=gs://no-such-bucket/model"]),
        ("evaluate", [f"--model={place.url('nothing/here')}"]),
        ("evaluate", [f"--model={place.url('nothing/here')}@3"]),
        ("evaluate", ["--model=s3://bucket/model"]),
        ("export", [f"--workdir={place.url('nothing/here')}", f"--out={tmp_path / 'out'}"]),
        ("export", [f"--workdir={run}", "--out=gs://no-such-bucket/model"]),
        ("export", [f"--workdir={run}", "--out=s3://bucket/model"]),
        ("main", [*loop.TINY, "--config.model.name=gs://no-such-bucket/x", f"--workdir={tmp_path / 'a'}"]),
        ("main", [*loop.TINY, f"--config.model.name={place.url('nothing/here')}", f"--workdir={tmp_path / 'b'}"]),
        ("main", [*loop.TINY, "--fork_from=gs://no-such-bucket/x", f"--workdir={tmp_path / 'c'}"]),
    ):
        said = place(module, *flags, code=2)
        assert said.count("\n") == 1 and ("s3://" in said or "gs://" in said), (module, flags, said)
