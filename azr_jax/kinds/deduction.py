"""deduction: a program and an input -> the output."""

from __future__ import annotations

from azr_jax.executor import verify
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.kinds.base import Words
from azr_jax.kinds.triplets import TripletKind
from azr_jax.tasks.kind import Own


class Deduction(TripletKind):
    name = "deduction"
    puzzle = "They will read your program and your input and have to say what the program returns."
    to_solver = Words(
        "Here is a Python program and an input for it:\n\n{task}\n\nWhat does `f` return for this input? Work through "
        "the program step by step. Give the returned value written out, as Python's `repr` shows it, with nothing left "
        "to compute and strings in quotes, in this form:\n\n{layout}",
        "{task}\nWhat does f return for this input? Use an output block.",
        "### Function, input and output {number}\n{task}\n",
    )
    answer_block, answer_place = "output", "the returned value"

    def verify(self, job: Own, settings: ExecutorSettings) -> Own:
        return verify.deduction(job.task, job.answer.text, job.deduction_answer, settings.timeout_s)
