"""A run that never happened, as files in a workdir: for tests and the benchmark of the monitor. Plain and seeded."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from azr_jax.monitor.jsonl import JsonLines
from azr_jax.monitor.metrics import MetricsWriter
from azr_jax.monitor.records import RecordWriter

KINDS = ("deduction", "abduction", "induction")
REASONS = ("no program block", "timeout", "not deterministic", "banned import", "raised", "output too long")


def numbers(iteration: int, rng: random.Random, total: int = 500) -> tuple[dict[str, float], dict[str, float]]:
    """One healthy iteration: everything drifts a little in the right direction, with the noise of B = 64."""
    part = iteration / total
    out: dict[str, float] = {"propose/valid_rate": 0.3 + 0.3 * part + rng.gauss(0, 0.03)}
    for k, kind in enumerate(KINDS):
        rate = 0.25 + 0.3 * part + 0.05 * k
        for role in ("propose", "solve"):
            start = f"{role}/{kind}"
            out[f"{start}/reward/mean"] = -0.6 + 0.8 * part + 0.1 * k + rng.gauss(0, 0.06)
            out[f"{start}/reward/std"] = 0.5
            out[f"{start}/length/mean"] = 60 + 40 * part + 10 * k + rng.gauss(0, 2)
            out[f"{start}/length/p95"] = 120 + 4 * rng.random()
            out[f"{start}/length/clipped"] = 0.05 + 0.02 * rng.random()
            out[f"{start}/format_error_rate"] = 0.4 - 0.3 * part + 0.02 * rng.random()
        out[f"propose/{kind}/valid_rate"] = rate + rng.gauss(0, 0.05)
        out[f"solve/{kind}/accuracy"] = rate + rng.gauss(0, 0.05)
        out[f"solve/{kind}/length/good"], out[f"solve/{kind}/length/bad"] = 60 + rng.random(), 80 + rng.random()
        for reason in REASONS:
            out[f"propose/{kind}/refused/{reason}"] = 0.1 * (1 - part) * rng.random()
        weights = [math.exp(-(((b / 8) - rate) ** 2) / 0.05) + (0.6 if b in (0, 8) else 0.0) for b in range(9)]
        for b, weight in enumerate(weights):
            out[f"estimate/{kind}/solve_rate/hist_{b}"] = weight / sum(weights)
        out[f"estimate/{kind}/solve_rate/mean"] = rate
        out[f"estimate/{kind}/agree_rate"] = 0.4 + 0.02 * rng.random()
        out[f"estimate/{kind}/tasks"] = 24.0
        out[f"buffer/{kind}/size"], out[f"buffer/{kind}/age"] = 256 + 20.0 * iteration, 0.4 * iteration
        out[f"novelty/{kind}/nearest"] = 0.6 + 0.05 * rng.random()
    out |= {"learner/loss": rng.gauss(0, 0.01), "learner/gradient/norm": 0.5 + 0.1 * rng.random()}
    out |= {"learner/entropy": 0.8 - 0.2 * part + 0.02 * rng.random(), "learner/gap/mean": 0.01, "learner/gap/max": 0.4}
    out |= {"advantage/flat_groups": float(rng.random() < 0.05), "learner/steps/bad_in_row": 0.0}
    if iteration % 50 == 0:
        out |= {"eval/humaneval/pass_1": 0.3 + 0.1 * part, "eval/humaneval/pass_10": 0.5 + 0.1 * part}
        for kind in KINDS:
            out |= {f"eval/nano/{kind}/accuracy": 0.2 + 0.3 * part, f"eval/nano/{kind}/accuracy_se": 0.04}
    clock = {"time/play": 60 + 4 * rng.random(), "time/update": 20 + rng.random(), "time/waiting_for_executor": 1.0}
    clock |= {
        "engine/tokens_per_s": 900 + 50 * rng.random(),
        "engine/occupancy": 0.8,
        "system/rss_mb": 2_000 + rng.random(),
    }
    return out, clock


def proposal(iteration: int, kind: str, index: int, task_id: int, rng: random.Random, text: str = "") -> dict[str, Any]:
    """A record as selfplay writes it; `text` is put wherever the model has a say."""
    ok = rng.random() < 0.6
    rights = [rng.random() < 0.5 for _ in range(4)]
    program = (
        f"def f(x):\n    # step {index}\n    y = [v * {index} for v in range(x)]\n    return sum(y) + {task_id}{text}"
    )
    task: dict[str, Any] = {"program": program, "input": f"{index}{text}", "output": f"{index + task_id}{text}"}
    if kind == "induction":
        cases = {"inputs": ["1", "2", "3" + text], "outputs": ["4", "5", "6"], "message": "adds" + text, "shown": 2}
        task = {"program": program} | cases
    return {
        "role": "propose",
        "kind": kind,
        "index": index,
        "references": sorted({rng.randrange(max(1, task_id)) for _ in range(3)}),
        "completion": f"```python\n{program}\n```\n```input\n{index}\n```\n" + "I think about it. " * 20 + text,
        "finish": "stop",
        "tokens": 120,
        "task_id": task_id if ok else None,
        "task": task if ok else None,
        "refused": "" if ok else rng.choice(REASONS) + text,
        "detail": text,
        "solve_rate": sum(rights) / 4 if ok else None,
        "attempts": [attempt(right, text, rng) for right in rights] if ok else [],
        "reward": rng.random(),
        "advantage": rng.gauss(0, 1),
    }


def attempt(right: bool, text: str, rng: random.Random) -> dict[str, Any]:
    return {
        "completion": "So the answer is\n```output\n42\n```" + " because it is" * 8 + text,
        "tokens": 40,
        "answer": "42" + text,
        "correct": right,
        "reason": "correct" if right else "wrong value",
        "reward": float(right),
        "advantage": rng.gauss(0, 1),
    }


def write(
    workdir: Path, iterations: int, *, per_kind: int = 4, seed: int = 0, text: str = "", config: dict | None = None
) -> Path:
    """A whole workdir: `per_kind` proposals and as many solutions per kind and iteration."""
    workdir.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    fields = {"iterations": iterations, "batch_size": 64, "learner": {"lr": 1e-6}, "tasks": {"references": 6}}
    (workdir / "config.json").write_text(json.dumps(fields | (config or {})))
    (workdir / "config_diff.txt").write_text("learner.lr  1e-06 -> 5e-07\n")
    (workdir / "buffers").mkdir(exist_ok=True)
    seed_task = {"program": "def f(x):\n    return x", "input": "'Hello'", "output": "'Hello'", "value": ""}
    seed_entry = {"id": 0, "iteration": 0, "references": [], "seed": True, "task": seed_task}
    line = json.dumps({"sum": "00000000", "record": seed_entry}, separators=(",", ":"))
    (workdir / "buffers" / "deduction.jsonl").write_text(line + "\n")
    metrics, records = MetricsWriter(workdir), RecordWriter(workdir)
    task_id = 1
    for iteration in range(1, iterations + 1):
        metrics.write(iteration, *numbers(iteration, rng))
        batch: list[dict[str, Any]] = []
        for kind in KINDS:
            for index in range(per_kind):
                batch.append(proposal(iteration, kind, index, task_id, rng, text))
                solved = {"role": "solve", "kind": kind, "task_id": task_id}
                batch.append(solved | attempt(rng.random() < 0.5, text, rng))
                task_id += 1
        records.write(iteration, batch)
    return workdir


def rows(workdir: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in JsonLines(workdir / name).path.read_text().splitlines()]
