"""The whole loop on eight virtual devices: weights sharded for learning, laid out anew for sampling each iteration."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


LEARNER_OF_TWO = ["--config.mesh.fsdp=4", "--config.mesh.tensor=2"]
SAMPLER_OF_TWO = ["--config.mesh.rollout_tensor=2"]  # the learner over all eight
TWO_COPIES = ["--config.mesh.data=2", "--config.mesh.rollout_tensor=2"]  # of the learner, on four each


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [LEARNER_OF_TWO, SAMPLER_OF_TWO, TWO_COPIES])
def test_three_iterations_on_four_shards_of_two(tmp_path, mesh):
    flags = [f"--config.seeding.import_from={ROOT / 'tests/fixtures/seeds.jsonl'}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "azr_jax.main", "--config=configs/tiny.py", *flags]
    devices = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [*command, *mesh],
        cwd=ROOT,
        env=os.environ | devices | {"XDG_CACHE_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows if row.get("iteration")] == [1, 2, 3]
    assert "compiled after warm-up" not in done.stdout + done.stderr
    # Sampler and learner compute in two layouts; the same weights in both say the same.
    assert all(row["learner/gap/max"] < 1e-4 for row in rows if row.get("iteration"))


@pytest.mark.slow
def test_a_run_of_one_device_goes_on_on_eight_and_back_on_one(tmp_path):
    def play(iterations, devices, *mesh):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "azr_jax.main", "--config=configs/tiny.py", f"--workdir={tmp_path / 'run'}"),
                f"--config.seeding.import_from={ROOT / 'tests/fixtures/seeds.jsonl'}",
                f"--config.iterations={iterations}",
                *mesh,
            ],
            cwd=ROOT,
            env=os.environ
            | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
            | {"XDG_CACHE_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    play(2, 1)
    assert "resumed after iteration 2, with iterations 2 -> 4, mesh.data 0 -> 2, mesh.tensor 1 -> 2" in play(
        4, 8, "--config.mesh.tensor=2", "--config.mesh.data=2"
    )
    assert "resumed after iteration 4" in play(6, 1)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows if row.get("iteration")] == [1, 2, 3, 4, 5, 6]
    assert all(row["learner/gap/max"] < 1e-4 for row in rows if row.get("iteration"))
    changes = [json.loads(line) for line in (tmp_path / "run/config_changes.jsonl").read_text().splitlines()]
    assert [line["from"] for line in changes] == [3, 5]
