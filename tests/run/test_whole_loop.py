"""The whole program on random weights: seed, three iterations, stop, resume, export, reload; and what it refuses.

The runs are real processes started by the command line, so that Ctrl-C, exit codes and a bare interpreter are real.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests/fixtures/seeds.jsonl"
TINY = [
    *("--config=configs/tiny.py", f"--config.seeding.import_from={SEEDS}"),
    *("--config.eval.every=1", "--config.eval.suites=nano", "--config.eval.rows=2", "--config.eval.attempts=1"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One compile cache and one model cache for all runs of this file."""
    return tmp_path_factory.mktemp("shared")


def environment(shared: Path) -> dict[str, str]:
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(shared / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(shared / "cache"),
        "PYTHONUNBUFFERED": "1",
        "XLA_FLAGS": "",  # other tests ask for eight devices in it
        "HF_HUB_OFFLINE": "1",
    }


def start(shared: Path, workdir: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "azr_jax.main", *TINY, f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(shared), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(shared: Path, workdir: Path, *flags: str) -> tuple[int, str]:
    process = start(shared, workdir, *flags)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def wait_for(process: subprocess.Popen, text: str) -> str:
    """Reads the process's output up to a line with `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} never came:\n{''.join(lines)}")


@pytest.fixture(scope="module")
def uninterrupted(shared):
    workdir = shared / "uninterrupted"
    code, output = finish(shared, workdir)
    assert code == 0, output
    return workdir, output


def files_that_must_repeat(workdir: Path) -> dict[str, bytes]:
    names = ["metrics.jsonl", "records.jsonl", *(f"buffers/{file.name}" for file in (workdir / "buffers").iterdir())]
    if (workdir / "heldout.jsonl").exists():  # where held-out tasks are asked
        names.append("heldout.jsonl")
    return {name: (workdir / name).read_bytes() for name in names}


def weights(shared: Path, workdir: Path) -> dict[str, np.ndarray]:
    out = workdir / "hf"
    done = subprocess.run(
        [sys.executable, "-m", "azr_jax.export", f"--workdir={workdir}", f"--out={out}", "--overwrite"],
        cwd=ROOT, env=environment(shared), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)  # 35 lines of Orbax had stood around that one
    return load_file(out / "model.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_three_iterations_leave_what_the_closing_lines_say(shared, uninterrupted):
    workdir, output = uninterrupted
    assert "finished after iteration 3 of 3" in output
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3]
    measured = [json.loads(line) for line in (workdir / "heldout.jsonl").read_text().splitlines()]
    assert [(one["iteration"], len(one["scores"])) for one in measured[::3]] == [(n, 2) for n in range(4)]
    rows = rows[1:]
    assert all(np.isfinite(row["learner/gradient/norm"]) for row in rows)
    assert {"propose/deduction/reward/mean", "solve/induction/reward/mean"} <= rows[0].keys()
    assert (workdir / "report.html").stat().st_size > 10_000
    assert json.loads((workdir / "config.json").read_text())["model"]["name"] == "random:tiny"
    assert "model.name" in (workdir / "config_diff.txt").read_text()


def test_the_export_loads_again_and_is_the_trained_model(shared, uninterrupted):
    workdir, _ = uninterrupted
    trained = weights(shared, workdir)
    start_weights = load_file(shared / "cache/azr_jax/models/random-tiny/model.safetensors")
    assert trained.keys() == start_weights.keys()
    assert not same(trained, start_weights), "three updates moved nothing"
    from azr_jax.models import hf

    reloaded = dict(hf.their_tensors(hf.load(workdir / "hf")))
    assert all(np.array_equal(reloaded[name], trained[name]) for name in trained)


def test_ctrl_c_finishes_the_iteration_and_the_same_command_goes_on_to_the_same_end(shared, uninterrupted):
    workdir = shared / "stopped"
    process = start(shared, workdir)
    wait_for(process, "iteration 1/3")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped after iteration" in rest, rest
    assert "resume" in rest and f"--workdir={workdir}" in rest
    code, output = finish(shared, workdir)
    assert code == 0 and "resumed after iteration" in output, output
    assert files_that_must_repeat(workdir) == files_that_must_repeat(uninterrupted[0])
    assert same(weights(shared, workdir), weights(shared, uninterrupted[0]))


def test_a_finished_run_says_so_and_can_be_made_longer(shared, uninterrupted):
    code, output = finish(shared, uninterrupted[0])
    assert code == 0 and "finished after iteration 3 of 3" in output


def test_a_workdir_of_another_config_is_refused_with_the_fields_and_the_way_out(shared, uninterrupted):
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_bytes()
    code, output = finish(shared, workdir, "--config.learner.lr=0.5", "--config.tasks.references=0")
    assert code == 2 and "Traceback" not in output
    assert "learner.lr: 0.001 -> 0.5" in output and "tasks.references: 1 -> 0" in output
    assert f"--fork_from={workdir}" in output
    assert (workdir / "config.json").read_bytes() == before


def test_a_fork_starts_from_the_others_weights_and_tasks(shared, uninterrupted):
    workdir = shared / "fork"
    fork = f"--fork_from={uninterrupted[0]}"
    code, output = finish(shared, workdir, fork, "--config.learner.lr=0", "--config.iterations=1")
    assert code == 0 and "forked from" in output, output
    kept = len((uninterrupted[0] / "buffers/deduction.jsonl").read_text().splitlines())
    assert len((workdir / "buffers/deduction.jsonl").read_text().splitlines()) >= kept
    assert same(weights(shared, workdir), weights(shared, uninterrupted[0])), "at learning rate 0 nothing may move"


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def spoil_arrays(workdir: Path) -> None:
    for path in (workdir / "checkpoints").rglob("manifest.ocdbt"):
        path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_arrays, "every checkpoint asked for is damaged: 3 ("),
        (lambda workdir: shorten(workdir / "buffers/deduction.jsonl"), "buffers/deduction.jsonl: ends at byte"),
        (lambda workdir: shorten(workdir / "metrics.jsonl"), "metrics.jsonl: has "),
    ],
    ids=["arrays", "buffers", "metrics"],
)
def test_what_a_run_cannot_go_on_without_is_named_in_one_line_and_nothing_is_touched(
    shared, uninterrupted, tmp_path, spoil, said
):
    """The first two were tracebacks."""
    workdir = shutil.copytree(uninterrupted[0], tmp_path / "run")
    spoil(workdir)
    before = files_that_must_repeat(workdir)
    code, output = finish(shared, workdir)
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert code == 2 and "Traceback" not in output, output
    assert line.startswith(f"error: --workdir={workdir}: ") and said in line and "bring" in line
    assert files_that_must_repeat(workdir) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--config.model.name=nobody/no-such-model"], ["nobody/no-such-model", "Tried"]),
        (
            ["--config.mesh.tensor=3", "--config.rollout.attention=tpu"],
            ["mesh.tensor=3", "attention=tpu: this is"],
        ),
        (["--config.tasks.prompt_style=chat"], ["tasks.prompt_style=chat", "no chat template"]),
        (
            ["--config.rollout.max_prompt_tokens=8", "--config.eval.every=0"],
            ["none of its 7 rows", "too long for a prompt"],
        ),
        (["--config.rollout.max_new_tokens=9000"], ["context"]),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(shared, tmp_path, flags, named):
    code, output = finish(shared, tmp_path / "run", *flags)
    assert code == 2 and "Traceback" not in output, output
    assert all(word in output for word in named), output
    assert not (tmp_path / "run").exists(), "as if it had never been started"


def test_a_folder_that_cannot_be_written_is_named_before_training(shared, tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    code, output = finish(shared, file / "run")
    assert code == 2 and "Traceback" not in output and str(file / "run") in output


def test_a_folder_that_holds_something_else_is_left_alone(shared, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    code, output = finish(shared, tmp_path)
    assert code == 2 and "not empty" in output
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_start_leaves_a_live_run_as_it_is_and_says_whose_it_is(shared, tmp_path):
    """It used to seed into the live run and to cut its metrics back to nothing."""
    flags = ["--config.iterations=100000", "--config.learner.schedule=constant"]
    metrics = tmp_path / "run" / "metrics.jsonl"
    first = start(shared, tmp_path / "run", *flags)
    try:
        wait_for(first, "iteration 3/")
        before = metrics.read_bytes()
        code, output = finish(shared, tmp_path / "run", *flags)
        assert code == 2 and f"process {first.pid} on " in output and len(output.splitlines()) == 1, output
        assert before and metrics.read_bytes().startswith(before)
    finally:
        first.send_signal(signal.SIGINT)
        output, _ = first.communicate(timeout=240)
    rows = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]
    assert first.returncode == 0 and rows == sorted(set(rows)), output
