"""CRUXEval as tasks of self-play, for the curves of a run, and the programs that such a run must not train on."""

from __future__ import annotations

from azr_jax.evals.datasets import load
from azr_jax.executor import literals
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Kind, Task, Triplet


def cruxeval(data_dir: str) -> tuple[list[tuple[Kind, Task]], list[str]]:
    """Output prediction, then input prediction, in the order of the source; and all its programs. Raises DataProblem.

    Outputs that are no plain literals are no tasks here: telling their value would mean to run them.
    """
    tasks = []
    rows = load("cruxeval", data_dir or None).rows
    for row in rows:
        try:
            value = encode(literals.read(row.fields["output"]))
        except literals.NotLiteral:
            continue
        tasks.append(Triplet(row.fields["code"], row.fields["input"], row.fields["output"], value))
    of_both: list[tuple[Kind, Task]] = [(kind, task) for kind in (Kind.DEDUCTION, Kind.ABDUCTION) for task in tasks]
    return of_both, [row.fields["code"] for row in rows]
