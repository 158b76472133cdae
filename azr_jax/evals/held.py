"""Tasks of self-play that a run does not train on: CRUXEval as such tasks, all its programs, and attempts at them."""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.evals.datasets import load
from azr_jax.executor import literals
from azr_jax.executor.values import encode
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import Job, RequestId, Stage
from azr_jax.selfplay.results import Solved
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


def solutions(
    solver: Solver, tasks: Sequence[tuple[Kind, Task]], attempts: int, suite: int = 0
) -> Job[list[list[Solved]]]:
    """Every attempt, a list for each task; an empty one where it is too long to be asked."""
    solved: list[list[Solved]] = yield [
        solver.attempts(kind, task, number, RequestId(Stage.HELD_OUT, suite, number), attempts)
        for number, (kind, task) in enumerate(tasks)
    ]
    return solved


def attempted(
    solver: Solver, tasks: Sequence[tuple[Kind, Task]], attempts: int, suite: int = 0
) -> Job[list[list[float]]]:
    """The score of every attempt, a list for each task."""
    solved = yield from solutions(solver, tasks, attempts, suite)
    return [[one.score for one in of_task] for of_task in solved]
