"""What a run makes of options of the sampler: guessed tokens change no byte, and matrices of eight bits change how
likely tokens are, which the metrics say.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEIGHED = "--config.learner.importance=token"


def play(folder: Path, *options: str) -> Path:
    flags = [f"--config.seeding.import_from={ROOT / 'tests/fixtures/seeds.jsonl'}", f"--workdir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "azr_jax.main", "--config=configs/tiny.py", *flags, *options],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_same_bytes_with_and_without_guesses(tmp_path):
    ahead, plain = (play(tmp_path / f"{n}", f"--config.rollout.draft_tokens={n}") for n in (6, 0))
    for name in ("metrics.jsonl", "records.jsonl"):
        assert (ahead / name).read_bytes() == (plain / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("field", ["quantization", "kv_cache_dtype"])
def test_a_run_with_eight_bits_says_how_far_its_sampler_is(tmp_path, field):
    folders = (
        play(tmp_path / "plain", WEIGHED),
        play(tmp_path / "int8", WEIGHED, f"--config.rollout.{field}=int8"),
    )
    plain, eight = ([json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()] for at in folders)
    gaps = [[row["learner/gap/mean"] for row in rows if "learner/gap/mean" in row] for rows in (plain, eight)]
    assert len(gaps[1]) == len(gaps[0]) > 0
    assert max(gaps[0]) < 1e-4 < min(gaps[1]) < max(gaps[1]) < 0.02
    assert all(0.9 < row["learner/importance/mean"] < 1.1 for row in eight if "learner/importance/mean" in row)
