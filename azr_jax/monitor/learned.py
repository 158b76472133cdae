"""Whether a run learned: the held-out tasks before it and now, and the difference with its error.

For the head of the report. Held-out tasks are never trained on, so nothing but learning moves these numbers. Where
the run has compared them task by task (heldout.py), the error is that of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

PREFIX, SUFFIX = "eval/", "/accuracy"
SURE = 1.96  # standard errors of the difference


def learned(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Per held-out suite the first measurement and the last, oldest first; none where there are not two."""
    names = sorted({name for row in rows for name in row if name.startswith(PREFIX) and name.endswith(SUFFIX)})
    found = []
    for name in names:
        measured = [row for row in rows if math.isfinite(row.get(name, math.nan))]
        if len(measured) < 2:
            continue
        before, now = measured[0], measured[-1]
        difference, gain = now[name] - before[name], f"{name.removesuffix(SUFFIX)}/gain"
        apart = math.hypot(*(row.get(f"{name}_se", math.nan) for row in (before, now)))
        error = apart if math.isfinite(apart) else None
        if math.isclose(now.get(gain, math.nan), difference, abs_tol=1e-9):  # else it is since a later measurement
            error = now.get(f"{gain}_se", error)
        found.append(
            {
                "suite": name.removeprefix(PREFIX).removesuffix(SUFFIX),
                "iterations": [int(before["iteration"]), int(now["iteration"])],
                "before": before[name],
                "now": now[name],
                "difference": difference,
                "error": error,
                "verdict": _verdict(difference, error),
            }
        )
    return found


def overall(suites: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean over suites (or over seeds of one suite); their measurements are independent of each other."""
    if not suites:
        return None
    errors = [one["error"] for one in suites]
    error = None if None in errors else math.hypot(*errors) / len(suites)
    mean = {name: math.fsum(one[name] for one in suites) / len(suites) for name in ("before", "now", "difference")}
    iterations = [min(one["iterations"][0] for one in suites), max(one["iterations"][1] for one in suites)]
    return mean | {"iterations": iterations, "error": error, "verdict": _verdict(mean["difference"], error)}


def measured_once(rows: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """The mean over suites at the last measurement: all there is to say before there is a second one."""
    for row in reversed(rows):
        values = [value for name, value in row.items() if name.startswith(PREFIX) and name.endswith(SUFFIX)]
        if values:
            return {"iteration": int(row["iteration"]), "mean": math.fsum(values) / len(values)}
    return None


def _verdict(difference: float, error: float | None) -> str:
    if error is None:
        return "no error known"
    if abs(difference) <= SURE * error:
        return "no change beyond its error"
    return "better" if difference > 0 else "worse"
