"""benchmarks/device on a CPU: what it will do on a GPU machine, in small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEVICE = ROOT / "benchmarks" / "device"
sys.path.insert(0, str(DEVICE))

import pack  # noqa: E402
import run  # noqa: E402


@pytest.fixture
def packed(tmp_path):
    """Three files of random lengths, cut into nine pieces."""
    files = []
    for number, size in enumerate((70_001, 5, 33_333)):
        files.append(tmp_path / f"part{number}.whl")
        files[-1].write_bytes(bytes((number + at * at) % 251 for at in range(size)))
    out = tmp_path / "packed"
    (out / "00").mkdir(parents=True)
    pack.cut(files, out)
    return out, files


def test_pieces_join_to_the_files_that_were_cut(packed, tmp_path):
    out, files = packed
    sizes = [(out / f"{number:02d}" / "piece").stat().st_size for number in range(1, 10)]
    assert max(sizes) - min(sizes) < 10
    run.join(out, tmp_path / "joined")
    assert {file.name: file.read_bytes() for file in files} == {
        file.name: file.read_bytes() for file in (tmp_path / "joined").iterdir()
    }


def test_pieces_that_would_not_travel_are_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST", 1000)
    with pytest.raises(SystemExit, match="bytes each: should be 1000 at most"):
        pack.cut(packed[1], tmp_path)


def test_a_missing_piece_is_named(packed, tmp_path):
    out, _ = packed
    (out / "04" / "piece").unlink()
    with pytest.raises(SystemExit, match=r"not there: .*04/piece; 9 pieces are wanted"):
        run.join(out, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_damaged_piece_is_named(packed, tmp_path):
    out, _ = packed
    piece = out / "07" / "piece"
    piece.write_bytes(b"x" + piece.read_bytes()[1:])
    with pytest.raises(SystemExit, match=r"07/piece: sha256 is .*damaged on its way"):
        run.join(out, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_what_machines_lack_comes_in_the_versions_that_are_tested():
    wanted = pack.requirements()
    assert "transformers>=5.20,<6" in wanted and "math-verify>=0.9,<0.10" in wanted and "dm-tree" in wanted


def test_an_unknown_part_is_refused(tmp_path):
    command = [sys.executable, str(DEVICE / "run.py"), str(tmp_path / "out"), "--parts=agree,play_more"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode and "--parts=play_more: should be some of unpack, agree" in refused.stderr
    assert not (tmp_path / "out").exists()


def figures_of(out, parts, seconds, *fields):
    command = [sys.executable, str(DEVICE / "run.py"), str(out), "--config=configs/nano.py", "--slots=2,8"]
    command += [f"--parts={parts}", f"--seconds={seconds}", *(f"--config.{field}" for field in fields)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_part_finds_its_figures(tmp_path):
    found = figures_of(tmp_path, "agree,engine,update", 900, "learner.row_tokens=640")
    found |= figures_of(tmp_path, "play", 40, "batch_size=8", "eval.rows=5", "eval.every=1")
    assert not [one for part in found.values() for one in part if "failed" in one], found
    (agree,) = found["agree"]
    assert agree["tokens"] > 2000 and agree["gap_largest"] < 1e-3
    assert [(one["slots"], one["attention"]) for one in found["engine"]] == [
        (2, "xla"),
        (2, "gpu"),
        (8, "xla"),
    ]
    assert found["update"][0]["samples_per_s"] > 0
    *held_out, last = found["play"]
    assert held_out[0]["iteration"] == 0 and "eval/nano/deduction/accuracy" in held_out[0]
    assert last["iterations"] >= 1
    kept = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text().splitlines()]
    assert [line["part"] for line in kept] == [part for part, some in found.items() for _ in some]


@pytest.mark.slow
def test_a_part_that_runs_out_of_time_is_named_and_the_next_one_begins(tmp_path):
    found = figures_of(tmp_path, "engine,update", 6)
    assert found["engine"] == [{"failed": "after 2 s"}] and "failed" in found["update"][-1]
