"""A run's tasks leave it in the public format and come back as proposals; a run that goes on is not touched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from azr_jax.export_tasks import NoTasks, export_tasks
from azr_jax.tasks.buffers import Buffers, BufferSettings, read_seed_file
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Triplet

ROOT = Path(__file__).parents[2]
ONE, TWO = (Triplet(f"def f(x):\n    return x + {n}", "1", str(n + 1), "") for n in (1, 2))
CASES = InductionTask(ONE.program, ("1", "2"), ("2", "3"), ("", ""), "adds", 1)


@pytest.fixture
def workdir(tmp_path):
    """Two tasks of deduction, one of them played as abduction too, one evicted, one of induction, one of error."""
    kinds, settings = [Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR], BufferSettings(capacity=2)
    buffers = Buffers(kinds, settings, tmp_path / "run" / "buffers")
    evicted = Triplet("def f(x):\n    return -x", "1", "-1", "")
    for kind, task in (
        (Kind.DEDUCTION, evicted), (Kind.DEDUCTION, ONE), (Kind.DEDUCTION, TWO), (Kind.ABDUCTION, ONE),
        (Kind.INDUCTION, CASES), (Kind.ERROR, Triplet("def f(x):\n    return y", "1", "NameError", "")),
    ):  # fmt: skip
        buffers[kind].append(task, iteration=1)
    buffers.close()
    config = {"tasks": {"kinds": [*kinds]}, "buffer": {"capacity": 2, "evict": "oldest_first"}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def test_what_is_kept_comes_out_once_and_reads_back(workdir, tmp_path):
    assert export_tasks(workdir, tmp_path / "tasks.jsonl.gz") == 3
    assert sorted(read_seed_file(tmp_path / "tasks.jsonl.gz"), key=repr) == sorted(
        [
            Proposal(Kind.DEDUCTION, ONE.program, ("1",)),
            Proposal(Kind.DEDUCTION, TWO.program, ("1",)),
            Proposal(Kind.INDUCTION, CASES.program, ("1", "2"), "adds"),
        ],
        key=repr,
    )


def test_a_run_that_is_writing_is_left_as_it_is(workdir, tmp_path):
    file = workdir / "buffers" / "deduction.jsonl"
    torn = file.read_bytes() + b'{"sum":"00'  # in the middle of a line
    file.write_bytes(torn)
    with pytest.warns(UserWarning, match="torn off"):
        assert export_tasks(workdir, tmp_path / "tasks.jsonl") == 3
    assert file.read_bytes() == torn


def test_what_cannot_be_exported_is_named(workdir, tmp_path):
    with pytest.raises(NoTasks, match="not the folder of a run"):
        export_tasks(tmp_path, tmp_path / "tasks.jsonl")
    (tmp_path / "there").write_text("precious")
    with pytest.raises(NoTasks, match="is there already"):
        export_tasks(workdir, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "precious"


def test_the_command(workdir, tmp_path):
    def run(*flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "azr_jax.export_tasks", *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    done = run(f"--workdir={workdir}", f"--out={tmp_path}/tasks.jsonl", "--json")
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[-1])["tasks"] == 3
    wrong = run(f"--workdir={tmp_path}", f"--out={tmp_path}/more.jsonl")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr and "not the folder of a run" in wrong.stderr
