"""A run goes on with another number of processes, longer or shorter than it was begun: it is the run of one process.

Real ones with gloo between them and four virtual devices in all, on a disk and in a bucket.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from azr_jax.storage.bucket import Bucket
from azr_jax.storage.mirror import Mirror
from tests.run.test_on_processes import check_alike, ends, one, shared, start, started
from tests.run.test_whole_loop import files_that_must_repeat, wait_for
from tests.storage.conftest import client, fake_gcs, new_bucket

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]
FIXTURES = one, shared, started, fake_gcs


class Somewhere:
    """A workdir on a disk or in a bucket, and a folder that shows what is in it."""

    def __init__(self, shared: Path, folder: Path, server: str):
        self._shared, self._folder, self._server = shared, folder, server
        self.address: Path | str = folder
        self.where: dict[str, str] = {}
        if server:
            name = new_bucket(server)
            self.address = f"gs://{name}/run"
            self.where = {"STORAGE_EMULATOR_HOST": server, "TENSORSTORE_GCS_HTTP_URL": server}

    def begin(self, processes: int, iterations: int):
        flags = (f"--config.iterations={iterations}", "--config.checkpoint.every=1")
        return start(self._shared, self.address, processes, *flags, where=self.where)

    def play(self, processes: int, iterations: int) -> str:
        done = ends(self.begin(processes, iterations))
        assert [code for code, _ in done] == [0] * processes, done
        return done[0][1]

    def seen(self) -> Path:
        if self._server:
            Mirror(Bucket(str(self.address), client(self._server)), folder=self._folder).pull()
        return self._folder


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> Somewhere:
    server = request.getfixturevalue("fake_gcs") if request.param == "bucket" else ""
    return Somewhere(shared, tmp_path / "run", server)


def shown_in_report(folder: Path) -> str:
    """The text beside the config, as the page has it."""
    page = (folder / "report.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    return json.loads(data[1])["runs"][0]["diff"]


def history(folder: Path) -> list[tuple[int, list[int] | None]]:
    """(from which iteration, what `iterations` was and became)."""
    lines = [json.loads(line) for line in (folder / "config_changes.jsonl").read_text().splitlines()]
    return [(line["from"], line["changes"].get("iterations")) for line in lines]


def check(shared: Path, folder: Path, one: Path) -> None:
    """The weights are those of the last checkpoint, and of a bucket the mirror leaves these out."""
    if (folder / "checkpoints").exists():
        check_alike(shared, folder, one)
        return
    ours, theirs = files_that_must_repeat(folder), files_that_must_repeat(one)
    for files in (ours, theirs):
        rows = [json.loads(line) for line in files.pop("metrics.jsonl").splitlines()]
        files["played"] = [{name: row[name] for name in row if not name.startswith("learner/")} for row in rows]
    assert ours == theirs


def test_begun_by_two_and_made_longer_by_one(place: Somewhere, shared: Path, one: Path):
    assert "finished after iteration 2 of 2" in place.play(2, 2)
    said = place.play(1, 3)
    assert "resumed after iteration 2, with iterations 2 -> 3" in said and "finished after iteration 3 of 3" in said
    folder = place.seen()
    check(shared, folder, one)
    assert history(folder) == [(3, [2, 3])]
    assert "from iteration 3 on: iterations  2 -> 3" in shown_in_report(folder)


def test_begun_by_one_made_shorter_by_two_and_then_shorter_than_it_is(place: Somewhere, shared: Path, one: Path):
    [killed] = place.begin(1, 50)
    wait_for(killed, "iteration 2/50:")
    killed.kill()
    killed.communicate()
    said = place.play(2, 3)
    assert "resumed after iteration " in said and "with iterations 50 -> 3" in said
    assert "finished after iteration 3 of 3" in said
    folder = place.seen()
    check(shared, folder, one)
    before, [(first, changed)] = files_that_must_repeat(folder), history(folder)
    assert first in (2, 3) and changed == [50, 3]
    said = place.play(1, 2)
    assert "finished after iteration 3, which is more than iterations=2" in said
    folder = place.seen()
    assert files_that_must_repeat(folder) == before, "nothing was taken back"
    assert history(folder) == [(first, [50, 3]), (4, [3, 2])]
    assert "from iteration 4 on: iterations  3 -> 2" in shown_in_report(folder)
