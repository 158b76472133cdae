"""How fast the executor runs real programs with every layer on, beside the floor: an empty child of the same zygote.

    python benchmarks/executor.py [--data FOLDER] [--seconds 8] [--soak 100000] [--packages numpy]

Programs are those of the published seed buffers under --data (default $AZR_DATA, or ../shared/data), each made
different by a comment so that the cache answers nothing. The floor is a zygote that forks, reads one message in the
child, exits and waits: no jail, no program. Rates are per core of work: runs a second with one worker. `--soak N`
runs N programs in a row and reports memory, descriptors and processes before and after. `--packages` adds what a run
costs with packages that programs may import. `honest_behind_ten_ms` is what a trivial program takes behind ten that
never end, with two workers; `proposal_limits` how many time limits of a worker the dearest proposal took. One table,
then one line of JSON. Compare ratios, not rates: both halves run in turns on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import selectors
import statistics
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.executor.cases import ChildRequest
from azr_jax.executor.installed import paths_of
from azr_jax.executor.jobs import Run, Validate
from azr_jax.executor.link import Link, ZygoteSettings
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.types import Kind, Proposal

_WINDOW = 64  # jobs in flight, so that a worker never waits for the asking


def programs(folder: Path) -> list[tuple[str, str]]:
    found = []
    for name in ("7b_seed_io", "llama_64_seed_io"):
        with gzip.open(folder / "azr_seeds" / f"{name}.jsonl.gz", "rt") as rows:
            found += [(r["snippet"], r["input"]) for r in map(json.loads, rows)]
    return [(program, given) for program, given in found if "numpy" not in program and "cv2" not in program]


def cpu_s() -> float:
    """Processor time of this process and of all below it, their ended children included."""
    ticks = 0
    for process in below(os.getpid()):
        with contextlib.suppress(OSError):  # a child that has just ended: it counts with its zygote
            times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
            ticks += sum(map(int, times if process != os.getpid() else times[:2]))
    return ticks / os.sysconf("SC_CLK_TCK")


def floor(seconds: float, body: bytes, workers: int = 1, packages: tuple[str, ...] = ()) -> tuple[float, float, float]:
    """Runs a second, milliseconds and processor seconds per run of forks that do nothing, `workers` at a time."""
    settings = ZygoteSettings(empty=True, packages=packages, package_paths=tuple(paths_of(packages)))
    links = [Link(1, settings) for _ in range(workers)]
    began: dict[Link, float] = {}
    times = []
    with selectors.DefaultSelector() as selector:
        for link in links:
            while not link.greeted:
                link.receive()
            selector.register(link.sock, selectors.EVENT_READ, link)
        used, started = cpu_s(), time.perf_counter()
        for link in links:
            began[link] = time.perf_counter()
            link.send(ChildRequest(body, 1, 10.0), 10.0)
        while time.perf_counter() < started + seconds:
            for key, _ in selector.select():
                answer = key.data.receive()
                times.append(time.perf_counter() - began[key.data])
                began[key.data] = time.perf_counter()
                key.data.send(ChildRequest(body, 1, 10.0), 10.0)
                answer.read()
        spent, used = time.perf_counter() - started, cpu_s() - used
    for link in links:
        link.kill()
    return len(times) / spent, 1e3 * statistics.median(times), used / len(times)


class Work:
    """An endless supply of runs, none equal to another."""

    def __init__(self, found: list[tuple[str, str]]) -> None:
        self._found = found
        self._number = 0

    def next(self) -> Run:
        program, given = self._found[self._number % len(self._found)]
        self._number += 1
        return Run(f"{program}\n# {self._number}", (given,))


def throughput(executor: Executor, work: Work, seconds: float) -> tuple[float, float]:
    """Runs a second with the window always full, and processor seconds per run, this process's part included."""
    waiting = deque(executor.submit(work.next()) for _ in range(_WINDOW))
    count, began, used = 0, time.perf_counter(), cpu_s()
    while time.perf_counter() - began < seconds:
        waiting.popleft().result()
        waiting.append(executor.submit(work.next()))
        count += 1
    rate, used = count / (time.perf_counter() - began), (cpu_s() - used) / count
    for future in waiting:
        future.result()
    return rate, used


def latency(executor: Executor, work: Work, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds, of one job at a time from submit to result."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        executor.submit(work.next()).result()
        times.append(time.perf_counter() - began)
    times.sort()
    return 1e3 * times[len(times) // 2], 1e3 * times[len(times) * 99 // 100]


def behind_ten(limit_s: float = 4.0) -> float:
    """Milliseconds from submit to result of a trivial program, behind ten that never end and once they hold all."""
    worst = 0.0
    with Executor(ExecutorSettings(workers=2, timeout_s=limit_s)) as two:
        for number in range(10):
            two.submit(Run(f"def f():\n    while {number + 1}: pass", ("",)))
        for wait in (0.0, limit_s / 3):
            time.sleep(wait)
            began = time.perf_counter()
            two.submit(Run(f"def f():\n    return {wait}", ("",))).result()
            worst = max(worst, time.perf_counter() - began)
    return 1e3 * worst


def dearest_proposal(limit_s: float = 2.0) -> float:
    """Time limits of a worker that proposals took which are slow on every input, in every run, with sets in them."""
    slow = f"import time\ndef f(x):\n    time.sleep({0.8 * limit_s})\n    return {{x, time.time_ns()}}"
    dearest = 0.0
    for program in (slow, slow.replace(str(0.8 * limit_s), "100"), slow.replace(", time.time_ns()", "")):
        proposal = Proposal(Kind.INDUCTION, program, tuple(map(str, range(10))), "")
        with Executor(ExecutorSettings(workers=2, timeout_s=limit_s, banned_modules=())) as two:
            two.submit(Validate(proposal)).result()
            dearest = max(dearest, two.stats()["run_total_s"] / limit_s)
    return dearest


def with_packages(work: Work, packages: tuple[str, ...], seconds: float) -> dict[str, float]:
    """What the packages add to a run that does not use them, in milliseconds of wall and of processor time."""
    settings = ExecutorSettings(workers=1, timeout_s=5.0)
    with Executor(settings) as without, Executor(replace(settings, packages=packages)) as having:
        pairs = [(throughput(without, work, seconds / 4), throughput(having, work, seconds / 4)) for _ in range(4)]
    (rate, cpu), (rate_with, cpu_with) = (list(map(statistics.mean, zip(*side))) for side in zip(*pairs))
    return {"packages_add_ms": 1e3 / rate_with - 1e3 / rate, "packages_add_cpu_ms": 1e3 * (cpu_with - cpu)}


def submit_us(executor: Executor, work: Work) -> float:
    """Median microseconds that `submit` takes from its caller while the executor is busy."""
    jobs = [work.next() for _ in range(1_000)]
    times, futures = [], []
    for job in jobs:
        began = time.perf_counter()
        futures.append(executor.submit(job))
        times.append(time.perf_counter() - began)
    for future in futures:
        future.result()
    return 1e6 * statistics.median(times)


def memory_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def below(process: int) -> list[int]:
    """The process and everything below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def soak(executor: Executor, work: Work, count: int) -> dict[str, float]:
    """Runs `count` programs; growth is counted from after the first tenth, when caches are full."""
    waiting: deque = deque()
    marks = []
    for number in range(count):
        if number in (count // 10, count - 1):
            while waiting:
                waiting.popleft().result()
            processes = below(os.getpid())
            zygotes = [memory_mb(p) for p in processes[1:]]
            marks.append(
                (memory_mb(os.getpid()), max(zygotes), len(list(Path("/proc/self/fd").iterdir())), len(processes))
            )
        waiting.append(executor.submit(work.next()))
        if len(waiting) > 4 * _WINDOW:
            waiting.popleft().result()
    zombies = sum("\nState:\tZ" in Path(f"/proc/{p}/status").read_text() for p in below(os.getpid()))
    first, last = marks
    return {
        "soak_runs": count,
        "soak_parent_growth_mb": last[0] - first[0],
        "soak_zygote_growth_mb": last[1] - first[1],
        "soak_descriptors_growth": last[2] - first[2],
        "soak_processes_growth": last[3] - first[3],
        "soak_zombies": zombies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = os.environ.get("AZR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--soak", type=int, default=0, help="programs to run in a row")
    parser.add_argument("--packages", type=lambda text: tuple(text.split(",")), default=(), help="as executor.packages")
    options = parser.parse_args()
    work = Work(programs(options.data))
    report: dict[str, float | str] = {}
    part = options.seconds / 4
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as one:
        floors, rates = [], []
        for _ in range(4):  # in turns, so that what else the machine does weighs on both alike
            floors.append(floor(part, b'{"mode":"none"}'))
            rates.append(throughput(one, work, part))
        median, worst = latency(one, work, options.seconds)
        report |= {"layers": one.layers, "submit_us": submit_us(one, work)}
    (rate, cost), (bare, bare_ms, bare_cost) = (list(map(statistics.mean, zip(*m))) for m in (rates, floors))
    report |= {
        "runs_per_s_per_core": rate,
        "floor_per_s": bare,
        "floor_ratio": bare / rate,
        "p50_ms": median,
        "p99_ms": worst,
        "floor_p50_ms": bare_ms,
        "cpu_ms_per_run": 1e3 * cost,
        "floor_cpu_ms": 1e3 * bare_cost,
        "cpu_ratio": cost / bare_cost,
    }
    for workers in sorted({2, os.cpu_count() or 1} - {1}):
        with Executor(ExecutorSettings(workers=workers, timeout_s=5.0)) as several:
            pairs = []
            for _ in range(4):
                pairs.append((throughput(several, work, part)[0], floor(part, b'{"mode":"none"}', workers)[0]))
        busy, bare = (statistics.mean(each) for each in zip(*pairs))
        report |= {f"runs_per_s_{workers}_workers": busy, f"floor_per_s_{workers}_workers": bare}
        report[f"floor_ratio_{workers}_workers"] = bare / busy
    report |= {"honest_behind_ten_ms": behind_ten(), "proposal_limits": dearest_proposal()}
    if options.packages:
        report |= with_packages(work, options.packages, options.seconds)
    if options.soak:
        with Executor(ExecutorSettings(timeout_s=5.0)) as long:
            report |= soak(long, work, options.soak)
    for name, value in report.items():
        print(f"{name:28} {value if isinstance(value, str) else format(value, '10.2f')}")
    print(json.dumps({name: round(v, 3) if isinstance(v, float) else v for name, v in report.items()}))


if __name__ == "__main__":
    main()
