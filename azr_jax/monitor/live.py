"""The one live view of a run on a terminal: how far it is, the stages under way, alarms, the last iterations, a task.

It is drawn again every second by rich, below everything that is printed meanwhile; of it only the first lines change
while an iteration goes on, and only they are made anew. What does not fit the
terminal's height is cut at the bottom, so what matters most stands first. It only draws what console.py hands it,
whose texts are cleaned there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

ROWS = 8  # iterations in the table
ALARMS = 4
REFRESHES_PER_S = 1


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(f"{task.completed / elapsed:6.1f}/s" if elapsed else "", style="cyan")


def stage_bars(rich: RichConsole, *, transient: bool = False, disable: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=rich,
        transient=transient,
        disable=disable,
    )


class View:
    """`with view.shown():` draws it; the other methods say what it shows."""

    def __init__(self, rich: RichConsole, iterations: int):
        self._rich, self._iterations = rich, iterations
        self._began, self._number = time.monotonic(), 0
        self._first: tuple[int, float] | None = None  # the first iteration seen to end, and when
        self._doing, self._bars = "", stage_bars(rich)
        self._rows: deque[Mapping[str, str]] = deque(maxlen=ROWS)
        self._alarms: deque[Text] = deque(maxlen=ALARMS)
        self._task: RenderableType | None = None
        self._still: tuple[int, list[Segment]] | None = None  # what does not change, for a terminal of this width

    def shown(self) -> Live:
        # Nothing is drawn by the run's own thread: it only leaves things here.
        return Live(self, console=self._rich, refresh_per_second=REFRESHES_PER_S, vertical_overflow="ellipsis")

    def stage(self, title: str) -> Progress:
        self._doing, self._bars = title, stage_bars(self._rich)
        return self._bars

    def row(self, number: int, cells: Mapping[str, str]) -> None:
        self._first = self._first or (number, time.monotonic())
        self._number = number
        self._rows.append({"iteration": str(number), **cells})
        self._still = None

    def alarm(self, text: Text) -> None:
        self._alarms.append(text)
        self._still = None

    def task(self, panel: RenderableType) -> None:
        self._task = panel
        self._still = None

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        yield self._headline()
        yield self._bars
        still = self._still
        if still is None or still[0] != options.max_width:
            parts = Group(
                *self._alarms, *([self._table()] if self._rows else []), *([self._task] if self._task else [])
            )
            still = self._still = options.max_width, list(console.render(parts, options))
        yield Segments(still[1])

    def _headline(self) -> Text:
        text = Text(self._doing or "starting", style="bold")
        now = time.monotonic()
        so_far = f"   {self._number} of {self._iterations} done, {_clock(now - self._began)} so far"
        text.append(so_far, style="not bold")
        # Before the first iteration ends there is seeding and compiling: its pace says nothing about the rest.
        if self._first and self._first[0] < self._number < self._iterations:
            pace = (now - self._first[1]) / (self._number - self._first[0])
            text.append(f", about {_clock(pace * (self._iterations - self._number))} left", style="not bold")
        return text

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for name in self._rows[-1]:
            table.add_column(escape(name), justify="right", no_wrap=True)
        for row in list(self._rows):
            table.add_row(*(escape(row.get(name, "-")) for name in self._rows[-1]))
        return table


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
