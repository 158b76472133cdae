"""Does the executor outlive what a machine does to it: self-play under faults, and the same without, compared by bytes.

    python benchmarks/chaos.py --workdir=<scratch> [--minutes=20] [--config=configs/nano.py] [--seed=0]

For so many minutes a run plays while, a few times a second, one of these happens to its executor: a zygote is killed,
all of them are, one is stopped, a running program is killed or stopped, a zygote gets into a memory group so small that
the kernel ends what it starts, /tmp is full (the run has one of its own) and empty again. Then the run is stopped by
Ctrl-C, and another plays as many iterations undisturbed. Every line of records.jsonl and metrics.jsonl has to be the
same in both. Needs root, for the private /tmp and the memory group; what cannot be made is named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_TMP_MB = 8
_GROUPS = (  # version 1 and 2 of control groups: the folder, the file of the limit
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.max"),
)


def start(options: argparse.Namespace, workdir: Path) -> subprocess.Popen[bytes]:
    """A run in a mount namespace whose /tmp is small and its own."""
    flags = ["--config.iterations=100000", "--config.learner.schedule=constant", "--config.eval.every=0"]
    command = [sys.executable, "-m", "azr_jax.main", f"--config={options.config}", f"--workdir={workdir}", *flags]
    inside = f'mount -t tmpfs -o size={_TMP_MB}m none /tmp && cd {ROOT} && exec "$@"'
    with Path(f"{workdir}.log").open("wb") as log:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", inside, "sh", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
        )


def played(workdir: Path) -> int:
    """Iterations that are whole: metrics are written at the end of one."""
    with contextlib.suppress(OSError):
        return (workdir / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


# ---------------------------------------------------------------------------------------------- processes
def table() -> dict[int, list[int]]:
    """Children by parent."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(entry.name))
    return found


def zygotes(trainer: int) -> tuple[list[int], list[int]]:
    """The processes that fork programs, and the programs now running."""
    below = table()
    forking, running = [], []
    for outer in below.get(trainer, []):
        with contextlib.suppress(OSError):
            if b"azr_jax.executor.zygote" in Path(f"/proc/{outer}/cmdline").read_bytes():
                inner = below.get(outer, [])[:1] or [outer]
                forking += inner
                running += [child for one in inner for child in below.get(one, [])]
    return forking, running


def signal_one(number: int, process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


class Faults:
    """What is done to the executor of a run, by chance, and how often it was."""

    def __init__(self, trainer: int, seed: int) -> None:
        self._trainer, self._draw = trainer, random.Random(seed)
        self.done: Counter[str] = Counter()
        self._filler = Path(f"/proc/{trainer}/root/tmp/fill")
        self._group = self._make_group()

    def _make_group(self) -> Path | None:
        for folder, limit in _GROUPS:
            group = Path(folder) / f"azr_jax_chaos_{os.getpid()}"
            with contextlib.suppress(OSError):
                if (Path(folder) / "cgroup.procs").exists():
                    group.mkdir()
                    (group / limit).write_text("262144")
                    return group
        return None

    def one(self) -> None:
        forking, running = zygotes(self._trainer)
        name, fault = self._draw.choice(
            [
                ("zygote killed", lambda: self._some(signal.SIGKILL, forking)),
                ("zygote stopped", lambda: self._some(signal.SIGSTOP, forking)),
                ("program killed", lambda: self._some(signal.SIGKILL, running)),
                ("program stopped", lambda: self._some(signal.SIGSTOP, running)),
                ("all zygotes killed", lambda: [signal_one(signal.SIGKILL, one) for one in forking]),
                ("out of memory", lambda: self._small_group(forking)),
                ("/tmp full", self._fill),
                ("/tmp empty", lambda: self._filler.unlink()),
            ]
        )
        call: Callable[[], object] = fault
        with contextlib.suppress(OSError, IndexError):
            call()
            self.done[name] += 1

    def _some(self, number: int, processes: list[int]) -> None:
        signal_one(number, self._draw.choice(processes))

    def _small_group(self, forking: list[int]) -> None:
        if self._group is None:
            raise OSError("no memory group")
        (self._group / "cgroup.procs").write_text(str(self._draw.choice(forking)))

    def _fill(self) -> None:
        with self._filler.open("wb") as file:
            while True:  # until there is no room
                try:
                    file.write(bytes(1 << 20))
                    file.flush()
                except OSError:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._filler.unlink()
        if self._group is not None:
            for process in (self._group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self._group.parent / "cgroup.procs").write_text(process)
            with contextlib.suppress(OSError):
                self._group.rmdir()


# ---------------------------------------------------------------------------------------------- the two runs
def stop(run: subprocess.Popen[bytes]) -> int:
    """By Ctrl-C, as a person does: the iteration is played to its end."""
    run.send_signal(signal.SIGINT)
    try:
        return run.wait(600)
    except subprocess.TimeoutExpired:
        run.kill()
        return run.wait()


def under_faults(options: argparse.Namespace, workdir: Path) -> tuple[int, Counter[str]]:
    """Its exit code, and what was done to it from its first iteration on."""
    run = start(options, workdir)
    draw = random.Random(options.seed)
    while run.poll() is None and played(workdir) < 1:
        time.sleep(0.5)
    faults = Faults(run.pid, options.seed)
    end = time.monotonic() + 60 * options.minutes
    try:
        while run.poll() is None and time.monotonic() < end:
            faults.one()
            time.sleep(draw.choice((0.05, 0.2, 0.5, 1.0)))
    finally:
        faults.close()
    return stop(run), faults.done


def undisturbed(options: argparse.Namespace, workdir: Path, iterations: int) -> int:
    run = start(options, workdir)
    while run.poll() is None and played(workdir) < iterations:
        time.sleep(0.5)
    return stop(run)


def lines_of(path: Path, iterations: int) -> list[dict[str, Any]]:
    """Of the first so many iterations."""
    lines = map(json.loads, path.read_bytes().splitlines())
    return [line for line in lines if line.get("iteration", 0) <= iterations]


def compare(one: Path, other: Path) -> dict[str, int]:
    iterations = min(played(one), played(other))
    report = {"iterations": iterations}
    for name in ("records", "metrics"):
        a, b = (lines_of(folder / f"{name}.jsonl", iterations) for folder in (one, other))
        report[f"{name}_lines"] = len(a)
        report[f"{name}_that_differ"] = sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))
    return report


def executor_counts(workdir: Path) -> dict[str, float]:
    """What the executor counted up to the last iteration."""
    last = json.loads((workdir / "timings.jsonl").read_bytes().splitlines()[-1])
    wanted = (
        "zygotes_replaced",
        "second_tries",
        "runs",
        "own_errors",
        "verify/crashed",
        "validate/crashed",
        "kills/crashed",
    )
    return {name: last.get(f"executor/{name}", 0.0) for name in wanted}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True, help="a folder for both runs, made anew")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--config", default="configs/nano.py")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    options = parser.parse_args()
    for name, folder in (("this checkout", ROOT), ("--workdir", options.workdir.resolve())):
        if folder.is_relative_to("/tmp"):
            parser.error(f"{name} is {folder}: should not lie in /tmp, of which the run has one of its own")
    if options.workdir.exists():
        parser.error(f"--workdir={options.workdir} is there already: should be a folder that this makes")
    options.workdir.mkdir(parents=True)
    disturbed, quiet = options.workdir.resolve() / "disturbed", options.workdir.resolve() / "quiet"
    code, done = under_faults(options, disturbed)
    code_quiet = undisturbed(options, quiet, played(disturbed))
    report = {"exit": code, "exit_quiet": code_quiet} | compare(disturbed, quiet) | executor_counts(disturbed)
    report |= {f"times {name}": count for name, count in sorted(done.items())}
    for name, value in report.items():
        print(f"{name:28} {value:10g}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
