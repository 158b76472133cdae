"""No row of an evaluation enters a buffer or a prompt of training, under whatever names it comes."""

import json
from dataclasses import replace

import pytest

from azr_jax.config.schema import EvalConfig
from azr_jax.evals import held
from azr_jax.evals.datasets import Loaded, Row
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.run.heldout_eval import SUITES, Evaluation
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.proposing import CONTAMINATION
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import Cast, ScriptedEngine, Stage, prompter

ROW = "def f(nums):\n    total = 0\n    for n in nums:\n        total += n * 7\n    return total"
RENAMED = 'def f(xs):\n    """Sums."""\n    s = 0  # start\n    for x in xs:\n        s += x*7\n\n    return s'
OTHER = "def f(nums):\n    total = 0\n    for n in nums:\n        total += n * 9\n    return total"
FRESH = "def f(a, b):\n    return a * 10 + b"


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0, allow_weak=True)) as running:
        yield running


@pytest.fixture
def cruxeval(monkeypatch):
    rows = [{"code": ROW, "input": "[1, 2]", "output": "21"}, {"code": FRESH, "input": "1, 2", "output": "range(3)"}]
    loaded = Loaded(tuple(Row(str(n), row) for n, row in enumerate(rows)), "digest")
    monkeypatch.setattr(held, "load", lambda name, data_dir: loaded)


def test_a_program_is_known_under_other_names_and_layouts():
    reserved = Reserved([ROW, "def f(:"])
    assert ROW in reserved and RENAMED in reserved and f"\n{ROW}\n" in reserved and "def f(:" in reserved
    assert OTHER not in reserved and FRESH not in reserved and "def f(" not in reserved
    assert ROW not in Reserved()


HANDLED = "import math as m\ndef g(a):\n    return m.sqrt(a)\ndef f(x):\n    global y\n    try:\n        y = g(a=x)\n"
HANDLED += "    except ValueError as error:\n        y = str(error)\n    return y"
ALIASED = HANDLED.replace("m.", "math.").replace(" as m", "").replace("error:", "e:").replace("(error)", "(e)")


def test_names_of_imports_exceptions_globals_and_keywords_are_names_too():
    again = ALIASED.replace("g(a", "helper(b").replace("sqrt(a", "sqrt(b")
    again = again.replace("y =", "out =").replace("global y", "global out").replace("return y", "return out")
    assert again != HANDLED and again in Reserved([HANDLED])
    assert again.replace("sqrt", "cbrt") not in Reserved([HANDLED])
    assert again.replace("import math", "import cmath as math") not in Reserved([HANDLED])


def test_a_program_too_deep_to_compare_is_no_match_for_everything():
    deep = "def f(x):\n    return " + "-" * 500 + "x"
    assert OTHER not in Reserved([deep])


def test_curves_ask_and_reserve_the_rows_of_cruxeval(cruxeval, executor):
    """Two tasks of the row with a plain output; the program of a row that is not asked for is reserved all the same."""
    tasks, programs = SUITES["cruxeval"]("")
    assert programs == [ROW, FRESH]
    assert [(kind, task.output) for kind, task in tasks] == [(Kind.DEDUCTION, "21"), (Kind.ABDUCTION, "21")]
    engine = ScriptedEngine(lambda prompt, sample: ("21" if prompt.endswith("```output\n") else "[3]") + "\n```")
    settings = EvalConfig(every=5, suites=("cruxeval",), rows=1, attempts=2)
    evaluation = Evaluation(settings, prompter(), EventLoop(engine, executor))  # type: ignore[arg-type]
    assert RENAMED in evaluation.reserved and OTHER not in evaluation.reserved
    assert FRESH in evaluation.reserved, "also where the output is no plain literal, so that it is no task"
    assert evaluation.measure() == {("cruxeval", "deduction"): [1.0], ("cruxeval", "abduction"): [1.0]}


def test_proposals_of_reserved_programs_reach_no_buffer_and_no_prompt(executor):
    """Of four proposals two are the row, once renamed: refused with the reward of a refused program, and not asked."""

    def said(program: str, given: str) -> str:
        return program.removeprefix("def f(") + f"\n```\n```input\n{given}\n```"

    rows = [said(RENAMED, "[5]"), said(FRESH, "1, 2"), said(ROW, "[1, 2]"), said(OTHER, "[4]")]
    engine = Cast({Kind.DEDUCTION: rows}, {"a * 10": ["12\n```"], "* 9": ["36\n```"], "def f(x)": ["1\n```"]})
    stage = Stage(executor, engine, tasks__kinds="deduction")
    stage.self_play = replace(stage.self_play, proposer=replace(stage.self_play.proposer, reserved=Reserved([ROW])))
    stage.put(Kind.DEDUCTION, "def f(x):\n    return x", "1")
    played = stage.play()

    proposals = played.proposed[Kind.DEDUCTION]
    assert [p.validation.reason for p in proposals] == [CONTAMINATION, "", CONTAMINATION, ""]
    assert [p.reward for p in proposals if p.task is None] == [-0.5, -0.5]
    kept = [entry.task.program for entry in stage.buffers[Kind.DEDUCTION]]
    assert FRESH in kept and OTHER in kept
    assert not any(program in Reserved([ROW]) for program in kept)
    assert engine.seen and not any("* 7" in prompt or "*7" in prompt for prompt in engine.seen)


def test_imported_seeds_of_an_evaluation_are_refused_by_name(executor, tmp_path):
    rows = [{"snippet": program, "input": given, "output": "", "imports": []} for program, given in
            ((RENAMED, "[1]"), (FRESH, "1, 2"))]  # fmt: skip
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = Stage(executor, Cast({}, {}), tmp_path, tasks__kinds="deduction", seeding__import_from=str(file))
    stage.self_play = replace(stage.self_play, proposer=replace(stage.self_play.proposer, reserved=Reserved([ROW])))
    seeding = stage.seeding()
    seeding._first()
    assert seeding.refused == [(CONTAMINATION, RENAMED)]
    assert [e.task.program for e in stage.buffers[Kind.DEDUCTION]][1:] == [FRESH]
