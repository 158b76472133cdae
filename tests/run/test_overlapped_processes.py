"""Two processes whose iterations overlap, one of them killed in every phase: the other ends, and nothing is lost."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.run.test_on_processes import ends, shared, start, started
from tests.run.test_overlapped_runs import OVERLAPPED, SMALL, check_buffers, records, rows
from tests.run.test_twenty_kills import TELLING
from tests.run.test_whole_loop import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]
FIXTURES = shared, started
ITERATIONS = 12  # a start gets one or two further
# In turn the first process, which writes, and the other. A stage is a phase; `round` is between two calls of decoding.
KILLS = [
    ("play", 2, 0), ("round", 20, 1), ("update", 2, 0), ("weights", 2, 1), ("save", 2, 0), ("save", 2, 1),
    ("evaluate", 1, 0), ("play", 2, 1), ("update", 2, 1),
]  # fmt: skip


def begin(shared: Path, workdir: Path) -> list[subprocess.Popen]:
    flags = SMALL | OVERLAPPED | {"pipeline.staleness": "2", "iterations": str(ITERATIONS), "eval.every": "1"}
    recipe = ["--config=configs/nano.py", *(f"--config.{name}={value}" for name, value in flags.items())]
    return start(shared, workdir, 2, program=("-c", textwrap.dedent(TELLING)), recipe=recipe)


def last(pattern: str, text: str) -> int:
    return max((int(number) for number in re.findall(pattern, text)), default=0)


def test_one_of_two_is_killed_in_every_phase(shared: Path, tmp_path: Path):
    workdir, played = tmp_path / "run", 0
    for stage, times, killed in KILLS:
        run = begin(shared, workdir)
        said = "".join(wait_for(run[killed], f"stage {stage}.") for _ in range(times))
        run[killed].kill()
        said += run[killed].communicate()[0]
        code, text = ends([run[1 - killed]])[0]
        assert code == 86 and f"error: process {killed} (" in text and "is dead: " in text, text
        of_first = said if killed == 0 else text
        # Of iterations that were played, at most the last one's checkpoint was still being written.
        assert last(r"resumed after iteration (\d+)", of_first) >= played - 1, of_first
        played = max(played, last(r"iteration (\d+)/", of_first))
    assert 2 < played < ITERATIONS, "the kills came one after another in one run"
    done = ends(begin(shared, workdir))
    assert [code for code, _ in done] == [0, 0], done
    assert f"finished after iteration {ITERATIONS} of {ITERATIONS}" in done[0][1]
    assert [row["iteration"] for row in rows(workdir) if row["iteration"]] == list(range(1, ITERATIONS + 1))
    assert any(row.get("learner/staleness/2/share") for row in rows(workdir))
    proposals = [(r["iteration"], r["kind"], r["index"]) for r in records(workdir) if r["role"] == "propose"]
    assert len(set(proposals)) == len(proposals) == 3 * 4 * ITERATIONS, "each iteration's are there once"
    check_buffers(workdir)
    schedule = [json.loads(line) for line in (workdir / "schedule.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in schedule] == list(range(1, ITERATIONS + 1))
    assert len({line["begun_after"] for line in schedule}) > 2
    assert any(verdicts for line in schedule for verdicts in line["rounds"])
