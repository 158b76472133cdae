"""Installed as a wheel and started from an empty folder: recipes, nano's base and every console script come along."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("AZR_DATA", ROOT.parent / "shared" / "data"))
SMALL = ["batch_size=8", "iterations=2", "eval.every=0", "seeding.factor=1"]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel in it; what the wheel needs is taken from this one."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("azr_jax-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    paths = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(paths, check=True, capture_output=True, text=True).stdout.strip()
    (Path(site) / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv/bin"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def run(script: Path, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([script, *flags], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(scripts: Path, empty: Path) -> str:
    """What two iterations of nano said; the run is in runs/nano."""
    done = run(scripts / "azr-train", *(f"--config.{field}" for field in SMALL), cwd=empty)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_takes_the_recipe_that_came_along_and_says_so(trained: str, empty: Path):
    assert trained.startswith("configs/nano.py of azr_jax ")
    assert "finished after iteration 2 of 2" in trained
    assert json.loads((empty / "runs/nano/config.json").read_text())["model"]["name"] == "nano:base"


def test_the_run_is_exported_and_reported(trained: str, scripts: Path, empty: Path):
    for script, *flags in (["azr-export", "--workdir=runs/nano", "--out=hf"], ["azr-report", "--workdir=runs/nano"]):
        done = run(scripts / script, *flags, cwd=empty)
        assert done.returncode == 0, done.stderr
    assert (empty / "hf/model.safetensors").is_file()
    assert (empty / "runs/nano/report.html").is_file()


def test_the_run_is_evaluated(trained: str, scripts: Path, empty: Path):
    if not (DATA / "cruxeval_public.jsonl.gz").exists():
        pytest.skip(f"no benchmarks in {DATA}: set AZR_DATA")
    asked = ["--suite=cruxeval_o", f"--data_dir={DATA}", "--limit=2", "--style=completion", "--max_new_tokens=16"]
    done = run(scripts / "azr-evaluate", "--model=runs/nano", "--dtype=float32", *asked, cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "pass@1" in done.stdout


@pytest.mark.parametrize("script", ["azr-train", "azr-evaluate", "azr-export", "azr-report", "azr-dryrun"])
def test_help_lists_the_flags_of_the_command(script: str, scripts: Path, empty: Path):
    own = "--topology" if script == "azr-dryrun" else {"azr-train": "--config", "azr-evaluate": "--model"}.get(script)
    assert (own or "--workdir") in run(scripts / script, "--help", cwd=empty).stdout
