"""How far a run is, how long it will still take, and whether it still writes: for the head of the report."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAGES = ("time/play", "time/update", "time/evaluate", "time/weights", "time/save")  # they follow each other
PACE_OF = 20  # iterations that the pace is the mean of
QUIET_AFTER = 5.0  # times the pace, and at least:
QUIET_S = 300.0


def written_at(workdir: Path) -> float:
    """When the run last wrote an iteration, in seconds since 1970; 0 where it has written none."""
    path = workdir / "metrics.jsonl"
    return path.stat().st_mtime if path.exists() else 0.0


def progress(
    rows: Sequence[Mapping[str, float]], config: Mapping[str, Any], written: float, now: float | None = None
) -> dict[str, Any]:
    """`state`: starting | going on | quiet (it should have written again by now) | finished."""
    now = time.time() if now is None else now
    done = int(rows[-1]["iteration"]) if rows else 0
    total = config.get("iterations")
    total = total if isinstance(total, int) else None
    pace = _pace(rows)
    left = None if pace is None or not total else pace * max(0, total - done)
    if total and done >= total:
        state = "finished"
    elif not rows:
        state = "starting"
    else:
        state = "quiet" if now - written > max(QUIET_S, QUIET_AFTER * (pace or 0.0)) else "going on"
    return {"state": state, "done": done, "total": total, "pace_s": pace, "left_s": left, "written": written}


def _pace(rows: Sequence[Mapping[str, float]]) -> float | None:
    """Seconds per iteration. The first one compiles, so it is counted only where there is no other."""
    trained = [row for row in rows if row["iteration"] >= 1 and "time/play" in row]
    some = (trained[1:] or trained)[-PACE_OF:]
    seconds = [math.fsum(row.get(stage, 0.0) for stage in STAGES) for row in some]
    return math.fsum(seconds) / len(seconds) if seconds else None
