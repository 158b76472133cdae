"""Alarms: rules that look at a run's numbers and say what seems wrong, by how much, and what to do.

A rule has a name, a threshold and a sentence of advice. It is judged on means over several iterations, so that the
noise of small batches raises nothing, and speaks once when its condition begins, again only after it had cleared.
Rules read metrics by name and keep silent about those that are absent. The rules themselves: rules.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from azr_jax.monitor.rules import RULES, AlarmRule, MetricHistory


@dataclass(frozen=True)
class Alarm:
    rule: str
    subject: str  # the metric, or the (role, kind), it is about
    iteration: int
    seen: str  # what was seen, with the numbers
    advice: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.seen}. {self.advice}"


@dataclass(frozen=True)
class HealthSettings:
    """`thresholds` replaces those of single rules by name; `stop_on` names the rules that end a run, or `any`."""

    thresholds: Mapping[str, float] = field(default_factory=dict)
    stop_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.thresholds, *(name for name in self.stop_on if name != "any")):
            if name not in {rule.name for rule in RULES}:
                known = ", ".join(rule.name for rule in RULES)
                raise ValueError(f"monitor.health: no rule is called {name!r}; should be one of {known}")


class Health:
    """`check` after each iteration; `stop` says whether one of the alarms so far should end the run."""

    def __init__(self, settings: HealthSettings | None = None, past: Iterable[Mapping[str, float]] = ()):
        """`past` are the iterations before a resume: they count as history and their alarms as already given."""
        self.settings = settings or HealthSettings()
        self.active: set[tuple[str, str]] = set()
        self.stop = ""  # the name of the rule that asks to stop
        self._history = MetricHistory()
        for row in past:
            self.check(int(row["iteration"]), row)
        self.stop = ""

    def check(self, iteration: int, numbers: Mapping[str, float]) -> list[Alarm]:
        self._history.add(numbers)
        new: list[Alarm] = []
        for rule in RULES:
            new += self._judge(rule, self._history, iteration)
        for alarm in new:
            if alarm.rule in self.settings.stop_on or "any" in self.settings.stop_on:
                self.stop = self.stop or alarm.rule
        return new

    def metrics(self) -> dict[str, float]:
        """How many alarms are on, and which: for the metrics of this iteration."""
        counts = {f"health/{rule}": 1.0 for rule, _ in sorted(self.active)}
        return {"health/active": float(len(self.active))} | counts

    def _judge(self, rule: AlarmRule, history: MetricHistory, iteration: int) -> list[Alarm]:
        threshold = self.settings.thresholds.get(rule.name, rule.threshold)
        found = dict(rule.find(history, threshold))
        before = {subject for name, subject in self.active if name == rule.name}
        self.active -= {(rule.name, subject) for subject in before - set(found)}
        self.active |= {(rule.name, subject) for subject in found}
        return [
            Alarm(rule.name, subject, iteration, seen, rule.advice)
            for subject, seen in found.items()
            if subject not in before
        ]


def replayed(rows: Iterable[Mapping[str, float]], settings: HealthSettings) -> tuple[list[Alarm], list[Alarm]]:
    """Every alarm a run gave, or would have given, in order; and those of them that are still on after the last row."""
    health = Health(settings)
    alarms = [alarm for row in rows for alarm in health.check(int(row["iteration"]), row)]
    latest = {(alarm.rule, alarm.subject): alarm for alarm in alarms}
    return alarms, [alarm for key, alarm in latest.items() if key in health.active]


def settings_from(config: Mapping[str, Any]) -> HealthSettings:
    """From a run's config: the fields monitor.health.thresholds (`name=number` each) and monitor.health.stop_on."""
    fields = config.get("monitor", {}).get("health", {})
    given = (item.partition("=") for item in fields.get("thresholds", ()))
    return HealthSettings({name: float(number) for name, _, number in given}, tuple(fields.get("stop_on", ())))
