"""Writes the report of a run, or of several beside each other, as one HTML file that opens from disk.

    python -m azr_jax.report --workdir=runs/smollm2 [--workdir=runs/other ...] [--out=report.html]
    python -m azr_jax.report --live runs/smollm2 [--port=6007]

Without --out it becomes report.html in the first workdir. Runs that differ in their seed alone are taken together.
--live serves the page on this machine while the run goes on, made anew when the run has written; Ctrl-C ends it. What
it shows: azr_jax/monitor/report.py.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from azr_jax.monitor.jsonl import Damaged
from azr_jax.monitor.report import NothingToReport, build
from azr_jax.monitor.serve import PORT, CannotServe, LiveReport
from azr_jax.storage.errors import StorageError
from azr_jax.storage.reading import Reader

WORKDIR = flags.DEFINE_multi_string("workdir", [], "A run's folder or gs:// address; again for runs beside each other.")
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
    try:
        with ExitStack() as held:
            read = [held.enter_context(Reader(name)) for name in named]
            if LIVE.value:
                follow(LiveReport(read[0].folder, PORT_FLAG.value or 0, refresh=read[0].follow), LIVE.value)
                return
            out = build([each.folder for each in read], Path(OUT.value or read[0].folder / "report.html"))
            said = f"{OUT.value or f'{read[0].home}/report.html'}: {out.stat().st_size / 1e6:.1f} MB"
            if not OUT.value:
                read[0].hand_back("report.html")
    except StorageError as error:
        fail(f"{flag}={error}")
    except (NothingToReport, CannotServe, Damaged, OSError) as error:
        fail(str(error))
    print(said)


def follow(live: LiveReport, name: str) -> None:
    """Until Ctrl-C."""
    print(f"{name} at {live.url} (Ctrl-C ends this, not the run)", flush=True)
    try:
        live.serve()
    except KeyboardInterrupt:
        print("\nended; the run goes on")
    finally:
        live.close()


if __name__ == "__main__":
    app.run(main)
