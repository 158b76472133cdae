"""Runs that differ in their seed alone, taken together: the mean over seeds, from the smallest to the largest.

The difference between two recipes is given with the standard error over seeds, which no single run can tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from azr_jax.monitor.learned import overall
from azr_jax.monitor.means import mean_and_error

SEED = "seed"
Run = Mapping[str, Any]


def grouped(runs: Sequence[Run]) -> list[list[int]]:
    """The numbers of the runs of each recipe, in the order of the runs."""
    groups: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        key = repr(sorted((field, repr(value)) for field, value in run["config"].items() if field != SEED))
        groups.setdefault(key if run["config"] else f"unknown {number}", []).append(number)
    return list(groups.values())


def together(runs: Sequence[Run], numbers: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """One recipe: of each metric the mean over its seeds, the smallest and the largest, where all seeds have one."""
    members = [runs[number] for number in numbers]
    places = [dict(zip(run["iterations"], range(len(run["iterations"])))) for run in members]
    iterations = [i for i in members[0]["iterations"] if all(i in place for place in places)]
    series: dict[str, dict[str, list[float | None]]] = {}
    for name in names:
        if not all(name in run["series"] for run in members):
            continue
        columns = [[run["series"][name][place[i]] for i in iterations] for run, place in zip(members, places)]
        points = [tuple(value for value in point if value is not None) for point in zip(*columns)]
        whole = [point if len(point) == len(members) else () for point in points]
        series[name] = {
            "mean": [math.fsum(point) / len(point) if point else None for point in whole],
            "low": [min(point, default=None) for point in whole],
            "high": [max(point, default=None) for point in whole],
        }
    return {
        "name": _name([run["name"] for run in members]),
        "runs": list(numbers),
        "seeds": [run["config"].get(SEED) for run in members],
        "iterations": iterations,
        "series": series,
        "overall": over_seeds([run["overall"] for run in members]),
    }


def over_seeds(each: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Whether a recipe learned: the mean over its seeds. Its error is that of the measurements, or what the scatter of
    the seeds tells, whichever is larger: few seeds may lie close to each other by chance.
    """
    known = [one for one in each if one is not None]
    found = overall(known)
    if found is None or len(known) < 2:
        return found
    scatter = mean_and_error([one["difference"] for one in known])[1] or 0.0
    return overall([found | {"error": max(scatter, found["error"] or 0.0)}])


def differences(runs: Sequence[Run], groups: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Per metric: each recipe's mean over seeds of the later half, and the others' minus the first, with errors."""
    rows = []
    for name in names:
        halves = [[_later_half(runs[number], name) for number in group] for group in groups]
        if any(value is None for half in halves for value in half):
            continue
        means = [mean_and_error([value for value in half if value is not None]) for half in halves]
        first, first_error = means[0]
        minus = [(mean - first, _both(first_error, error)) for mean, error in means[1:]]
        rows.append({"name": name, "means": means, "minus": minus})
    return rows


def _later_half(run: Run, name: str) -> float | None:
    values = [value for value in run["series"].get(name, ()) if value is not None]
    values = values[len(values) // 2 :]
    return math.fsum(values) / len(values) if values else None


def _both(first: float | None, other: float | None) -> float | None:
    return None if first is None or other is None else math.hypot(first, other)


def _name(names: Sequence[str]) -> str:
    """What the names have in common: `full-0` and `full-1` are `full`."""
    if len(names) == 1:
        return names[0]
    prefix = names[0]
    while not all(name.startswith(prefix) for name in names):
        prefix = prefix[:-1]
    return prefix.rstrip("0123456789").rstrip("-_. @") or names[0]
