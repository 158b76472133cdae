"""The scripts that get a user to a running pod, against a cloud that only writes down what it is asked."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.tpu.conftest import SCRIPTS

WHERE = ["--name=azr", "--zone=us-west4-a"]
RUN = [
    *WHERE, "--slice=v5e:4x4", "--workdir=/mnt/shared/run", "--config=configs/qwen7b.py", "--config.learner.lr=5e-7",
]  # fmt: skip
GKE = [*RUN, "--project=mine", "--storage=folder"]
ALL = {
    "create": [*WHERE, "--slice=v5e:4x4"],
    "setup": WHERE,
    "run": RUN,
    "logs": WHERE,
    "stop": WHERE,
    "delete": WHERE,
    "gke": GKE,
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


def wait_for(file):
    until = time.monotonic() + 30
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert file.exists()


def test_run_starts_all_workers_at_once_with_the_flags_given_and_this_chip_s_compiler_flags(cloud, workers):
    folders = workers("0", "0")
    assert call("run", *RUN, "--config.model.name=a folder's model").returncode == 0
    assert "--worker=all" in cloud.read_text()
    for folder in folders:
        wait_for(folder / "run.code")
        flags = ["-m", "azr_jax.main", *RUN[3:], "--config.model.name=a folder's model"]
        assert (folder / "started").read_text().splitlines() == ["--of=v5e", *flags]


SECRETS = {"HF_TOKEN": "hf_of a 'person'", "HF_HOME": "/mnt/shared/hub", "WANDB_API_KEY": "0123$PATH"}


def test_secrets_reach_every_worker_in_a_file_of_its_owner_and_stand_in_no_command_line_and_no_log(
    cloud, workers, monkeypatch
):
    folders = workers("86 0", "86 0")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = call("run", *RUN, "--keep")  # started again, too
    assert done.returncode == 0, done.stderr
    for folder in folders:
        assert (folder / "environment").read_text().splitlines() == list(SECRETS.values())
        assert not (folder.parent / "azr.env").exists()
    assert (cloud.parent / "modes").read_text().split() == ["600", "600"]
    sent = [line.split()[5] for line in cloud.read_text().splitlines() if " scp " in line]
    assert len(sent) == 2 and not any(Path(file).exists() for file in sent)
    seen = [
        cloud,
        cloud.parent / "stdin",
        *cloud.parent.glob("workers/*/azr/*.log"),
        *cloud.parent.glob("workers/*/azr/ps"),
    ]
    assert len(seen) == 6
    for told in (done.stdout, done.stderr, *(file.read_text() for file in seen)):
        for name, value in SECRETS.items():
            assert value not in told, name


def test_a_dry_run_names_the_secrets_it_would_send_and_tells_none(cloud, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    said = call("run", *RUN, "--dry_run").stdout
    assert "<a file of HF_TOKEN> azr:azr.env" in said and "hf_secret" not in said


def test_without_secrets_nothing_is_sent(cloud, workers, monkeypatch):
    workers("0")
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    assert call("run", *RUN).returncode == 0
    assert " scp " not in cloud.read_text()


def test_a_run_in_the_background_outlives_its_start_and_ends_when_asked_to(cloud, workers):
    [folder] = workers("wait")
    assert call("run", *RUN).returncode == 0
    wait_for(folder / "waits")
    assert not (folder / "run.code").exists()
    assert call("stop", *WHERE).returncode == 0
    wait_for(folder / "run.code")


@pytest.mark.parametrize(
    ("codes", "starts", "code"),
    [
        (["0", "0"], 1, 0),
        (["86 86 0", "86 86 0"], 3, 0),  # a dead or hung process
        (["137 0", "86 0"], 2, 0),  # one was killed, the other noticed
        (["86 2", "86 2"], 2, 2),
        (["1", "1"], 1, 1),
        (["2", "86"], 1, 2),  # one was refused, the other waited for it: it would be so again
        (["139", "139"], 1, 139),
    ],
)
def test_with_keep_a_run_that_ended_with_86_is_started_again_and_any_other_stays_ended(
    cloud, workers, codes, starts, code
):
    workers(*codes)
    done = call("run", *RUN, "--keep")
    assert done.returncode == code, done.stderr
    assert f"the run has ended with exit code {code}" in done.stdout
    assert cloud.read_text().count("azr_jax.main") == starts


def test_with_keep_a_run_that_is_gone_without_a_word_is_started_again(cloud, workers):
    [folder] = workers("0 0")
    real = folder / ".venv" / "bin" / "python"
    killer = real.read_text().replace('cd "', 'mkdir "$0.once" 2>/dev/null && kill -9 $PPID $$\ncd "', 1)
    real.write_text(killer)  # with the shell that waits for it, as when the machine stops
    done = call("run", *RUN, "--keep")
    assert done.returncode == 0, done.stderr
    assert cloud.read_text().count("azr_jax.main") == 2


def test_with_keep_a_slice_that_is_gone_is_asked_for_again_and_set_up_with_its_share(cloud, workers):
    workers("143 0")
    (cloud.parent / "state").write_text("SUSPENDED\n")
    done = call("run", *RUN, "--keep", "--spot", "--share=10.0.0.2:/share")
    assert done.returncode == 0, done.stderr
    asked = cloud.read_text()
    steps = ("azr_jax.main", "resources delete", "resources create", "mount -t nfs '10.0.0.2:/share'", "pip install")
    places = [*map(asked.index, steps), asked.rindex("azr_jax.main")]
    assert places == sorted(places)
    assert "v2-alpha-tpuv5-lite --spot" in asked


def test_on_kubernetes_pods_share_the_storage_named_and_start_again_after_a_dead_process(cloud):
    assert call("gke", *GKE).returncode == 0
    *_, workload = [line for line in cloud.read_text().splitlines() if line.startswith("xpk")]
    assert "--storage=folder" in workload and "--restart-on-exit-codes=86" in workload


def test_secrets_reach_pods_through_the_cluster_and_stand_in_no_command_line_and_no_log(cloud, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = call("gke", *GKE)
    assert done.returncode == 0, done.stderr
    assert (cloud.parent / "modes").read_text().split() == ["600"]
    assert (cloud.parent / "secret").read_text() == "".join(f"{name}={value}\n" for name, value in SECRETS.items())
    calls = cloud.read_text().splitlines()
    [made] = [line for line in calls if line.startswith("kubectl create")]
    assert made.startswith("kubectl create secret generic azr-env --from-env-file=")
    assert not Path(made.partition("--from-env-file=")[2]).exists()
    assert "resourceNames: [azr-env], verbs: [get]" in (cloud.parent / "applied").read_text()
    for told in (done.stdout, done.stderr, cloud.read_text(), (cloud.parent / "applied").read_text()):
        assert not any(value in told for value in SECRETS.values())
    said = call("gke", *GKE, "--dry_run").stdout
    assert "--from-env-file=<a file of HF_TOKEN HF_HOME WANDB_API_KEY>" in said
    assert not any(value in said for value in SECRETS.values())


def test_a_pod_asks_for_what_was_confided_before_it_runs_and_ends_where_it_is_not_told(cloud, tmp_path, monkeypatch):
    """The command of the workload, in a shell whose Python stands in for a pod's."""
    monkeypatch.setenv("HF_TOKEN", "only to have one")
    assert call("gke", *GKE).returncode == 0
    command = cloud.read_text().split(" --command=")[1].strip()
    python = """#!/bin/bash
case "$2" in
  *flags) echo "LIBTPU_INIT_ARGS='--of=$3'" ;;
  *pod_secret) printf 'HF_TOKEN=%q\\n' "hf_of a 'person'"; exit $TOLD ;;
  *main) printf '%s\n' "$LIBTPU_INIT_ARGS" "$HF_TOKEN" "$told" "$@" > started ;;
esac
"""
    (tmp_path / "bin/python").write_text(python)
    (tmp_path / "bin/python").chmod(0o755)
    monkeypatch.delenv("HF_TOKEN")
    for told in ("0", "1"):
        (tmp_path / "started").unlink(missing_ok=True)
        monkeypatch.setenv("TOLD", told)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) == (told == "0"), done.stderr
        assert (tmp_path / "started").exists() == (told == "0")
        if told == "0":
            flags, token, left, *_ = (tmp_path / "started").read_text().splitlines()
            assert (flags, token, left) == ("--of=v5e", "hf_of a 'person'", "")


def test_without_secrets_kubernetes_is_told_none(cloud, monkeypatch):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    assert call("gke", *GKE).returncode == 0
    assert "kubectl" not in cloud.read_text() and "pod_secret" not in cloud.read_text()


@pytest.mark.parametrize("slice_", ["v5e:1x1", "v5e:2x4", "v6e:2x4", "v5p:2x2x1", "v5e:4x4", "v5p:2x2x2"])
def test_a_slice_may_live_in_a_bucket(cloud, slice_):
    assert call("run", *RUN, f"--slice={slice_}", "--workdir=gs://bucket/run").returncode == 0
    assert "--workdir=gs://bucket/run" in cloud.read_text()
    kubernetes = [flag for flag in GKE if not flag.startswith("--storage")]
    assert call("gke", *kubernetes, f"--slice={slice_}", "--workdir=gs://bucket/run").returncode == 0
    assert "--storage" not in cloud.read_text()


def test_stop_asks_every_worker_to_end(cloud):
    assert call("stop", *WHERE).returncode == 0
    assert "--worker=all --command=kill -TERM $(cat azr/run.pid)" in cloud.read_text()


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("create", ["--zone=z", "--slice=v5litepod-16"], "--slice=v5litepod-16: should be as v5e:4x4"),
        ("create", ["--slice=v5e:4x4"], "--zone= is missing"),
        ("run", [*WHERE, "--slice=v5e:4x4", "--workdir=run"], "--workdir=run: should be gs://bucket/folder, or a"),
        ("run", [*RUN, "--workdir=s3://bucket/run"], "s3://bucket/run: should be gs://bucket/folder, or a folder that"),
        ("gke", [*GKE, "--workdir=gs://"], "--workdir=gs://: should be gs://bucket/folder, or a folder that"),
        ("gke", [*RUN, "--project=mine"], "--storage= is missing"),
        ("delete", ["--zne=z"], "--zne=z: unknown"),
    ],
)
def test_bad_flags_are_named_and_nothing_runs(cloud, script, flags, message):
    done = call(script, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert cloud.read_text() == ""
