"""What the executor answers, as JSON and back: how verdicts travel from one process of a run to the others."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from azr_jax.executor.equality import Json
from azr_jax.executor.jobs import Outcome
from azr_jax.tasks.types import Triplet, Validation, Verdict

Settled = Validation | Verdict | tuple[Outcome, ...]


def to_plain(answer: Settled) -> dict[str, Any]:
    if isinstance(answer, tuple):
        return {"type": "outcomes", "outcomes": [asdict(outcome) for outcome in answer]}
    return {"type": type(answer).__name__, **asdict(answer)}


def from_plain(plain: dict[str, Any], task_type: type = Triplet) -> Settled:
    fields = dict(plain)
    kind = fields.pop("type")
    if kind == "outcomes":
        return tuple(Outcome(**outcome) for outcome in fields["outcomes"])
    if kind == "Verdict":
        return Verdict(**fields)
    if fields["task"] is not None:
        fields["task"] = task_type(**{name: _frozen(value) for name, value in fields["task"].items()})
    return Validation(**fields)


def _frozen(value: Json) -> Json | tuple[Json, ...]:
    return tuple(value) if isinstance(value, list) else value
