"""`python -m azr_jax.dryrun` as users call it: what it refuses, and small models on small slices with libtpu."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not LIBTPU, reason='needs the TPU compiler: pip install "jax[tpu]"')


def dry_run(*flags, timeout=900, start=("-m", "azr_jax.dryrun")):
    command = [sys.executable, *start, *flags]
    env = {key: value for key, value in os.environ.items() if key not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--topology=v5e:3x3"],
            "--topology=v5e:3x3: should be a chip and a grid, as v5e:4x4, or with a number of slices",
        ),
        (["--topology=v5p-8"], "v5p: 2x2x1, 2x2x2"),
        (["--topology=v5e:4x4:0"], "--topology=v5e:4x4:0: should be a chip and a grid"),
        ([], "--topology"),
        (["--topology=v5e:4x4", "--sequences=-8"], "--sequences=-8"),
        (["--topology=v5e:4x4", "--config=configs/qwen8b.py"], "configs/qwen8b.py"),
        pytest.param(
            ["--topology=v5e:4x4", "--config=configs/qwen7b.py", "--config.mesh.rollout_tensor=8"],
            "mesh.rollout_tensor=8 for this model on 16 chips: should be one of 1, 2, 4",
            marks=pytest.mark.slow,  # imports JAX
        ),
        pytest.param(
            ["--topology=v5e:2x4", "--config=configs/qwen3b_coder.py", "--config.mesh.fsdp=3"],
            "mesh.fsdp=3 for this model on 8 chips: should be one of 4, 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--topology=v5e:2x4", "--config.model.name=a folder that is not there"],
            "a folder that is not there: not found",
            marks=pytest.mark.slow,
        ),
        (["--topology=v5e:4x4", "--config.mesh.tenser=2"], "mesh.tenser"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_compiled(flags, message):
    done = dry_run(*flags, timeout=280)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


HIDDEN = """
import importlib.util, runpy
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "libtpu" else find(name, *package)
runpy.run_module("azr_jax.dryrun", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_without_libtpu_it_says_which_line_installs_it():
    done = dry_run("--topology=v5e:2x2", "--config=configs/tiny.py", timeout=280, start=("-c", HIDDEN))
    assert done.returncode == 2
    assert 'libtpu is not installed: pip install "jax[tpu]"' in done.stderr
    assert "Traceback" not in done.stderr


@needs_libtpu
@pytest.mark.slow
def test_every_slice_of_the_list_is_one_to_libtpu_a_single_chip_too():
    """Of v5e:1x1 and v6e:1x1 it said that they are not divisible by a machine of 2x2 chips, with a traceback."""
    program = "\n".join(
        (
            "from azr_jax.dryrun import topology as t",
            "t.prepare()",
            "names = [f'{chip}:{grid}' for chip, grids in t.SLICES.items() for grid in grids]",
            "print(*(len(t.devices(t.find(name))) == t.find(name).chips for name in names))",
        )
    )
    done = dry_run(start=("-c", program), timeout=280)
    assert done.stdout.split() == ["True"] * 21, done.stderr


@needs_libtpu
@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(("recipe", "slice"), [("tiny", "v5e:2x2"), ("smollm2", "v5e:2x2"), ("tiny", "v5p:2x2x1")])
def test_small_recipes_fit_small_slices(recipe, slice):
    done = dry_run(f"--config=configs/{recipe}.py", f"--topology={slice}", "--json", "--config.model.dtype=bfloat16")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["fits"]
    assert found["chip_gb"] == {"v5e": 15.75, "v5p": 95.74}[slice[:3]]
    (train,) = (figures for name, figures in found["programs"].items() if name.startswith("train"))
    assert train["peak_gb"] > 0
    assert {"initial weights", "learner -> sampler", "copy", "decode"} <= set(found["programs"])
    assert found["kv_pages"] > 0
    if train["left_out"]:  # JAX 0.10 cannot print what it compiled for v5p: memory only, and it says so
        assert slice.startswith("v5p")
        assert train["left_out"] in done.stdout and "cannot be read by this jaxlib" in train["left_out"]
        assert train["flops"] is None and train["flops_ratio"] == 0
        assert not found["floor_s"]
    else:
        assert 0.9 < train["flops_ratio"] < 1.3
        assert found["floor_s"].keys() == {"update", "sampling"}


@needs_libtpu
@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_a_recipe_of_the_paper_fits_its_slice_by_the_compiler_that_this_jax_installs():
    """Small programs did not show that Qwen2.5-7B had been taken not to fit v5e:4x4 (tests/dryrun/test_measure.py)."""
    (pin,) = (each for each in importlib.metadata.requires("jax") or () if each.startswith("libtpu"))
    done = dry_run("--config=configs/qwen7b.py", "--topology=v5e:4x4", "--json", timeout=1900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    wanted = pin.partition("==")[2].partition("*")[0]
    assert wanted and found["compiler"]["libtpu"].startswith(wanted), "not the compiler that jax[tpu] installs"
    (train,) = (figures for name, figures in found["programs"].items() if name.startswith("train"))
    assert train["flops_ratio"] < 1.04 and train["peak_gb"] < 14.5
    assert found["kv_pages"] > 5000 and not found["too_large"]
