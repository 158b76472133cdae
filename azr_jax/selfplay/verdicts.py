"""What the executor answers, as JSON and back: how verdicts travel from one process of a run to the others."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from azr_jax.executor.jobs import Outcome
from azr_jax.tasks.types import InductionTask, Triplet, Validation, Verdict

TASKS = {kind.__name__: kind for kind in (Triplet, InductionTask)}


def to_plain(answer: Validation | Verdict | tuple[Outcome, ...]) -> dict[str, Any]:
    if isinstance(answer, tuple):
        return {"type": "outcomes", "outcomes": [asdict(outcome) for outcome in answer]}
    plain = {"type": type(answer).__name__, **asdict(answer)}
    if isinstance(answer, Validation) and answer.task is not None:
        plain["task_type"] = type(answer.task).__name__
    return plain


def from_plain(plain: dict[str, Any]) -> Validation | Verdict | tuple[Outcome, ...]:
    fields = dict(plain)
    kind = fields.pop("type")
    if kind == "outcomes":
        return tuple(Outcome(**outcome) for outcome in fields["outcomes"])
    if kind == "Verdict":
        return Verdict(**fields)
    if "task_type" in fields:
        task = TASKS[fields.pop("task_type")]
        fields["task"] = task(**{name: _frozen(value) for name, value in fields["task"].items()})
    return Validation(**fields)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
