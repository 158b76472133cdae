"""repair: a program with a mistake in it, and a call that it gets wrong -> a program that gets every call right.

    python -m azr_jax.main --config.tasks.kinds=deduction,induction,examples.repair:Repair

A kind that azr_jax does not know, whole in this file; docs/EXTENDING.md goes through it. The proposer's part is that of
induction, from which it is derived: it is given a program that was kept before and writes inputs and a message for it.
The mistake is made here, by one small change to the program, always the same one. Proposers who wrote the mistake
themselves could be paid for one that nobody can find, or for a program that has nothing to do with the right one.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from azr_jax.executor.cases import Budget, run_cases
from azr_jax.executor.validate import PROPOSAL_LIMITS
from azr_jax.executor.values import Refused, decode, same
from azr_jax.kinds.base import Words
from azr_jax.kinds.induction import Induction
from azr_jax.tasks.prompts import block
from azr_jax.tasks.types import InductionTask, Validation

TRIES = 4  # changes that are tried, until two of the inputs show one
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.FloorDiv, ast.FloorDiv: ast.Mod,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken(InductionTask):
    """The inputs, of which the first is one that the broken program gets wrong; the last one, which is hidden, too."""

    broken: str = ""


class Repair(Induction):
    name = "repair"
    task_type = Broken
    to_solver = Words(
        long=(
            "Here is a Python program with one small mistake in it, some inputs with what `f` should return for them, "
            "and a message about what it is for:\n\n{task}\n\nThe first input shows the mistake. Find it, and give the "
            "whole program without it, in this form:\n\n{layout}\n\nIt will be tried on other inputs too."
        ),
        short="{task}\nThe first output shows that f has a mistake. Write the right f. Use a python block.",
        heading="### Function with a mistake, inputs, outputs, message and right function {number}\n{task}\n",
    )

    def shown(self, task: Broken) -> str:
        return block("python", task.broken) + "\n" + super().shown(task)

    def worked_answers(self, examples: str, task: Any) -> list[tuple[str, str]]:
        return []  # those of induction show no mistake

    def validate(self, job: Any, settings: Any) -> Any:
        """Induction makes a task of the right program; then a change is looked for that at least two inputs show."""
        found = yield from super().validate(job, settings)
        if found.task is None:
            return found
        task: InductionTask = found.task
        calls = [{"text": given} for given in task.inputs]
        budget = Budget(PROPOSAL_LIMITS * settings.timeout_s)
        for broken in islice(changed(task.program), TRIES):
            ran = yield from run_cases(broken, calls, timeout_s=settings.timeout_s, budget=budget)
            if budget.spent:
                return Validation(None, "timeout", "all runs together")
            wrong = [n for n, gold in enumerate(task.values) if not right(ran.cases.get(n), gold)]
            if len(wrong) >= 2:
                good = [n for n in range(len(calls)) if n not in wrong]
                order = [wrong[0], *good, *wrong[1:]]
                cases = {name: tuple(getattr(task, name)[n] for n in order) for name in ("inputs", "outputs", "values")}
                return Validation(Broken(**{**asdict(task), **cases}, broken=broken))
        return Validation(None, "no mistake shows")

    # An answer is judged as in induction: it is run on the inputs that were not shown, one of which shows the mistake.


def changed(program: str) -> Iterator[str]:
    """The program with one operator or number changed, each in turn; where it begins depends on the program's text."""
    places = [place for place, node in enumerate(ast.walk(ast.parse(program))) if _change(node)]
    first = zlib.crc32(program.encode()) % max(1, len(places))
    for place in places[first:] + places[:first]:
        tree = ast.parse(program)
        _change(next(islice(ast.walk(tree), place, None)))
        yield ast.unparse(tree)


def _change(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            node.op = SWAPS[type(op)]()
        case ast.Compare(ops=[op, *_]) if type(op) in SWAPS:
            node.ops[0] = SWAPS[type(op)]()
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            node.value = value + 1
        case _:
            return False
    return True


def right(case: Any, gold: str) -> bool:
    try:
        return case is not None and case.status == "value" and same(decode(case.value), decode(gold))
    except Refused:
        return False
