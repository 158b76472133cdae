"""Every staged benchmark: canonical solutions and gold answers score 1, perturbed ones 0; exceptions by their cause.

Slow: `pytest -m slow tests/evals/test_gold.py`, with AZR_DATA naming the folder of the benchmarks. The comparison with
the EvalPlus package wants a Python that has it in AZR_EVALPLUS.
"""

import json
import os
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mutants import mutant, returning

from azr_jax.evals.code import BrokenTest, CheckFunction, Runner
from azr_jax.evals.datasets import DataProblem, load
from azr_jax.evals.mathematics import MathJudge, final_answer, gold_of
from azr_jax.evals.suites import SUITES, Judges, mbpp_test, plus_calls
from azr_jax.executor.pool import Executor, ExecutorSettings
from tests.evals.at_once import graded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OBJECTS = "the test builds objects of a class; only plain data reaches the program"
# Rows that cannot be judged, with the reason in their data.
EXCEPTIONS = {
    "mbpp": {"367": OBJECTS, "533": "the test passes a class", "601": OBJECTS, "927": OBJECTS},
}
# What math-verify takes for equal although 1 was added: relations and tuples, to which nothing is added, and two
# expressions that it reads as functions of what stands in parentheses.
ALSO_TAKEN = {
    "minerva": 2,
    "olympiadbench": 3,
}


@pytest.fixture(scope="module")
def judges():
    with Executor(ExecutorSettings(memory_mb=4096, allow_weak=True)) as executor:
        mathematics = MathJudge(2, limit_s=30.0)
        yield Judges(Runner(executor, timeout_s=30.0), mathematics)
        mathematics.close()


def everywhere(judge, rows):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(judge, rows))


def program_test(name, row, runner):
    """The judge of a row and its canonical solution."""
    f = row.fields
    if name == "mbpp":
        return mbpp_test(row, runner), f["code"]
    canonical = f["prompt"] + f["canonical_solution"]
    if name == "humaneval":
        return CheckFunction(runner, f["entry_point"], canonical, f["test"]), canonical
    return plus_calls(row, runner), canonical


@pytest.mark.parametrize(
    ("name", "rows"), [("humaneval", 164), ("humaneval_plus", 164), ("mbpp_plus", 378), ("mbpp", 974)]
)
def test_canonical_programs_pass_and_constant_ones_fail(name, rows, judges, data_dir):
    loaded = load(name, data_dir).rows
    assert len(loaded) == rows

    def both(row):
        test, canonical = program_test(name, row, judges.runner)
        try:
            wrong = returning(canonical, test.entry_point, "('no', 'such', 'answer')")
            return judges.runner.result([test.judge(canonical), test.judge(wrong)])
        except BrokenTest as broken:
            return str(broken), None

    found = dict(zip((row.id for row in loaded), everywhere(both, loaded), strict=True))
    failed = {row: right for row, (right, _) in found.items() if isinstance(right, str) or right.score != 1.0}
    assert set(failed) == set(EXCEPTIONS.get(name, {})), failed
    taken = [row for row, (_, wrong) in found.items() if wrong is not None and wrong.score]
    assert taken == []


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500), ("minerva", 272), ("olympiadbench", 675),
        ("gsm8k", 1319),
    ],
)  # fmt: skip
def test_gold_answers_are_right_and_others_wrong(name, rows, judges, data_dir):
    loaded = load(name, data_dir).rows
    golds = [gold_of(name, row.fields) for row in loaded]
    assert len(golds) == rows

    def right(gold):
        return judges.mathematics.judge(gold, final_answer(f"<think>so</think><answer>{gold}</answer>") or "")

    assert [gold for gold, verdict in zip(golds, everywhere(right, golds)) if not verdict.correct] == []
    some = random.Random(0).sample(golds, min(150, rows))
    taken = [
        gold
        for gold, verdict in zip(some, everywhere(lambda gold: judges.mathematics.judge(gold, f"({gold})+1"), some))
        if verdict.score
    ]
    assert len(taken) <= ALSO_TAKEN.get(name, 0), taken
    others = [(a, b) for a, b in zip(some, some[7:] + some[:7]) if a.strip() != b.strip()]
    swapped = everywhere(lambda pair: judges.mathematics.judge(*pair), others)
    assert [pair for pair, verdict in zip(others, swapped) if verdict.score] == []


@pytest.mark.parametrize(("name", "answer"), [("cruxeval_o", "output"), ("cruxeval_i", "input")])
def test_cruxeval_takes_its_own_answers_and_no_others(name, answer, judges, data_dir):
    rows = load("cruxeval", data_dir).rows
    suite = SUITES[name]
    assert len(rows) == 400

    def both(row):
        item = suite.make(suite, row, "boxed", judges)
        wrong = "'no such answer'" if answer == "output" else "*range(99)"
        return [graded(item, f"```{answer}\n{text}\n```", judges).score for text in (row.fields[answer], wrong)]

    scores = everywhere(both, rows)
    assert [row.id for row, score in zip(rows, scores) if score != [1.0, 0.0]] == []


def test_mmlu_pro_takes_the_letter_of_the_key(judges, data_dir):
    rows = load("mmlu_pro", data_dir).rows
    suite = SUITES["mmlu_pro"]
    assert len(rows) == 12_032
    subjects = set()
    for row in rows:
        item = suite.make(suite, row, "think", judges)
        right, other = row.fields["answer"], "A" if row.fields["answer"] != "A" else "B"
        assert item.grade(f"<think>B or A</think><answer>({right})</answer>").score == 1.0
        assert item.grade(f"<think>{right}</think><answer>{other}</answer>").score == 0.0
        subjects.add(item.category)
    assert len(subjects) == 14


def fenced(text):
    return f"<answer>```output\n{text}\n```</answer>"


# Suites whose files were not at hand when this was written: where one lies in the folder, its golds are judged.
FETCHED = {
    "aime26": lambda f: f"<answer>{f['answer']}</answer>",
    "bbeh": lambda f: f"<think>hm</think><answer>{f['target']}</answer>",
    "supergpqa": lambda f: f"<answer>{f['answer_letter']}</answer>",
    "livecodebench_output": lambda f: fenced(repr(json.loads(json.loads(f["test"])[0]["output"]))),
    "livecodebench_execution": lambda f: fenced(f["output"]),
}


@pytest.mark.parametrize("name", FETCHED)
def test_golds_of_files_that_are_fetched_are_right_where_they_are_there(name, judges, data_dir):
    suite = SUITES[name]
    try:
        rows = load(suite.dataset, data_dir).rows
    except DataProblem as problem:
        pytest.skip(str(problem))
    found = {row.id: graded(suite.make(suite, row, "think", judges), FETCHED[name](row.fields), judges) for row in rows}
    assert {row: each for row, each in found.items() if each.score != 1.0} == {}


def test_verdicts_are_those_of_evalplus(judges, data_dir):
    """Canonical solutions of HumanEval+ and two mutants of each, base tests and all tests."""
    python = os.environ.get("AZR_EVALPLUS")
    if not python:
        pytest.skip("AZR_EVALPLUS names no Python with evalplus")
    rows = load("humaneval_plus", data_dir).rows
    asked = []
    for row in rows:
        canonical = row.fields["prompt"] + row.fields["canonical_solution"]
        programs = [canonical, mutant(canonical, 0), mutant(canonical, 5)]
        asked += [{"id": row.id, "n": number, "solution": text} for number, text in enumerate(programs)]
    said = subprocess.run(
        [python, Path(__file__).with_name("evalplus_verdicts.py"), data_dir / "code" / "humaneval_plus.jsonl.gz"],
        input="".join(json.dumps(one) + "\n" for one in asked),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {
        (one["id"], one["n"]): (one["base"], one["base"] and one["plus"])
        for one in map(json.loads, said.stdout.splitlines())
    }
    tests = {row.id: plus_calls(row, judges.runner) for row in rows}
    verdicts = judges.runner.result([tests[one["id"]].judge(one["solution"]) for one in asked])
    ours = [(verdict.correct or verdict.base, verdict.correct) for verdict in verdicts]
    found = {(one["id"], one["n"]): mine for one, mine in zip(asked, ours)}
    assert len(theirs) == len(found) == 3 * 164
    differ = {key: (mine, theirs[key]) for key, mine in found.items() if mine != theirs[key]}
    # EvalPlus 0.3.1 passes over `find_zero` without noting it as done, so that no program can pass there.
    assert {key for key in differ if key[0] != "HumanEval/32"} == set(), differ
    assert not any(any(verdict) for key, verdict in theirs.items() if key[0] == "HumanEval/32")
