"""Real processes, with four virtual devices among them and gloo between, are one run: the same as of one process.

Threads in their place, for what needs no devices: test_together.py and tests/parallel/test_hosts.py.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.run.test_whole_loop import ROOT, TINY, environment, files_that_must_repeat, same, wait_for, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PATIENCE_S = 600
DEAD_AFTER = "--config.watchdog.process_s=10"  # not shorter: on a busy machine a process may stand still for seconds


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True, scope="module")
def started():
    """Every process, so that none outlives a test that failed."""
    yield STARTED
    for process in STARTED:
        process.kill()


STARTED: list[subprocess.Popen] = []


def start(
    shared: Path,
    workdir: Path | str,
    count: int,
    *flags: str,
    last: list[str] | None = None,
    missing: int = 0,
    where: dict[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "azr_jax.main"),
    recipe: Sequence[str] = (*TINY, "--config.rollout.max_prompt_tokens=512"),
):
    """All processes of a run, four devices in all; `last` are flags of the last one, so many are `missing`; `where` is
    the server of a bucket.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        join = [f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={count}"] if count > 1 else []
    # Compiled in half the time, without LLVM's help.
    devices = f"--xla_force_host_platform_device_count={4 // count} --xla_backend_optimization_level=0"
    command = [sys.executable, *program, *recipe, DEAD_AFTER, *flags, f"--workdir={workdir}", *join]
    run = [
        subprocess.Popen(
            [*command, *([f"--process={n}"] if join else []), *(last if last and n == count - 1 else [])],
            cwd=ROOT, env=environment(shared) | {"XLA_FLAGS": devices} | (where or {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for n in range(count - missing)
    ]  # fmt: skip
    STARTED.extend(run)
    return run


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def finish(shared: Path, workdir: Path, count: int, *flags: str) -> Path:
    done = ends(start(shared, workdir, count, *flags))
    assert [code for code, _ in done] == [0] * count, done
    assert "finished after iteration 3 of 3" in done[0][1]
    assert not any("iteration 1" in text for _, text in done[1:]), "only the first one speaks"
    return workdir


@pytest.fixture(scope="module")
def one(shared):
    return finish(shared, shared / "one", 1)


@pytest.fixture(scope="module")
def two(shared):
    return finish(shared, shared / "two", 2)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_train_what_one_trains(shared, one, two, count):
    several = two if count == 2 else finish(shared, shared / "several", count)
    check_alike(shared, several, one)


def test_processes_with_a_copy_of_the_learners_weights_each_train_what_one_trains(shared, one):
    """Each holds all weights and moments, as slices do: over two devices, where one process has them over four."""
    copies = shared / "copies"
    run = start(shared, copies, 2, "--config.mesh.data=2")
    wait_for(run[0], "iteration 1/3:")
    run[1].send_signal(signal.SIGTERM)
    assert [code for code, _ in ends(run)] == [0, 0]
    check_alike(shared, finish(shared, copies, 2, "--config.mesh.data=2"), one)


def check_alike(shared: Path, several: Path, one: Path) -> None:
    """Tasks and texts to the byte. Sums over devices go another way round between processes than inside one, and what
    the learner computes differs in its last digits: weights of 0.1 by up to 1e-8.
    """
    ours, theirs = files_that_must_repeat(several), files_that_must_repeat(one)
    metrics = [files.pop("metrics.jsonl").splitlines() for files in (ours, theirs)]
    rows, expected = ([json.loads(line) for line in lines] for lines in metrics)
    assert ours == theirs
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        differing = {name for name in row if row[name] != other[name]}
        assert all(name.startswith("learner/") for name in differing), differing
        np.testing.assert_allclose([row[name] for name in row], [other[name] for name in row], rtol=1e-4, atol=2e-6)
    trained, alone = weights(shared, several), weights(shared, one)
    assert trained.keys() == alone.keys()
    for name, weight in trained.items():
        np.testing.assert_allclose(weight, alone[name], rtol=0, atol=1e-6, err_msg=name)


def test_asked_to_leave_killed_and_killed_again_it_ends_as_if_never_stopped(shared, two):
    workdir = shared / "stopped"
    # A machine is taken away: one process is told so, and both save and leave.
    run = start(shared, workdir, 2)
    wait_for(run[0], "iteration 1/3:")
    run[1].send_signal(signal.SIGTERM)
    done = ends(run)
    assert [code for code, _ in done] == [0, 0] and "stopped after iteration" in done[0][1], done
    # One is killed: the other says who, and ends. Then the first one, which coordinates.
    for killed, left in ((1, 0), (0, 1)):
        run = start(shared, workdir, 2)
        wait_for(run[0], "resumed after iteration")
        run[killed].kill()
        code, text = ends([run[left]])[0]
        assert code == 86, text
        assert f"error: process {killed} (" in text and f"pid {run[killed].pid}) is dead: " in text, text
        run[killed].communicate()
    finish(shared, workdir, 2)
    assert files_that_must_repeat(workdir) == files_that_must_repeat(two)
    assert same(weights(shared, workdir), weights(shared, two))


def test_processes_started_with_different_configs_are_refused_by_both(shared, tmp_path):
    done = ends(start(shared, tmp_path / "run", 2, last=["--config.learner.lr=0.5"]))
    for code, text in done:
        assert code == 2 and "Traceback" not in text, text
        assert "error: learner.lr: process 0 (" in text and "has 0.5; should be the same in all processes" in text
    assert not (tmp_path / "run").exists()


def test_a_process_that_never_comes_ends_the_one_that_waits_for_it(shared, tmp_path):
    [(code, text)] = ends(start(shared, tmp_path / "run", 2, "--join_timeout_s=3", missing=1))
    assert code == 86 and "error: not all processes came within --join_timeout_s=3" in text, text
    assert not (tmp_path / "run").exists()


def test_processes_that_overlap_begin_the_same_and_play_what_one_played(shared):
    """Of two processes each judges half of the programs; told when one process had its verdicts, they are that run."""
    flags = ["--config.pipeline.mode=overlapped", "--config.pipeline.staleness=2"]
    alone = shared / "alone"
    done = ends(start(shared, alone, 1, *flags))
    assert [code for code, _ in done] == [0], done
    together = shared / "together"
    done = ends(start(shared, together, 2, *flags, f"--config.pipeline.follow={alone / 'schedule.jsonl'}"))
    assert [code for code, _ in done] == [0, 0], done
    ours, theirs = files_that_must_repeat(together), files_that_must_repeat(alone)
    rows = [[json.loads(line) for line in files.pop("metrics.jsonl").splitlines()] for files in (ours, theirs)]
    assert ours == theirs
    staleness = [[row["learner/staleness/mean"] for row in of_one if row["iteration"]] for of_one in rows]
    assert staleness[0] == pytest.approx(staleness[1], rel=1e-6)  # means, added up in another order
    assert staleness[0][-1] > 0
