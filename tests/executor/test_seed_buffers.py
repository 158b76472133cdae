"""The published seed buffers: what is right in them is accepted, and a perfect answer is always judged correct."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import plain_python
import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet, Validation

# Refusals we stand by although the stored text is what plain Python prints: the list of banned names, an induction
# row with nothing to induce, an output that is no plain value (dict_keys), and a program that writes a file.
OUR_LIMITS = {"banned import", "banned name", "too few inputs", "all outputs equal", "output not plain"}


def refused_wrongly(right: list[int], validations: list[Validation]) -> list[tuple[int, Validation]]:
    refused = [(n, validations[n]) for n in right if validations[n].task is None]
    return [(n, v) for n, v in refused if v.reason not in OUR_LIMITS and "PermissionError" not in v.detail]


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def report(name: str, validations: list[Validation]) -> None:
    print(f"\n{name}: {dict(Counter(v.reason or 'accepted' for v in validations))}")
    for number, v in enumerate(validations):
        if v.task is None:
            print(f"  row {number}: {v.reason} {v.detail[:80]}")


@pytest.mark.parametrize("name", ["7b_seed_io", "llama_64_seed_io"])
def test_triplets(executor, data, name):
    rows = read(data / "azr_seeds" / f"{name}.jsonl.gz")
    programs = [(r["snippet"], [r["input"]]) for r in rows]
    plain = [plain_python.reexecute(programs, seed) for seed in (1, 2)]
    futures = [executor.submit(Validate(Proposal(Kind.DEDUCTION, r["snippet"], (r["input"],)))) for r in rows]
    validations = [f.result() for f in futures]
    report(name, validations)
    right = [n for n, r in enumerate(rows) if plain[0][n] == plain[1][n] == [r["output"]]]
    print(f"  stored output right: {len(right)} of {len(rows)}")
    assert refused_wrongly(right, validations) == []
    kept = [n for n in right if validations[n].task is not None]
    perfect = {Kind.DEDUCTION: [rows[n]["output"] for n in kept], Kind.ABDUCTION: [rows[n]["input"] for n in kept]}
    for kind, texts in perfect.items():
        asked = [executor.submit(Verify(kind, validations[n].task, Answer(kind, t))) for n, t in zip(kept, texts)]
        assert [(n, v) for n, f in zip(kept, asked) if not (v := f.result()).correct] == []
        print(f"  perfect {kind} answers judged correct: {len(kept)} of {len(kept)}")
    # Accepted against a stored text that is cut, empty or order-dependent: our own output must still be answerable.
    for task in [v.task for v in validations if isinstance(v.task, Triplet)]:
        assert executor.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, task.output))).result().correct


@pytest.mark.parametrize(("name", "tables"), [("7b_code_f_seed_io", 3), ("llama_64_code_f_seed_io", 1)])
def test_induction(executor, data, name, tables):
    """As their code pairs them. By our rule on top: colour names, twice; days of the week; three inputs left."""
    rows = read(data / "azr_seeds" / f"{name}.jsonl.gz")
    programs = [(r["snippet"], r["inputs"]) for r in rows]
    plain = [plain_python.reexecute(programs, seed) for seed in (1, 2)]
    proposals = [Proposal(Kind.INDUCTION, r["snippet"], tuple(r["inputs"]), r["message"]) for r in rows]
    validations = [f.result() for f in [executor.submit(Validate(p, pairs="as_given")) for p in proposals]]
    report(name, validations)
    strict = [f.result() for f in [executor.submit(Validate(p)) for p in proposals]]
    lost = [ours for ours, theirs in zip(strict, validations) if theirs.task and not ours.task]
    assert [one.reason for one in lost] == ["a table of constants"] * tables
    right = [n for n, r in enumerate(rows) if plain[0][n] == plain[1][n] == r["outputs"]]
    print(f"  stored outputs right: {len(right)} of {len(rows)}")
    assert refused_wrongly(right, validations) == []
    tasks = [v.task for v in validations if isinstance(v.task, InductionTask)]
    judged = [executor.submit(Verify(Kind.INDUCTION, t, Answer(Kind.INDUCTION, t.program))) for t in tasks]
    assert [(t, v) for t, j in zip(tasks, judged) if not (v := j.result()).correct] == []
    print(f"  gold programs judged correct: {len(tasks)} of {len(tasks)}")


def test_cruxeval(executor, data):
    """400 rows: the gold output and the gold input are judged right, and the output of the next row is not."""
    rows = read(data / "cruxeval_public.jsonl.gz")
    proposals = [Proposal(Kind.DEDUCTION, r["code"], (r["input"],)) for r in rows]
    validations = [f.result() for f in [executor.submit(Validate(p)) for p in proposals]]
    report("cruxeval", validations)
    tasks = [v.task for v in validations]
    assert all(isinstance(t, Triplet) for t in tasks)
    outputs = [
        executor.submit(Verify(Kind.DEDUCTION, t, Answer(Kind.DEDUCTION, r["output"]))) for t, r in zip(tasks, rows)
    ]
    inputs = [
        executor.submit(Verify(Kind.ABDUCTION, t, Answer(Kind.ABDUCTION, r["input"]))) for t, r in zip(tasks, rows)
    ]
    assert sum(f.result().correct for f in outputs) == len(rows) == 400
    assert sum(f.result().correct for f in inputs) == 400
    for row, other, task in zip(rows, rows[1:], tasks):
        if row["output"] != other["output"]:
            wrong = executor.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, other["output"])))
            expected = eval(row["output"]) == eval(other["output"])
            assert wrong.result().correct == expected
