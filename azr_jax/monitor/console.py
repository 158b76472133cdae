"""What a person sees while it runs: bars with rates and time left, tables, one task with its verdicts, alarms.

On a terminal all of it is one live view (live.py); elsewhere (a log file, CI) every line is plain, and a long stage
says now and then how far it is. Text of the model is escaped: no markup, no control characters, no endless lines.
Quiet where asked to be: of several processes only the first one speaks; `log_to_file` gives each of them a file.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import absl.logging
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from azr_jax.monitor.live import View, stage_bars

PROGRAM_LINES = 16
LINE_CHARS = 200  # longer lines of the model are cut: a megabyte on one line is nothing to look at
LOG_WIDTH = 160  # of tables in a log, where 80 would cut names
PLAIN_EVERY_S = 30.0  # how often a stage reports where there are no live bars


class Console:
    def __init__(self, rich: RichConsole | None = None, *, quiet: bool = False):
        self._rich = RichConsole(file=io.StringIO()) if quiet else rich or RichConsole(highlight=False, soft_wrap=True)
        if not self._rich.is_terminal:
            self._rich.width = max(self._rich.width, LOG_WIDTH)
        self._view: View | None = None

    @contextlib.contextmanager
    def live(self, iterations: int) -> Iterator[None]:
        """Inside, on a terminal, there is one view that is drawn again and again; messages scroll by above it."""
        if not self._rich.is_terminal:
            yield
            return
        self._view = View(self._rich, iterations)
        try:
            with self._view.shown():
                yield
        finally:
            self._view = None

    def message(self, text: str) -> None:
        self._rich.print(clean(text), markup=False)

    def alarm(self, name: str, text: str) -> None:
        """Something is going wrong: what was seen and what to do about it (health.py makes these)."""
        line = Text(f"ALARM {clean(name)}: ", style="bold red") + Text(clean(text))
        self._rich.print(line)
        if self._view is not None:
            line.no_wrap, line.overflow = True, "ellipsis"  # there, one line each
            self._view.alarm(line)

    @contextlib.contextmanager
    def stages(self, title: str) -> Iterator[Callable[[str, int, int], None]]:
        """Bars that appear as their stages begin: call it with (stage, done, total)."""
        live = self._rich.is_terminal
        view = self._view
        progress = view.stage(clean(title)) if view else stage_bars(self._rich, transient=True, disable=not live)
        bars: dict[str, Any] = {}
        state: dict[str, tuple[int, int]] = {}
        started = told = time.perf_counter()

        def update(stage: str, done: int, total: int) -> None:
            nonlocal told
            state[stage] = (done, total)
            if stage not in bars:
                bars[stage] = progress.add_task(escape(clean(stage)), total=total)
            progress.update(bars[stage], completed=done, total=total)
            if not live and time.perf_counter() - told > PLAIN_EVERY_S:
                told = time.perf_counter()
                self.message(f"{title}: {_so_far(state)} after {told - started:.0f} s")

        with contextlib.nullcontext() if view else progress:
            yield update
        if not live and state:
            self.message(f"{title}: {_so_far(state)} in {time.perf_counter() - started:.1f} s")

    def iteration(self, number: int, cells: Mapping[str, str]) -> None:
        """One line about an iteration, for the live view's table of the last ones."""
        if self._view is not None:
            self._view.row(number, {clean(name): clean(cell) for name, cell in cells.items()})

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if self._view is not None:  # which has a table of its own
            return
        table = Table(title=escape(clean(title)), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(escape(clean(column)), justify="left" if not number else "right")
        for row in rows:
            table.add_row(*(escape(clean(cell)) for cell in row))
        self._rich.print(table)

    def task(self, title: str, facts: Sequence[tuple[str, str]], program: str) -> None:
        """One proposed task: its program, cut at a few lines, and what there is to know about it."""
        # Cut before cleaning: only what is shown is worth looking at.
        lines = program[: 4 * PROGRAM_LINES * LINE_CHARS].split("\n")
        more = [f"... {program.count(chr(10)) + 1 - PROGRAM_LINES} more lines"] if len(lines) > PROGRAM_LINES else []
        text = Text("\n".join([_one_line(line) for line in lines[:PROGRAM_LINES]] + more))
        for name, value in facts:
            text.append(f"\n{clean(name):<10}", style="bold")
            text.append(_one_line(value))
        panel = Panel(text, title=escape(clean(title)), title_align="left", expand=False)
        if self._view is not None:
            self._view.task(panel)
        else:
            self._rich.print(panel, soft_wrap=False)  # its lines are folded inside its border


def clean(text: str) -> str:
    """Without control characters (escape codes, bells, right-to-left marks), which could paint over the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else " " if c == "\t" else "?" for c in text)


class Stderr(io.TextIOBase):
    """Whatever sys.stderr is at the moment: what is logged through it scrolls by above a live view."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        if not self.closed:
            sys.stderr.flush()


def quiet_libraries() -> None:
    """The terminal is for people: of what is logged, our own warnings and JAX's (which say that there is no
    accelerator) reach it, and of other packages what they call errors.
    """
    handler = absl.logging.get_absl_handler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(_for_people)
    handler.python_handler.setStream(Stderr())
    sys.unraisablehook = _without_late_answers(sys.unraisablehook)


def _without_late_answers(told: Callable[[Any], object]) -> Callable[[Any], None]:
    """Of many arrays the first damaged one ends the reading; what comes of the others then finds nobody who waits."""

    def tell(late: Any) -> None:
        closed = late.exc_type is RuntimeError and str(late.exc_value) == "Event loop is closed"
        given_up = isinstance(getattr(late.exc_value, "__cause__", None), GeneratorExit)
        if not (closed or given_up):
            told(late)

    return tell


def _for_people(record: logging.LogRecord) -> bool:
    if record.name == "asyncio":  # the same, of those that it had begun to hand over
        return False
    if record.name == "absl" and record.exc_info:  # Orbax, of a save that failed: it raises that, too
        return False
    return record.levelno >= logging.ERROR or record.name.split(".")[0] in ("azr_jax", "jax", "__main__")


def log_to_file(workdir: Path, process: int = 0) -> Path:
    """Sends everything that is logged, by any package, to this process's own file as well."""
    path = workdir / "logs" / f"process_{process}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return path


def stop_logging_to(workdir: Path) -> None:
    """Its file may go."""
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(workdir.absolute()):
            logging.getLogger().removeHandler(handler)
            handler.close()


def _one_line(text: str) -> str:
    shown = clean(text[:LINE_CHARS]).replace("\n", "\\n")
    return shown if len(text) <= LINE_CHARS else f"{shown} ... ({len(text)} characters)"


def _so_far(state: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{stage} {done}/{total}" for stage, (done, total) in state.items())
