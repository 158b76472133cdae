"""Kinds as users write them, good and bad ones, for the tests beside this file."""

from typing import Any

from azr_jax.executor.cases import run_cases
from azr_jax.kinds.base import BaseKind
from azr_jax.tasks.prompts import block
from azr_jax.tasks.types import Triplet, Validation, Verdict

ready = "not a class"


class Length(BaseKind):
    """How many characters the program has: no model has to run anything to be right."""

    name = "length"
    to_proposer = "Write a function f, {any} one, and an input."
    to_solver = "How many characters does this program have?"
    answer_block, answer_place = "output", "a number"

    def shown(self, task: Any) -> str:
        return block("python", task.program)

    def validate(self, job: Any, settings: Any) -> Any:
        proposal = job.proposal
        ran = yield from run_cases(proposal.program, [{"text": proposal.inputs[0]}], timeout_s=settings.timeout_s)
        if ran.reason:
            return Validation(None, ran.reason)
        return Validation(Triplet(proposal.program, proposal.inputs[0], str(len(proposal.program)), ""))

    def verify(self, job: Any, settings: Any) -> Any:  # without a generator: nothing has to be run
        right = job.answer.text.strip() == job.task.output
        return Verdict(float(right), "correct" if right else "wrong value")


class Unfinished(BaseKind):
    name = "unfinished"
    to_proposer = to_solver = "?"

    def validate(self, job: Any, settings: Any) -> Any: ...


class Nameless(Length):
    name = "de/duction"


class Impostor(Length):
    name = "deduction"


class Again(Length):
    pass


class Fails(Length):
    def __new__(cls):
        raise RuntimeError("no file\nof mine")


class Silent(Length):
    """It fails where it asks for a proposal."""

    name = "silent"

    def propose_prompt(self, material: Any) -> Any:
        return material.references[0].program


class Hesitant(Length):
    """It cannot say what comes first."""

    name = "hesitant"

    def first(self) -> Any:
        raise KeyError("mine")


class Rubbish(Length):
    """`wrong` says what its judge does."""

    name = "rubbish"
    wrong: Any = None

    def verify(self, job: Any, settings: Any) -> Any:
        return self.wrong()
