"""The machine's side of a run, as numbers for timings.jsonl: memory of this process, load."""

from __future__ import annotations

import os
import resource
from pathlib import Path

PAGE_BYTES = resource.getpagesize()


def system_metrics() -> dict[str, float]:
    return {"system/rss_mb": rss_mb(), "system/load_1m": os.getloadavg()[0]}


def rss_mb() -> float:
    """What this process holds in memory now; where /proc is missing (macOS), the most it ever held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * PAGE_BYTES / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
