"""A workdir as the report needs it: series over iterations, config, alarms, sampled tasks; and runs beside each other.

Reads files only, and is content with those that are there: a run may be young, killed, or still going on.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from azr_jax.monitor import health, jsonl, samples
from azr_jax.monitor.learned import learned, measured_once, overall
from azr_jax.monitor.means import mean_and_error
from azr_jax.monitor.progress import progress, written_at

MAX_POINTS = 1_000  # longer runs are averaged over neighbouring iterations
BLOCKS = 10  # paired differences: neighbouring iterations are not independent, blocks of them nearly are
COMPARED = (
    "propose/valid_rate",
    "propose/*/valid_rate",
    "propose/*/reward/mean",
    "solve/*/reward/mean",
    "solve/*/accuracy",
    "estimate/*/solve_rate/mean",
    "learner/entropy",
    "engine/tokens_per_s",
    "eval/*/*",
    "eval/*/*/*",
)


def read_run(workdir: Path, *, tasks: int, max_bytes: int) -> dict[str, Any]:
    rows, config = read_rows(workdir), _config(workdir)
    alarms, still = health.replayed(rows, health.settings_from(config))
    iterations, series = _columns(_thinned(rows))
    suites = learned(rows)
    return {
        "name": workdir.name or str(workdir),
        "path": str(workdir),
        "config": _flat(config),
        "diff": _text(workdir / "config_diff.txt") + _changes(workdir),
        "iterations": iterations,
        "series": series,
        "learned": suites,
        "overall": overall(suites),
        "once": measured_once(rows),
        "progress": progress(rows, config, written_at(workdir)),
        "alarms": [vars(alarm) for alarm in alarms],
        "on": [vars(alarm) for alarm in still],
        **samples.sample(workdir, tasks=tasks, max_bytes=max_bytes),
    }


def _changes(workdir: Path) -> str:
    """What later starts of the run did otherwise, a line each."""
    lines = []
    path = workdir / "config_changes.jsonl"
    for one in jsonl.read(path):
        if not isinstance(one.get("changes"), dict):
            raise jsonl.Damaged(f"{path}: a line without `changes`: {str(one)[:100]!r}")
        fields = (f"{field}  {json.dumps(was)} -> {json.dumps(now)}" for field, (was, now) in one["changes"].items())
        lines.append(f"from iteration {one['from']} on: {', '.join(fields)}\n")
    return "".join(lines)


def read_rows(workdir: Path) -> list[dict[str, float]]:
    """One row per iteration, metrics and timings together."""
    rows: dict[int, dict[str, float]] = {}
    for name in ("metrics.jsonl", "timings.jsonl"):
        for row in jsonl.read(workdir / name):
            if not isinstance(row.get("iteration"), int):
                raise jsonl.Damaged(f"{workdir / name}: a line without `iteration`: {str(row)[:100]!r}")
            rows.setdefault(int(row["iteration"]), {}).update(row)
    return [rows[iteration] for iteration in sorted(rows)]


def _thinned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    width = math.ceil(len(rows) / MAX_POINTS) if rows else 1
    if width == 1:
        return rows
    thinned = []
    for start in range(0, len(rows), width):
        together = rows[start : start + width]
        names = {name for row in together for name in row}
        thinned.append({name: _mean(row[name] for row in together if name in row) for name in names})
        thinned[-1]["iteration"] = together[-1]["iteration"]
    return thinned


def _columns(rows: Sequence[Mapping[str, float]]) -> tuple[list[int], dict[str, list[float | None]]]:
    names = sorted({name for row in rows for name in row} - {"iteration"})
    return [int(row["iteration"]) for row in rows], {name: [_rounded(row.get(name)) for row in rows] for name in names}


def _rounded(value: object) -> float | None:
    return float(f"{value:.5g}") if isinstance(value, (int, float)) and math.isfinite(value) else None


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """The fields in which runs differ: (field, the value in each run)."""
    fields = sorted({field for config in configs for field in config})
    rows = [(field, [config.get(field, "-") for config in configs]) for field in fields]
    return [row for row in rows if any(value != row[1][0] for value in row[1])]


def paired(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`other` minus `first`, iteration by iteration, over the later half of the iterations that both have."""
    place = [dict(zip(run["iterations"], range(len(run["iterations"])))) for run in (first, other)]
    shared = [i for i in first["iterations"] if i in place[1]]
    shared = shared[len(shared) // 2 :]
    rows = []
    for name in compared(first, other):
        a = [first["series"][name][place[0][i]] for i in shared]
        b = [other["series"][name][place[1][i]] for i in shared]
        both = [(x, y) for x, y in zip(a, b) if x is not None and y is not None]
        if both:
            difference, error = blocked([y - x for x, y in both])
            means = {"first": _mean(x for x, _ in both), "other": _mean(y for _, y in both)}
            rows.append({"name": name, "n": len(both), "difference": difference, "error": error, **means})
    return rows


def compared(*runs: Mapping[str, Any]) -> list[str]:
    """The metrics worth comparing that all of these runs have."""
    names = set.intersection(*(set(run["series"]) for run in runs))
    return sorted(n for n in names if not n.endswith("_se") and any(_like(n, pattern) for pattern in COMPARED))


def blocked(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and its standard error from the means of up to ten blocks; none where there are fewer than 2."""
    count = min(BLOCKS, len(values) // 2)
    if count < 2:
        return _mean(values), None
    edges = [round(k * len(values) / count) for k in range(count + 1)]
    return _mean(values), mean_and_error([_mean(values[a:b]) for a, b in pairwise(edges)])[1]


def _like(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(w in ("*", p) for p, w in zip(parts, wanted))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _config(workdir: Path) -> dict[str, Any]:
    path = workdir / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise jsonl.Damaged(f"{path}: is not JSON: {error}") from None
    for part in ("", "monitor", "monitor.health"):
        found = functools.reduce(lambda at, name: at.get(name, {}), filter(None, part.split(".")), config)
        if not isinstance(found, dict):
            raise jsonl.Damaged(f"{path}: {part or 'it'} holds {str(found)[:100]!r}: should be an object, {{...}}")
    return config


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
