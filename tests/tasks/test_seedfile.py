"""The public seed-buffer format, in and out, and the published files themselves where they are at hand."""

import gzip
import json
import os
from pathlib import Path

import pytest

from azr_jax.tasks.buffers import read_seed_file, write_seed_file
from azr_jax.tasks.seedfile import SeedFileError, public_row
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Triplet

DATA = Path(os.environ.get("AZR_DATA", Path(__file__).parents[3] / "shared" / "data")) / "azr_seeds"

TRIPLET = Triplet("import math\ndef f(x):\n    return math.floor(x)", "1.5", "1", "int:1")
INDUCTION = InductionTask("def f(x):\n    return -x", ("1", "'é'"), ("-1", "2"), ("a", "b"), "turns\nsigns", 1)


@pytest.mark.parametrize("name", ["seeds.jsonl", "seeds.jsonl.gz"])
def test_what_is_written_reads_back_as_proposals(tmp_path, name):
    assert write_seed_file(tmp_path / name, map(public_row, [TRIPLET, INDUCTION])) == 2
    assert list(read_seed_file(tmp_path / name)) == [
        Proposal(Kind.DEDUCTION, TRIPLET.program, ("1.5",)),
        Proposal(Kind.INDUCTION, INDUCTION.program, ("1", "'é'"), "turns\nsigns"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == [name], "no temporary file stays behind"


def test_rows_have_the_fields_of_the_published_files(tmp_path):
    write_seed_file(tmp_path / "a.jsonl", map(public_row, [TRIPLET, INDUCTION]))
    single, several = (json.loads(line) for line in (tmp_path / "a.jsonl").open())
    assert single == {
        "snippet": TRIPLET.program, "input": "1.5", "output": "1", "imports": ["import math"],
        "original_snippet": TRIPLET.program, "composite_functions": [],
    }  # fmt: skip
    assert several == {
        "snippet": INDUCTION.program, "inputs": ["1", "'é'"], "outputs": ["-1", "2"], "message": "turns\nsigns",
        "imports": [],
    }  # fmt: skip


def test_imports_listed_beside_the_program_are_put_in_front_unless_it_has_them(tmp_path):
    rows = [
        {"snippet": "def f(x):\n    return math.pi", "input": "1", "output": "", "imports": ["import math"]},
        {
            "snippet": "import math\ndef f(x):\n    return math.pi",
            "input": "1",
            "output": "",
            "imports": ["import math"],
        },
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = read_seed_file(tmp_path / "a.jsonl")
    assert first.program == second.program == rows[1]["snippet"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "is not JSON"),
        ("[1]", "is a list, should be an object"),
        ('{"input": "1"}', "snippet is None, should be a text"),
        ('{"snippet": "x", "input": 1}', "input is 1, should be a text"),
        ('{"snippet": "x", "inputs": []}', "inputs should be a list of texts, not empty"),
        ('{"snippet": "x", "inputs": ["1"]}', "message is None, should be a text"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_line(tmp_path, line, wrong):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"snippet": "x", "input": "1"}\n\n' + line + "\n")
    with pytest.raises(SeedFileError, match=rf"bad\.jsonl: line 3: {wrong}".replace("[", r"\[")):
        list(read_seed_file(file))


@pytest.mark.skipif(not DATA.is_dir(), reason="the published seed files are not here (AZR_DATA names their folder)")
@pytest.mark.parametrize(
    ("name", "rows", "kind"),
    [
        ("7b_seed_io", 256, Kind.DEDUCTION),
        ("llama_64_seed_io", 64, Kind.DEDUCTION),
        ("7b_code_f_seed_io", 256, Kind.INDUCTION),
        ("llama_64_code_f_seed_io", 64, Kind.INDUCTION),
    ],
)
def test_the_published_files_are_read_whole(name, rows, kind):
    path = DATA / f"{name}.jsonl.gz"
    proposals = list(read_seed_file(path))
    assert len(proposals) == rows and {proposal.kind for proposal in proposals} == {kind}
    with gzip.open(path, "rt") as file:
        for proposal, line in zip(proposals, file, strict=True):
            assert proposal.program.endswith(json.loads(line)["snippet"])
    if kind == Kind.INDUCTION:
        assert [len(proposal.inputs) for proposal in proposals[:2]] == [6, 10]
