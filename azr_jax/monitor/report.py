"""One HTML file that shows a run, or several beside each other: curves, difficulty, refusals, time, tasks, config.

Self-contained: opens from disk, loads nothing. Everything the model wrote travels as JSON with `<` escaped and enters
the page as text nodes; the page's security policy allows its one script and no other. Charts: page/charts.js, what is
shown: page/sections.js and page/main.js, the task viewer: page/viewer.js. A run writes its own again every few
iterations, by a process of its own; serve.py shows one that follows the run.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from azr_jax.monitor import rundata, seeds

LOG = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
SCRIPTS = ("charts.js", "sections.js", "viewer.js", "main.js")
LIVE_SCRIPT = "live.js"
MAX_TASKS = 2_000  # proposals in one report, over all its runs
MAX_TASK_BYTES = 11_000_000  # of JSON; series and ancestors come on top, 20 MB is the promise


class NothingToReport(ValueError):
    """A workdir holds no run."""


def build(workdirs: Sequence[Path], out: Path) -> Path:
    """Writes the report of these runs to `out`, whole or not at all, one writer of a folder at a time."""
    check(workdirs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out.parent):  # the runs are read inside, so that who writes last has read last
        text = page(workdirs)
        # A name of its own: where folders cannot be locked, writers still do not meet.
        temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            # Folder names may hold bytes that are no text.
            temporary.write_text(text, encoding="utf-8", errors="replace")
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    return out


def check(workdirs: Sequence[Path], flag: str = "--workdir") -> None:
    for workdir in workdirs:
        if not (workdir / "metrics.jsonl").exists() and not (workdir / "config.json").exists():
            raise NothingToReport(f"{flag}={workdir}: holds no run: neither metrics.jsonl nor config.json is there")


def page(workdirs: Sequence[Path], *, live: bool = False) -> str:
    """The whole page. A live one asks its server whether the run has gone on, and then for itself again."""
    share = len(workdirs)
    runs = [rundata.read_run(w, tasks=MAX_TASKS // share, max_bytes=MAX_TASK_BYTES // share) for w in workdirs]
    _name_apart(runs)
    groups = seeds.grouped(runs)
    several = any(len(group) > 1 for group in groups)  # runs that differ in their seed alone
    names = rundata.compared(*runs)
    data = {
        "runs": runs,
        "paired": [rundata.paired(runs[0], other) for other in runs[1:]],
        "differing": rundata.differing([run["config"] for run in runs]),
        "recipes": [seeds.together(runs, group, names) for group in groups] if several else [],
        "over_seeds": seeds.differences(runs, groups, names) if several else [],
    }
    return _page(data, live)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until nobody else writes a report into this folder. Some file systems have no locks; then it does not."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def build_in_background(workdir: Path) -> threading.Thread:
    """Writes <workdir>/report.html from another process at low priority: the run does not wait for it.

    The thread waits for that process, so that it does not stay behind dead, and logs what went wrong.
    """
    command = [sys.executable, "-m", "azr_jax.report", f"--workdir={workdir}", f"--out={workdir / 'report.html'}"]
    root = Path(__file__).parents[2]

    def work() -> None:
        done = subprocess.run(["nice", "-n", "15", *command], cwd=root, capture_output=True)
        if done.returncode:
            said = done.stderr[-2_000:].decode(errors="replace")
            LOG.warning("report of %s failed with exit code %d:\n%s", workdir, done.returncode, said)

    thread = threading.Thread(target=work, name="report", daemon=True)
    thread.start()
    return thread


def _name_apart(runs: list[dict[str, Any]]) -> None:
    """Runs of the same folder name are told apart by their paths, which are in the report only then."""
    names = [run["name"] for run in runs]
    for run in runs:
        path = run.pop("path")
        if names.count(run["name"]) > 1:
            run["name"] = path


def _page(data: dict[str, Any], live: bool) -> str:
    # One scope for all files; "use strict" holds for the whole of it.
    scripts = (*SCRIPTS, LIVE_SCRIPT) if live else SCRIPTS
    script = "(() => {\n" + "\n".join((PAGE / name).read_text() for name in scripts) + "\n})();"
    template = Environment(autoescape=True).from_string((PAGE / "page.html").read_text())
    names = [run["name"] for run in data["runs"]]
    return template.render(
        title="azr_jax: " + " and ".join(names),
        runs=data["runs"],
        live=live,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        style=Markup((PAGE / "style.css").read_text()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_json_for_html(data)),
    )


def _json_for_html(data: object) -> str:
    """JSON that can stand inside a script element: no text in it can end that element or begin a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
