"""error: a program and an input -> the name of the exception that the call raises, or NoError. An ablation."""

from __future__ import annotations

from typing import Any

from azr_jax.executor import verify
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.kinds.base import Words
from azr_jax.kinds.triplets import TripletKind
from azr_jax.tasks.kind import Own
from azr_jax.tasks.sameness import task_mark
from azr_jax.tasks.types import Task, Triplet
from azr_jax.tasks.worked import Worked


class Error(TripletKind):
    name = "error"
    puzzle = (
        "They will read your program and your input and have to name the exception that the call raises, or say "
        "NoError. Write a program where this is not obvious: one that fails deep inside, or only seems to fail."
    )
    returns, ends = "", "ends with"
    to_proposer = (
        "Write a Python function f and an input for it, where the call may raise an exception. Use a python block and "
        "an input block."
    )
    heading = "Function and input, maybe an exception"
    to_solver = Words(
        "Here is a Python program and an input for it:\n\n{task}\n\nWhich exception does this call of `f` raise? Work "
        "through the program step by step. Give the exception's class name, or NoError if it returns normally, in this "
        "form:\n\n{layout}",
        "{task}\nWhich exception does this call raise? Name it, or NoError, in an output block.",
        "### Function, input and exception {number}\n{task}\n",
    )
    answer_block, answer_place = "output", "the name"
    may_raise = True

    def worked_task(self, example: Worked) -> Triplet:
        return Triplet(example.program, *example.error, "")

    def mark(self, task: Task, copies: str) -> bytes:
        return task_mark(task, copies, failing=True)

    def row(self, task: Task) -> dict[str, Any] | None:
        return None

    def verify(self, job: Own, settings: ExecutorSettings) -> Own:
        return verify.error(job.task, job.answer.text)
