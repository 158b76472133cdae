"""What a run writes down beside its checkpoints, and tells people: numbers, records, alarms, reports.

Of several processes the first one does it; what it writes of the clock and the machine is its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from azr_jax.config.schema import ConfigError
from azr_jax.monitor.console import Console
from azr_jax.monitor.health import Health, settings_from
from azr_jax.monitor.heldout import HeldOutWriter, Scores
from azr_jax.monitor.jsonl import Damaged
from azr_jax.monitor.metrics import MetricsWriter, SinkProblem
from azr_jax.monitor.records import RecordWriter
from azr_jax.monitor.report import build as build_report
from azr_jax.monitor.report import build_in_background
from azr_jax.monitor.rundata import read_rows
from azr_jax.run import presenting
from azr_jax.run.build import RunParts
from azr_jax.run.iteration_metrics import measure
from azr_jax.run.schedule import Schedule
from azr_jax.selfplay.results import Played


class Ledger:
    def __init__(self, run: RunParts, console: Console, cursors: Mapping[str, Any], begun_after: int):
        """Opening it cuts the files back to `cursors`, which are those after this iteration."""
        self.run, self.console = run, console
        self.schedule: Schedule | None = None
        self._report: threading.Thread | None = None
        sinks, home = run.config.monitor.sinks, run.place.home
        try:
            self.metrics = MetricsWriter(run.workdir, sinks, cursors.get("metrics"), home)
            self.records = RecordWriter(run.workdir, cursors.get("records", 0))
            self._held_out = HeldOutWriter(run.workdir, cursors.get("heldout", 0))
            if run.config.pipeline.ahead:
                self.schedule = Schedule(run.workdir, begun_after, cursors.get("schedule", 0))
            past = read_rows(run.workdir)
        except Damaged as error:
            raise ConfigError(
                [f"--workdir={home}: {run.place.told(error)}; bring the file back, or give another folder"]
            ) from error
        except SinkProblem as error:
            raise ConfigError([str(error)]) from error
        self.health = Health(settings_from(asdict(run.config)), past=past)

    def held_out(self, iteration: int, scores: Scores) -> dict[str, float]:
        """What has been gained since the first measurement."""
        return self._held_out.write(iteration, scores)

    def before_training(self, numbers: Mapping[str, float], timings: Mapping[str, float]) -> None:
        self.metrics.write(0, numbers, timings)

    def iteration(self, played: Played, learned: Mapping[str, float], timings: dict[str, float]) -> str:
        """Gives the name of the alarm that asks to end the run, if one does."""
        numbers = measure(played, self.run.buffers) | dict(learned)
        alarms = self.health.check(played.iteration, numbers | timings)
        timings |= self.health.metrics()
        self.metrics.write(played.iteration, numbers, timings)
        self.records.write(played.iteration, presenting.records(played))
        if self.schedule:
            self.schedule.write(played.iteration, self.run.self_play.loop.delivered or ())
        self.console.iteration(played.iteration, presenting.iteration_row(played.proposed, numbers, timings))
        self.console.table(*presenting.iteration_table(played, self.run.config.iterations, numbers, timings))
        example = presenting.example(played)
        if example:
            self.console.task(*example)
        for alarm in alarms:
            self.console.alarm(alarm.rule, str(alarm))
        return self.health.stop

    def cursors(self) -> dict[str, Any]:
        """Where the files stand."""
        schedule = {"schedule": self.schedule.cursor()} if self.schedule else {}
        return {
            "metrics": self.metrics.cursor(),
            "records": self.records.cursor(),
            "heldout": self._held_out.cursor(),
            **schedule,
        }

    def report_when_due(self, iteration: int) -> None:
        every = self.run.config.monitor.report_every
        under_way = self._report is not None and self._report.is_alive()
        if every and iteration % every == 0 and not under_way:
            self._report = build_in_background(self.run.workdir)

    def last_report(self) -> None:
        build_report([self.run.workdir], self.run.workdir / "report.html")

    def progress(self) -> str:
        return presenting.progress(read_rows(self.run.workdir))

    def close(self) -> None:
        self.metrics.close()
