"""Real processes of one run with its workdir in a bucket: killed, dispossessed, and in the end as on a disk."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from azr_jax.models.random_folder import write_random_folder
from azr_jax.models.spec import PRESETS
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.lease import NAME
from azr_jax.storage.mirror import Mirror
from tests.run import test_on_processes as processes
from tests.run.test_whole_loop import files_that_must_repeat
from tests.storage.conftest import client, new_bucket
from tests.storage.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
ITERATIONS = "--config.iterations=4"


@pytest.fixture(autouse=True)
def none_outlives():
    yield
    for process in processes.STARTED:
        process.kill()


class Crew:
    """The same command, again and again: what stands in the bucket after each of its ends."""

    def __init__(self, proxy: Proxy, shared: Path, count: int = 2):
        self.proxy, self.shared, self.count, self.term, self.kept = proxy, shared, count, 0, [0]
        name = new_bucket(proxy.url)
        self.url = f"gs://{name}/run"
        self.bucket = Bucket(self.url, client(proxy.upstream))

    def start(self) -> list[subprocess.Popen]:
        self.term += 1
        where = {"STORAGE_EMULATOR_HOST": self.proxy.url, "TENSORSTORE_GCS_HTTP_URL": self.proxy.url}
        where["JAX_COMPILATION_CACHE_DIR"] = ""  # then they are kept in the workdir
        self.since, self.compiled = len(self.proxy.seen), [each.name for each in self.bucket.list("compiled/")[0]]
        return processes.start(self.shared, self.url, self.count, ITERATIONS, where=where)

    def whole(self) -> list[int]:
        """The checkpoints that are complete."""
        names = [each.name for each in self.bucket.list("checkpoints/")[0]]
        return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"\w+/(\d+)/commit_success.txt", name)))

    def share_of_compiled_read(self) -> float:
        """By this start, of those that were there before it."""
        read = [one.path for one in self.proxy.seen[self.since :] if one.method == "GET" and "alt=media" in one.path]
        found = [name for name in self.compiled if any(f"/run/{name}" in path for path in read)]
        print(f"{len(found)} of {len(self.compiled)} compiled programs were read")
        return len(found) / len(self.compiled)

    def in_the_save_of(self, iteration: int, run: list[subprocess.Popen], victims: tuple[int, ...]) -> None:
        """They are killed as one array more is on its way."""
        arrays = itertools.count(1)

        def look(method: str, path: str) -> None:
            if method == "POST" and f"/checkpoints/{iteration}/" in path and next(arrays) == 5:
                kill(run, victims)

        self.proxy.look = look
        until(lambda: run[victims[0]].poll() is not None)
        self.proxy.look = lambda method, path: None

    def after_the_save_of(self, iteration: int, run: list[subprocess.Popen], victims: tuple[int, ...]) -> None:
        until(lambda: iteration in self.whole())
        kill(run, victims)

    def check_ends(self, run: list[subprocess.Popen], victims: tuple[int, ...], last: int) -> None:
        """Who is left says who is dead, and asks to be started again; nobody else has the lease."""
        done = processes.ends(run)
        for index in set(range(self.count)) - set(victims):
            code, text = done[index]
            assert code == 86, text
            assert f"error: process {victims[0]} (" in text and f"pid {run[victims[0]].pid}) is dead: " in text, text
        owner = json.loads(self.bucket.read(NAME))
        # The first one may have let go of it as it fell, if the runtime told it of the other before the heartbeat did.
        assert (owner.get("process", run[0].pid), owner["term"]) == (run[0].pid, self.term)
        self.check_went_on(done[0][1])
        assert self.kept[-1] == last

    def check_went_on(self, said: str) -> None:
        """From the last checkpoint that was whole before this start."""
        resumed = re.findall(r"resumed after iteration (\d+)", said)
        assert [int(number) for number in resumed] == ([self.kept[-1]] if self.kept[-1] else []), said
        self.kept = self.whole() or [0]


def kill(run: list[subprocess.Popen], victims: tuple[int, ...]) -> None:
    for index in victims:
        run[index].kill()


def until(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < processes.PATIENCE_S
        time.sleep(0.05)


# Of two and of four processes: the kills in the first save, and those after the save of an iteration.
IN_A_SAVE = {2: [(0,), (1,)], 4: [(0,), (3,)]}
BETWEEN = {2: [(1, (1,)), (2, (0,)), (3, (0, 1))], 4: [(1, (2,)), (2, (0, 1, 2, 3)), (3, (0,))]}


@pytest.mark.parametrize("count", [2, 4])
def test_killed_in_a_save_and_between_saves_processes_lose_what_was_not_saved_and_no_more(
    proxy: Proxy, tmp_path: Path, count: int
):
    """Each has its own folder, shards and log; the first one owns the bucket."""
    write_random_folder(PRESETS["tiny"], tmp_path / "cache/azr_jax/models/random-tiny")  # one process alone can
    disk = tmp_path / "disk"
    done = processes.ends(processes.start(tmp_path, disk, count, ITERATIONS))
    assert [code for code, _ in done] == [0] * count, done
    crew = Crew(proxy, tmp_path, count)
    for victims in IN_A_SAVE[count]:
        run = crew.start()
        crew.in_the_save_of(1, run, victims)
        crew.check_ends(run, victims, 0)
        assert crew.bucket.list("checkpoints/1/")[0], "it was in its save"
    for iteration, victims in BETWEEN[count]:
        run = crew.start()
        crew.after_the_save_of(iteration, run, victims)
        crew.check_ends(run, victims, iteration)
    done = processes.ends(crew.start())
    assert [code for code, _ in done] == [0] * count, done
    crew.check_went_on(done[0][1])
    assert "finished after iteration 4 of 4" in done[0][1]
    assert not crew.bucket.list("compiled/")[0], "on CPUs the first would load what the others compile"
    assert json.loads(crew.bucket.read(NAME)) == {"term": crew.term}, "free"
    Mirror(crew.bucket, folder=tmp_path / "bucket").pull()
    assert files_that_must_repeat(tmp_path / "bucket") == files_that_must_repeat(disk)
    logs = {each.name.partition(".log")[0] for each in crew.bucket.list("logs/")[0]}
    assert logs == {f"logs/process_{index}" for index in range(count)}


def test_a_start_that_is_no_first_one_loads_what_was_compiled_from_the_bucket(proxy: Proxy, tmp_path: Path):
    crew = Crew(proxy, tmp_path, 1)
    run = crew.start()
    until(lambda: 1 in crew.whole())
    kill(run, (0,))
    processes.ends(run)
    done = processes.ends(crew.start())
    assert [code for code, _ in done] == [0], done
    assert crew.share_of_compiled_read() > 0.5, "all but what seeding takes"


def test_two_processes_that_lost_their_bucket_both_end_in_one_line_and_write_nothing(proxy: Proxy, tmp_path: Path):
    """With code 2: they must not be started again. It was a traceback and 1."""
    write_random_folder(PRESETS["tiny"], tmp_path / "cache/azr_jax/models/random-tiny")
    crew = Crew(proxy, tmp_path)
    run = crew.start()
    until(lambda: 1 in crew.whole())
    crew.bucket.write(NAME, json.dumps({"token": "x", "process": 7, "host": "far-away", "term": 9}).encode())
    before = {each.name for each in crew.bucket.list("metrics.jsonl/")[0]}
    done = processes.ends(run)
    for code, text in done:
        assert code == 2 and "Traceback" not in text, text
        (line,) = [line for line in text.splitlines() if line.startswith("error:")]
        assert f"--workdir={crew.url}: process 7 on far-away" in line and "has taken this run over" in line
    assert {each.name for each in crew.bucket.list("metrics.jsonl/")[0]} == before
