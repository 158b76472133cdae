"""abduction: a program and its output -> an input. It plays the tasks of deduction, and shares its seeds."""

from __future__ import annotations

from azr_jax.executor import verify
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.kinds.base import Words
from azr_jax.kinds.triplets import TripletKind
from azr_jax.tasks.kind import Own
from azr_jax.tasks.prompts import block
from azr_jax.tasks.types import Triplet


class Abduction(TripletKind):
    name = "abduction"
    puzzle = "They will read your program and what it returned and have to find an input that leads there."
    to_solver = Words(
        "Here is a Python program and what it returned:\n\n{task}\n\nFind an input for which `f` returns exactly this. "
        "There may be several; any one will do. Give the arguments, as they would stand between the parentheses of the "
        "call: values written out, with nothing left to compute, separated by commas, strings in quotes, in this form:"
        "\n\n{layout}",
        "{task}\nFor which input does f return this output? Use an input block.",
        "### Function, output and input {number}\n{task}\n",
    )
    answer_block, answer_place = "input", "the arguments"
    seeded_with = "deduction"
    runs_again = True

    def shown(self, task: Triplet) -> str:
        return block("python", task.program) + "\n" + block("output", task.output)

    def answers(self, task: Triplet) -> tuple[str, ...]:
        return (task.input,)

    def verify(self, job: Own, settings: ExecutorSettings) -> Own:
        return verify.abduction(
            job.task, job.answer.text, job.abduction_answer, settings.banned_modules, settings.timeout_s
        )
