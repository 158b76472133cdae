"""What deduction, abduction and error have in common: one program and one input are proposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from azr_jax.executor.jobs import Validate
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.executor.validate import validate
from azr_jax.kinds.base import BaseKind
from azr_jax.tasks import worked
from azr_jax.tasks.kind import Own
from azr_jax.tasks.parsing import Block, argument_list, defines
from azr_jax.tasks.prompts import Material, block, fill, layout, render_answer
from azr_jax.tasks.types import Answer, FormatError, Proposal, Triplet
from azr_jax.tasks.worked import Worked

IDENTITY = "def f(x):\n    return x", "'Hello World'"

PROPOSE = """\
Make a new puzzle about a Python program, for a strong programmer who cannot run code. {puzzle}

Your answer has this form:

{layout}

- In the first block stands the program. Its entry point is a function called `f` with at least one parameter{returns}.
- In the second block stand the arguments of one call of `f`, exactly as they would between the parentheses: values \
separated by commas, strings in quotes.

{rules}
- It should take several careful steps to solve: state that changes, conditions that depend on each other, an \
algorithm with a twist. Hard because of its logic, not because of its length.
- Use the whole language where it makes the puzzle better: classes that hold state, recursion, trees and graphs, \
stacks and queues, dynamic programming, backtracking, simulation, parsing, arithmetic on digits and \
bits.{given}{examples}

Now make one new puzzle: one program and one input. Think first about what would make it both new and hard."""


class TripletKind(BaseKind):
    to_proposer = "Write a Python function f and an input for it. Use a python block and an input block."
    heading = "Function and input"
    stop_at = ("```output",)
    puzzle: ClassVar[str]  # what solvers will have to do, as a proposer is told it
    returns: ClassVar[str] = " and it returns a value"
    ends: ClassVar[str] = "returns"  # what the call does, before the output

    def long_request(self, material: Material) -> str:
        told = self.told(material)
        return fill(PROPOSE, puzzle=self.puzzle, layout=layout(*self.proposal_form), returns=self.returns, **told)

    def result_of(self, task: Triplet) -> str:
        """It stands in a line: a third block would look like a part of the answer's form."""
        return f"\n{self.ends} {task.output}"

    def shown(self, task: Triplet) -> str:
        return block("python", task.program) + "\n" + block("input", task.input)

    def worked_proposals(self, examples: str) -> list[str]:
        shown = worked.proposed(examples)
        return [self.render_proposal(Proposal(self, each.program, each.inputs[:1])) for each in shown]

    def worked_answers(self, examples: str, task: Triplet) -> list[tuple[str, str]]:
        found = []
        for each in worked.shown(examples, worked.arguments_of(task)):
            one = self.worked_task(each)
            (answer,) = self.answers(one)
            found.append((self.shown(one), render_answer(Answer(self, answer))))
        return found

    def worked_task(self, example: Worked) -> Triplet:
        return Triplet(example.program, example.inputs[0], example.outputs[0], "")

    def read_proposal(self, blocks: Sequence[Block], program: str) -> Proposal | FormatError:
        pair = _last_pair(blocks)
        if isinstance(pair, FormatError):
            return pair
        code, given = pair
        return Proposal(self, code, (argument_list(given),))

    def too_many(self, blocks: Sequence[Block]) -> bool:
        return len(blocks) > 2

    def validate(self, job: Validate, settings: ExecutorSettings) -> Own:
        return validate(job, settings.banned_modules, settings.max_output_chars, settings.timeout_s)

    def first(self) -> Proposal | None:
        program, value = IDENTITY
        return Proposal(self, program, (value,))


def _last_pair(parts: Sequence[Block]) -> tuple[str, str] | FormatError:
    """The last program that an input follows; a pair cut off in the middle only where no whole one came before."""
    code = given = ""
    pairs: list[tuple[bool, tuple[str, str]]] = []
    for part in parts:
        if part.name in ("python", "") and defines(part.text):
            code = part.text
        elif part.name == "input" and part.text:
            given = part.text
            if code:
                pairs.append((part.closed, (code, given)))
    whole = [pair for closed, pair in pairs if closed]
    if pairs:
        return (whole or [pairs[-1][1]])[-1]
    if code and given:
        return code, given  # the input came first
    return FormatError("no input block" if code else "no python block")
