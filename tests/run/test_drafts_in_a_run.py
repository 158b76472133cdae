"""A run with guessed tokens plays, rewards and learns what a run without them does, byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def play(folder: Path, draft: int) -> list[bytes]:
    flags = [f"--config.seeding.import_from={ROOT / 'tests/fixtures/seeds.jsonl'}", f"--workdir={folder}"]
    command = [sys.executable, "-m", "azr_jax.main", "--config=configs/tiny.py", *flags]
    done = subprocess.run(
        [*command, f"--config.rollout.draft_tokens={draft}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "records.jsonl")]


@pytest.mark.slow
def test_the_same_bytes_with_and_without(tmp_path):
    assert play(tmp_path / "ahead", 6) == play(tmp_path / "plain", 0)
