"""The example of docs/EXTENDING.md, played by a script and by the program itself: examples/repair.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.kind import find
from azr_jax.tasks.prompts import STYLES, solve
from azr_jax.tasks.types import Answer, Kind, Proposal
from examples.repair import Broken, changed
from tests.run.test_whole_loop import SEEDS, environment
from tests.selfplay.scripted import Cast, Stage

ROOT = Path(__file__).parents[2]
REPAIR = "examples.repair:Repair"
SUM = "def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total"
INPUTS = ("0", "1", "4", "5", "10", "3")


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


@pytest.fixture(scope="module")
def task(executor) -> Broken:
    job = Validate(Proposal(find(REPAIR), SUM, INPUTS, "Adds up."), shown=3, pairs="as_given")
    found = executor.submit(job).result()
    assert isinstance(found.task, Broken), found
    return found.task


def test_the_mistake_is_one_small_change_and_always_the_same():
    assert list(changed(SUM)) == list(changed(SUM))
    assert set(changed(SUM)) == {SUM.replace("+=", "-="), SUM.replace("total = 0", "total = 1")}
    assert list(changed("def f(x):\n    return x")) == []


def test_the_first_input_shows_the_mistake_and_so_does_a_hidden_one(executor, task):
    assert (task.program, task.shown, sorted(task.inputs)) == (SUM, 3, sorted(INPUTS))
    for given, gold in ((task.inputs[0], task.outputs[0]), (task.inputs[-1], task.outputs[-1])):
        job = Validate(Proposal(Kind.DEDUCTION, task.broken, (given,)))
        assert executor.submit(job).result().task.output != gold


@pytest.mark.parametrize("style", STYLES)
def test_a_solver_sees_the_broken_program_and_not_the_right_one(style, task):
    prompt = solve(find(REPAIR), task, style=style)
    text = prompt.text or prompt.messages[-1]["content"]
    assert task.broken in text and SUM not in text and task.inputs[-1] not in text.split("```")


def test_only_a_program_that_is_right_is_paid(executor, task):
    listed = dict(zip(task.inputs[:3], task.outputs[:3], strict=True))
    known = ", ".join(f"{given}: {result}" for given, result in listed.items())
    by_heart = f"{task.broken}\nbroken = f\ndef f(n):\n    return {{{known}}}.get(n, broken(n))"
    another = "def f(n):\n    return n * (n - 1) // 2"
    for program, score in ((SUM, 1.0), (another, 1.0), (task.broken, 0.0), (by_heart, 0.0)):
        assert executor.submit(Verify(find(REPAIR), task, Answer(find(REPAIR), program))).result().score == score


@pytest.mark.parametrize(
    ("program", "reason"), [("def f(x):\n    return x", "no mistake shows"), ("def f(x):\n    return x.y", "raised")]
)
def test_a_program_without_a_mistake_to_find_is_refused(executor, program, reason):
    job = Validate(Proposal(find(REPAIR), program, ("1", "2", "3"), "m"), pairs="as_given")
    assert executor.submit(job).result().reason == reason


def test_it_is_proposed_estimated_solved_and_measured(executor):
    repair = find(REPAIR)
    inputs = "".join(f"\n```input\n{given}\n```" for given in ("4", "5", "6", "10"))
    cast = Cast({Kind.DEDUCTION: ["none"], repair: ["Adds up.\n```" + inputs]}, {"Adds up.": [SUM[6:] + "\n```", "no"]})
    flags = {"batch_size": "1", "tasks__references": "0", "tasks__induction_pairs": "as_given"}
    made = Stage(executor, cast, tasks__kinds=f"deduction,{REPAIR}", **flags)
    made.put(Kind.DEDUCTION, SUM, "3")
    played = made.play()
    (proposed,) = played.proposed[repair]
    assert isinstance(proposed.task, Broken) and proposed.solve_rate == 0.25 and proposed.reward == 0.75
    assert [solved.score for solved in played.solved[repair]] == [1.0]
    assert made.numbers["propose/repair/valid_rate"] == made.numbers["solve/repair/accuracy"] == 1.0


def run(tmp_path: Path, *command: str) -> subprocess.CompletedProcess:
    env = environment(tmp_path) | {"PYTHONPATH": str(tmp_path / "mine")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240
    )


def test_the_program_plays_it_goes_on_exports_it_and_misses_it_where_it_is_gone(tmp_path):
    """Two iterations of a tiny random model, the second one after a resume; its tasks come from a file."""
    (tmp_path / "mine").mkdir()
    module = tmp_path / "mine" / "my_repair.py"
    module.write_text((ROOT / "examples" / "repair.py").read_text())
    row = {"kind": "repair", "snippet": SUM, "inputs": INPUTS, "message": "Adds up."}
    more = {**row, "snippet": SUM.replace("+= i", "+= i * 3"), "message": "Adds up more."}
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text(SEEDS.read_text() + "".join(json.dumps(one) + "\n" for one in (row, more)))
    fields = (
        f"seeding.import_from={seeds}",
        "tasks.kinds=deduction,my_repair:Repair",
        "tasks.induction_pairs=as_given",
    )
    workdir, out = tmp_path / "run", tmp_path / "tasks.jsonl"
    flags = ["azr_jax.main", "--config=configs/tiny.py", f"--workdir={workdir}", *(f"--config.{one}" for one in fields)]
    for iterations in (1, 2):
        done = run(tmp_path, *flags, f"--config.iterations={iterations}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed after iteration 1" in done.stdout + done.stderr
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [one["iteration"] for one in rows] == [1, 2]
    assert {"propose/repair/valid_rate", "solve/repair/accuracy", "buffer/repair/size"} <= rows[1].keys()
    kept = json.loads((workdir / "buffers/repair.jsonl").read_text().splitlines()[0])["record"]["entry"]
    assert kept["task"]["broken"] != kept["task"]["program"] and kept["id"] == 4

    done = run(tmp_path, "azr_jax.export_tasks", f"--workdir={workdir}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    exported = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["message"] for one in exported if one.get("kind") == "repair"] == ["Adds up.", "Adds up more."]

    module.unlink()
    gone = run(tmp_path, *flags)
    assert gone.returncode == 2 and "Traceback" not in gone.stderr
    assert gone.stderr.splitlines() == [
        "error: tasks.kinds=my_repair:Repair: there is no module my_repair in the working directory or on PYTHONPATH"
    ]
