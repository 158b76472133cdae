"""Writes the report of a run, or of several beside each other, as one HTML file that opens from disk.

    python -m azr_jax.report --workdir=runs/smollm2 [--workdir=runs/other ...] [--out=report.html]

Without --out it becomes report.html in the first workdir. What it shows: azr_jax/monitor/report.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import app, flags

from azr_jax.monitor.report import NothingToReport, build

WORKDIR = flags.DEFINE_multi_string(
    "workdir", None, "A run's folder; give it again for runs beside each other.", required=True
)
OUT = flags.DEFINE_string("out", None, "The HTML file to write. Default: report.html in the first workdir.")


def main(argv: list[str]) -> None:
    workdirs = [Path(name) for name in WORKDIR.value]
    out = Path(OUT.value) if OUT.value else workdirs[0] / "report.html"
    try:
        build(workdirs, out)
    except (NothingToReport, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app.run(main)
