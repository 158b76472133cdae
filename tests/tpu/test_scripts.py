"""The scripts that get a user to a running pod, against a cloud that only writes down what it is asked."""

import subprocess

import pytest

from tests.tpu.conftest import SCRIPTS

WHERE = ["--name=azr", "--zone=us-west4-a"]
RUN = [*WHERE, "--slice=v5e:4x4", "--workdir=gs://bucket/run", "--config=configs/qwen7b.py", "--config.learner.lr=5e-7"]
ALL = {
    "create": [*WHERE, "--slice=v5e:4x4"],
    "setup": WHERE,
    "run": RUN,
    "logs": WHERE,
    "stop": WHERE,
    "delete": WHERE,
    "gke": [*RUN, "--project=mine"],
}


def call(script, *flags):
    return subprocess.run([SCRIPTS / script, *flags], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", ALL)
def test_a_dry_run_prints_what_would_run_and_runs_nothing(cloud, script):
    done = call(script, *ALL[script], "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "azr" in done.stdout
    assert cloud.read_text() == ""


@pytest.mark.parametrize(
    ("slice", "kind", "image"),
    [
        ("v5e:4x4", "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p:2x2x1", "v5p-8", "v2-alpha-tpuv5"),  # named by cores, two a chip
        ("v6e:2x4", "v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_create_asks_for_the_slice_the_dry_run_named_and_waits_for_it(cloud, slice, kind, image):
    done = call("create", *WHERE, f"--slice={slice}", "--spot")
    assert done.returncode == 0, done.stderr
    asked, waited = cloud.read_text().splitlines()
    assert f"--accelerator-type={kind} --runtime-version={image} --spot" in asked
    assert "describe azr" in waited


def test_create_gives_up_where_the_request_failed(cloud):
    (cloud.parent / "state").write_text("FAILED\n")
    done = call("create", *ALL["create"])
    assert done.returncode == 2
    assert "the request is FAILED" in done.stderr


def test_run_starts_all_workers_at_once_with_the_flags_given_and_this_chip_s_compiler_flags(cloud):
    assert call("run", *RUN).returncode == 0
    asked = cloud.read_text()
    assert "--worker=all" in asked
    assert "azr_jax.main --workdir=gs://bucket/run --config=configs/qwen7b.py --config.learner.lr=5e-7" in asked
    assert "azr_jax.parallel.flags v5e" in asked


def test_run_keeps_spaces_and_quotes_of_a_flag(cloud):
    assert call("run", *RUN, "--config.model.name=a folder's model").returncode == 0
    assert r"--config.model.name=a\ folder\'s\ model" in cloud.read_text()


def test_stop_asks_every_worker_to_end(cloud):
    assert call("stop", *WHERE).returncode == 0
    assert "--worker=all --command=kill -TERM $(cat azr/run.pid)" in cloud.read_text()


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("create", ["--zone=z", "--slice=v5litepod-16"], "--slice=v5litepod-16: should be as v5e:4x4"),
        ("create", ["--slice=v5e:4x4"], "--zone= is missing"),
        ("run", [*WHERE, "--slice=v5e:4x4", "--workdir=run"], "--workdir=run: all workers must see it"),
        ("delete", ["--zne=z"], "--zne=z: unknown"),
    ],
)
def test_bad_flags_are_named_and_nothing_runs(cloud, script, flags, message):
    done = call(script, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert cloud.read_text() == ""
