"""A clean console: train, evaluate, export and report print what this project says, and not a line of its libraries.

Each command is a process of its own on the nano recipe. Standard error stays empty; each line of standard output is of
a kind that is listed here, so a library that begins to talk after an upgrade is found by its first line.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("AZR_DATA", ROOT.parent / "shared" / "data"))
STAGE = r"(iteration \d+|seeding|held-out tasks)"
OWN = {
    "main": (
        r"configs/nano\.py in \S+; what differs from configs/base\.py:",
        r"  [\w.]+ +\S.* -> .*",
        r"",
        r"executor: layers .*; open to programs: .*",
        rf"{STAGE}: .* in \d+\.\d s",
        r"held out (before training|after iteration \d+): nano/deduction .*",
        r"iteration \d+/2: \d+\.\d s playing \(.* tokens/s, .* waiting for verdicts\), .* update, gradient \S+",
        r"kind +valid  solve rate  propose reward  solve reward  solved  tokens  buffer",
        r"(deduction|abduction|induction)( +\S+){7}",
        r"[╭│╰].*[╮│╯]",
        r"alarm .*",
        r"finished after iteration 2 of 2",
        r"  (checkpoint|metrics|report)  +/\S+",
        r"  export  +python -m azr_jax\.export --workdir=\S+ --out=\S+",
    ),
    "evaluate": (
        r"\S+: 2 rows, 0 of them done already; results in \S+",
        r"evaluating \S+: .* in \d+\.\d s",
        r"engine: \d+ tokens, .* a second, slots busy .*; the last verdict .* s after the last sample",
        r"/\S+",
        r"suite +rows +measure +pass@1 +base tests +no answer +cut +not judged",
        r"cruxeval_o +2 +greedy, the first 2 +\S+( ± \S+)? +\S+% +\S+% +\d",
    ),
    "export": (r"/\S+.*",),
    "report": (r"/\S+/report\.html: \d+\.\d MB",),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Each command after the other, on one workdir."""
    if not (DATA / "cruxeval_public.jsonl.gz").exists():
        pytest.skip(f"no benchmarks in {DATA}: set AZR_DATA")
    folder = tmp_path_factory.mktemp("console")
    workdir = folder / "run"
    small = ["batch_size=8", "iterations=2", "eval.rows=4", "eval.every=2", "seeding.factor=1"]
    evaluated = [f"--model={workdir}", "--suite=cruxeval_o", "--limit=2", "--style=completion", f"--data_dir={DATA}"]
    commands = {
        "main": [f"--workdir={workdir}", *(f"--config.{field}" for field in small)],
        "evaluate": [*evaluated, "--max_new_tokens=16", "--dtype=float32", f"--out={folder / 'evals'}"],
        "export": [f"--workdir={workdir}", f"--out={folder / 'hf'}"],
        "report": [f"--workdir={workdir}"],
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "TF_", "XLA_"))}
    found = {}
    for name, flags in commands.items():
        command = [sys.executable, "-m", f"azr_jax.{name}", *flags]
        found[name] = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return found


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_printed_that_is_not_ours(said, name):
    done = said[name]
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines
    strange = [line for line in lines if not any(re.fullmatch(kind, line.rstrip()) for kind in OWN[name])]
    assert strange == []
