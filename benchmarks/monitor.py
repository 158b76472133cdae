"""What the monitor costs: per iteration beside an iteration of play, and for the report of a long run.

    python benchmarks/monitor.py [--iterations=500] [--per_kind=64]

Writes a made-up run (`per_kind` proposals and as many solutions of each of three kinds per iteration: 384 rollouts at
the paper's batch, and four estimate attempts with each accepted proposal), then measures the writing and the health
check of further iterations, ROUNDS stages of the watchdog, the live view's drawing, and the building of the report.
The share is that of an iteration of ITERATION_S seconds; the report is written by another process at low priority.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "monitor")]

import made_up_run  # noqa: E402
from rich.console import Console as RichConsole  # noqa: E402
from rich.panel import Panel  # noqa: E402

from azr_jax.monitor import rundata  # noqa: E402
from azr_jax.monitor.health import Health  # noqa: E402
from azr_jax.monitor.live import REFRESHES_PER_S, View  # noqa: E402
from azr_jax.monitor.metrics import MetricsWriter  # noqa: E402
from azr_jax.monitor.records import RecordWriter  # noqa: E402
from azr_jax.monitor.report import build  # noqa: E402
from azr_jax.monitor.watchdog import Watchdog  # noqa: E402

ITERATION_S = 60.0
ROUNDS = 500  # stages of the watchdog in an iteration: rounds of the engine, waits for verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--per_kind", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = made_up_run.write(Path(folder) / "run", args.iterations, per_kind=args.per_kind)
        costs = per_iteration(run, args.iterations, args.per_kind)
        costs |= {"watchdog": watching(Path(folder)), "view": drawing()}
        started = time.perf_counter()
        report = build([run], run / "report.html")
        costs["report"] = time.perf_counter() - started
        sizes = {"report_mb": report.stat().st_size / 1e6, "records_mb": (run / "records.jsonl").stat().st_size / 1e6}
    for name, seconds in costs.items():
        print(f"{name:<10} {1e3 * seconds:10.1f} ms")
    for name, size in sizes.items():
        print(f"{name:<10} {size:10.1f}")
    share = sum(costs[name] for name in ("metrics", "records", "health", "watchdog", "view")) / ITERATION_S
    print(f"share of a {ITERATION_S:.0f} s iteration: {share:.3%}")
    print(json.dumps({**{f"{name}_s": round(s, 5) for name, s in costs.items()}, **sizes, "share": share}))


def per_iteration(run: Path, iterations: int, per_kind: int) -> dict[str, float]:
    """Seconds of the monitor in the iteration after the last one, TensorBoard included; the median of five."""
    rng = random.Random(1)
    past = rundata.read_rows(run)
    health = Health(past=past)
    cursor = {name: (run / f"{name}.jsonl").stat().st_size for name in ("metrics", "timings")}
    metrics = MetricsWriter(run, ["tensorboard"], cursor | {"iteration": iterations})
    records = RecordWriter(run, (run / "records.jsonl").stat().st_size)
    costs: dict[str, list[float]] = {"metrics": [], "records": [], "health": []}
    for iteration in range(iterations + 1, iterations + 6):
        numbers, clock = made_up_run.numbers(iteration, rng)
        batch = [made_up_run.proposal(iteration, k, i, i, rng) for k in made_up_run.KINDS for i in range(2 * per_kind)]
        for name, work in (
            ("metrics", lambda n=numbers, c=clock, i=iteration: metrics.write(i, n, c)),
            ("records", lambda b=batch, i=iteration: records.write(i, b)),
            ("health", lambda n=numbers, c=clock, i=iteration: health.check(i, n | c)),
        ):
            started = time.perf_counter()
            work()
            costs[name].append(time.perf_counter() - started)
    metrics.close()
    return {name: sorted(times)[2] for name, times in costs.items()}


def watching(folder: Path) -> float:
    """Seconds of ROUNDS stages in an iteration, with the watchdog's thread at work."""
    dog = Watchdog(folder)
    dog.watch_children(60.0)
    started = time.perf_counter()
    for _ in range(ROUNDS):
        with dog.stage("round", 900.0):
            pass
    seconds = time.perf_counter() - started
    dog.close()
    return seconds


def drawing() -> float:
    """Seconds of drawing the live view in an iteration, as often as it is drawn on a terminal."""
    rich = RichConsole(file=io.StringIO(), force_terminal=True, width=110, height=50)
    view = View(rich, 500)
    bars = view.stage("iteration 9")
    for stage in ("propose", "estimate", "solve", "execute"):
        bars.add_task(stage, total=100, completed=40)
    for number in range(1, 10):
        view.row(number, dict.fromkeys(("valid", "solve rate", "solved", "entropy", "tokens/s", "seconds"), "0.123"))
    view.task(Panel("\n".join(f"line {n} of a program and its attempts" for n in range(16))))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        rich.print(view)
        times.append(time.perf_counter() - started)
    return sorted(times)[10] * REFRESHES_PER_S * ITERATION_S


if __name__ == "__main__":
    main()
