"""CRUXEval as tasks of self-play, for the curves of a run, and the programs that such a run must not train on."""

from __future__ import annotations

from collections.abc import Iterator

from azr_jax.evals.datasets import load
from azr_jax.executor import literals
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Kind, Triplet


def cruxeval(data_dir: str) -> Iterator[tuple[Kind, Triplet]]:
    """Output prediction, then input prediction, in the order of the source. Raises DataProblem.

    Outputs that are no plain literals are left out: telling their value would mean to run them here.
    """
    tasks = []
    for row in load("cruxeval", data_dir or None).rows:
        try:
            value = encode(literals.read(row.fields["output"]))
        except literals.NotLiteral:
            continue
        tasks.append(Triplet(row.fields["code"], row.fields["input"], row.fields["output"], value))
    for kind in (Kind.DEDUCTION, Kind.ABDUCTION):
        yield from ((kind, task) for task in tasks)
