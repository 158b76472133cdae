"""A run whose sampler has matrices of eight bits: it learns, and its metrics say how far apart the two policies are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INT8 = ("--config.rollout.quantization=int8", "--config.learner.importance=token")


def play(folder: Path, *flags: str) -> list[dict]:
    flags = (*flags, f"--config.seeding.import_from={ROOT / 'tests/fixtures/seeds.jsonl'}", f"--workdir={folder}")
    done = subprocess.run(
        [sys.executable, "-m", "azr_jax.main", "--config=configs/tiny.py", *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_with_eight_bits_says_how_far_its_sampler_is(tmp_path):
    plain, eight = play(tmp_path / "plain", *INT8[1:]), play(tmp_path / "int8", *INT8)
    gaps = [[row["learner/gap/mean"] for row in rows if "learner/gap/mean" in row] for rows in (plain, eight)]
    assert len(gaps[1]) == len(gaps[0]) > 0
    assert max(gaps[0]) < 1e-4 < min(gaps[1]) < max(gaps[1]) < 0.02
    assert all(0.9 < row["learner/importance/mean"] < 1.1 for row in eight if "learner/importance/mean" in row)
