"""Writes the report of a run, or of several beside each other, as one HTML file that opens from disk.

    python -m azr_jax.report --workdir=runs/smollm2 [--workdir=runs/other ...] [--out=report.html]
    python -m azr_jax.report --live runs/smollm2 [--port=6007]

Without --out it becomes report.html in the first workdir. Runs that differ in their seed alone are taken together.
--live serves the page on this machine while the run goes on, made anew when the run has written; Ctrl-C ends it. What
it shows: azr_jax/monitor/report.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from azr_jax.monitor.report import NothingToReport, build
from azr_jax.monitor.serve import PORT, CannotServe, LiveReport

WORKDIR = flags.DEFINE_multi_string("workdir", [], "A run's folder; give it again for runs beside each other.")
OUT = flags.DEFINE_string("out", None, "The HTML file to write. Default: report.html in the first workdir.")
LIVE = flags.DEFINE_string("live", "", "A run's folder: its report is served here while the run goes on.")
PORT_FLAG = flags.DEFINE_integer("port", PORT, "Of --live; 0: any that is free.", lower_bound=0, upper_bound=65_535)


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail(f"{argv[1]}: not understood; flags look like --workdir=...")
    flag, named = ("--live", [LIVE.value]) if LIVE.value else ("--workdir", list(WORKDIR.value or ()))
    if LIVE.value and (WORKDIR.value or OUT.value):
        fail(f"--live={LIVE.value}: follows this one run and writes no file; leave --workdir and --out out")
    if not named:
        fail("--workdir: missing; should be the folder of a run (or --live=<folder>, to follow one)")
    for name in named:
        if name.startswith("gs://"):
            fail(f"{flag}={name}: a workdir in a bucket cannot be reported yet; copy it here first, and name the copy")
    try:
        if LIVE.value:
            follow(LiveReport(Path(LIVE.value), PORT_FLAG.value or 0))
            return
        workdirs = [Path(name) for name in named]
        out = build(workdirs, Path(OUT.value) if OUT.value else workdirs[0] / "report.html")
    except (NothingToReport, CannotServe, OSError) as error:
        fail(str(error))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def follow(live: LiveReport) -> None:
    """Until Ctrl-C."""
    print(f"{live.workdir} at {live.url} (Ctrl-C ends this, not the run)", flush=True)
    try:
        live.serve()
    except KeyboardInterrupt:
        print("\nended; the run goes on")
    finally:
        live.close()


if __name__ == "__main__":
    app.run(main)
