"""Many runs of the nano recipe: started as processes of their own, a few at a time, and read back from their workdirs.

A run that is finished is not started again, and one that was stopped goes on: `python -m azr_jax.main` does both.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from azr_jax.config.flags import from_json, load, resolve
from azr_jax.monitor.rundata import read_rows

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "configs/nano.py"
KINDS = ("deduction", "abduction", "induction")


@dataclass(frozen=True)
class Plan:
    """One run: what it is called, its seed, and the fields that differ from the recipe."""

    name: str
    seed: int
    fields: Mapping[str, str]
    workdir: Path

    @property
    def console(self) -> Path:
        """What the run says; beside its workdir, which has to be its own."""
        return self.workdir.with_name(f"{self.workdir.name}.txt")

    def command(self) -> list[str]:
        flags = [f"--config.{field}={value}" for field, value in self.fields.items()]
        return [
            sys.executable,
            "-m",
            "azr_jax.main",
            f"--config={RECIPE}",
            f"--workdir={self.workdir}",
            f"--config.seed={self.seed}",
            *flags,
        ]


@dataclass(frozen=True)
class Curve:
    """What a finished run says of itself; accuracies are shares of the held-out tasks of a kind."""

    first: dict[str, float]
    last: dict[str, float]
    valid_first: float  # share of valid proposals, mean of the first ten iterations
    valid_last: float
    new_first: float  # the same for proposals of what was not kept before
    new_last: float
    seconds_per_iteration: float  # playing and updating
    iterations: int

    @property
    def gain(self) -> dict[str, float]:
        return {kind: self.last[kind] - self.first[kind] for kind in self.first}


def read_curve(workdir: Path) -> Curve:
    rows = read_rows(workdir)
    measured = [row for row in rows if "eval/nano/deduction/accuracy" in row]
    played = [row for row in rows if "propose/valid_rate" in row]
    if len(measured) < 2:
        raise ValueError(f"{workdir}: {len(measured)} held-out measurements in its metrics; two are needed")

    def accuracies(row: Mapping[str, float]) -> dict[str, float]:
        return {kind: row[f"eval/nano/{kind}/accuracy"] for kind in KINDS}

    def valid(some: Sequence[Mapping[str, float]]) -> float:
        return sum(row["propose/valid_rate"] for row in some) / len(some)

    def new(some: Sequence[Mapping[str, float]]) -> float:
        copies = [[row[name] for name in row if name.endswith("/duplicate_rate")] for row in some]
        return valid(some) - sum(sum(of_row) / len(of_row) for of_row in copies) / len(some)

    seconds = sum(row["time/play"] + row["time/update"] for row in played) / len(played)
    return Curve(
        accuracies(measured[0]),
        accuracies(measured[-1]),
        valid(played[:10]),
        valid(played[-10:]),
        new(played[:10]),
        new(played[-10:]),
        seconds,
        int(rows[-1]["iteration"]),
    )


def run_all(plans: Sequence[Plan], *, side_by_side: int, tell: Callable[[str], None] = print) -> None:
    """Runs every plan to its end. Side by side, each has one thread: two such runs do more than one with two."""
    waiting, started, played = [plan for plan in plans if not _is_finished(plan)], time.monotonic(), 0
    running: list[tuple[Plan, subprocess.Popen]] = []
    env = dict(os.environ)
    if side_by_side > 1:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: none is left behind
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                plan = waiting.pop(0)
                plan.console.parent.mkdir(parents=True, exist_ok=True)
                with plan.console.open("a") as log:
                    process = subprocess.Popen(plan.command(), cwd=ROOT, env=env, stdout=log, stderr=log)
                running.append((plan, process))
            time.sleep(0.5)
            for plan, process in list(running):
                if process.poll() is None:
                    continue
                running.remove((plan, process))
                if process.returncode:
                    tail = plan.console.read_text(errors="replace").splitlines()[-5:]
                    raise RuntimeError(f"{plan.name}, seed {plan.seed}: exit {process.returncode}\n" + "\n".join(tail))
                _check_whole(plan)
                played += 1
                finished = len(plans) - len(waiting) - len(running)
                left = (time.monotonic() - started) / played * (len(plans) - finished)
                tell(f"{finished}/{len(plans)} {plan.name}, seed {plan.seed}: {_line(plan)}; {left / 60:.0f} min left")
    finally:
        for _, process in running:
            process.terminate()  # it finishes its iteration and saves
        for _, process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _is_finished(plan: Plan) -> bool:
    """This very run, to its last iteration: to start it only to hear so takes half a minute."""
    try:
        there = resolve(from_json((plan.workdir / "config.json").read_text()))
        _check_whole(plan)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError):
        return False
    asked, problems = load(str(ROOT / RECIPE), {"seed": str(plan.seed), **plan.fields})
    return not problems and there == asked


def _check_whole(plan: Plan) -> None:
    """A run that was asked to stop ends with exit 0, too."""
    wanted = json.loads((plan.workdir / "config.json").read_text())["iterations"]
    done = int(read_rows(plan.workdir)[-1]["iteration"])
    if done < wanted:
        raise RuntimeError(
            f"{plan.name}, seed {plan.seed}: stopped after iteration {done} of {wanted}; the same command goes on"
        )


def _line(plan: Plan) -> str:
    curve = read_curve(plan.workdir)
    return ", ".join(f"{kind} {100 * curve.first[kind]:.1f} -> {100 * curve.last[kind]:.1f} %" for kind in KINDS)
