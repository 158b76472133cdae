"""induction: input/output pairs and a message -> the program. Its proposers are given a program of another kind's."""

from __future__ import annotations

from collections import Counter

from azr_jax.executor import verify
from azr_jax.executor.jobs import Validate
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.executor.validate import validate
from azr_jax.kinds.base import BaseKind, Words
from azr_jax.tasks import wording, worked
from azr_jax.tasks.input_forms import input_form
from azr_jax.tasks.kind import Own
from azr_jax.tasks.prompts import THOUGHT, Material, Prompt, block, conversation, fill, layout, render_answer, thought
from azr_jax.tasks.sameness import program_mark
from azr_jax.tasks.types import Answer, InductionTask, Proposal
from azr_jax.tasks.worked import Worked

PROPOSE = """\
Here is a Python program:

{program}

Make a puzzle of it: choose {count} inputs for `f` and write a message. Somebody will see some of the inputs with what \
`f` returns for them, and your message, but not the program, and has to write a program that does the same for the \
other inputs.

Your answer has this form, with {count} input blocks and then the message:

{layout}

Rules:
- Each input block holds the arguments of one call exactly as they would stand between the parentheses: values \
separated by commas, strings in quotes.
- All inputs differ and all are valid for this program. Together they reach its different cases, so that the pairs pin \
down what it does; vary kinds and sizes, and include edge cases.
{message}
- It should take real thought to find the program, and still be possible."""
MESSAGE = {
    "question": (
        "- The message is a coding question or an instruction in words: it says what the program has to do, so that a "
        "strong programmer can work it out from the message and a few pairs. It does not contain the code."
    ),
    "hint": (
        "- The message is in words. It gives a hint of what the program is for, and neither the code nor the rule "
        "itself."
    ),
}


class Induction(BaseKind):
    name = "induction"
    task_type = InductionTask
    about_a_program = True
    proposal_form = (
        ("input", "arguments of the first call"), ("input", "arguments of the second call"), ("input", "..."),
        ("message", "the message"),
    )  # fmt: skip
    to_proposer = (
        "{program}\nDescribe this function in a message block, then write {count} inputs for it, each in an input "
        "block."
    )
    heading = "Function, message and {count} inputs"
    to_solver = Words(
        "A hidden Python function was called with some inputs. These are the inputs, what it returned, and a message "
        "about it:\n\n{task}\n\nWrite the function. It is called `f`, and it will be tried on other inputs too, so "
        "find the rule and do not list the cases. Give the program in this form:\n\n{layout}",
        "{task}\nWrite the Python function f that does this. Use a python block.",
        "### Inputs, outputs, message and function {number}\n{task}\n",
    )

    def propose_prompt(self, material: Material) -> Prompt:
        m, program, count = material, material.references[0].program, str(material.inputs)
        if m.style in THOUGHT:
            form, message = layout(*self.proposal_form), MESSAGE[m.rules.message]
            request = fill(PROPOSE, program=block("python", program), count=count, layout=form, message=message)
            return thought(request, m.style)
        shown = worked.shown(m.rules.examples, worked.parameters_of(program))
        written = [(each.program, self._worked_inputs(each, m.inputs)) for each in shown]
        if m.style == "chat":

            def ask(code: str) -> str:
                return fill(self.to_proposer, program=block("python", code), count=count)

            turns = [(ask(code), answer) for code, answer in written]
            return conversation(turns, ask(program), "```message\n", ())
        title, parts = fill(self.heading, count=count), []
        for number, (code, answer) in enumerate([*written, (program, "")], start=1):
            parts.append(fill(wording.HEADING, title=title, number=str(number)) + block("python", code) + "\n")
            parts[-1] += f"{answer}\n\n" if answer else ""
        return Prompt("".join(parts), prefix="```message\n", stop=("\n###", "```python"))

    def shown(self, task: InductionTask) -> str:
        pairs = zip(task.inputs[: task.shown], task.outputs[: task.shown], strict=True)
        parts = [block("input", given) + "\n" + block("output", result) for given, result in pairs]
        return "\n".join([*parts, block("message", task.message)])

    def worked_answers(self, examples: str, task: InductionTask) -> list[tuple[str, str]]:
        found = []
        for each in worked.shown(examples, worked.arguments_of(task)):
            one = InductionTask(each.program, each.inputs, each.outputs, (), each.message, shown=2)
            found.append((self.shown(one), render_answer(Answer(self, each.program))))
        return found

    def _worked_inputs(self, example: Worked, count: int) -> str:
        inputs = tuple(example.inputs[i % len(example.inputs)] for i in range(count))
        return self.render_proposal(Proposal(self, example.program, inputs, example.message))

    def render_proposal(self, proposal: Proposal) -> str:
        return "\n".join([block("message", proposal.message), *(block("input", text) for text in proposal.inputs)])

    def validate(self, job: Validate, settings: ExecutorSettings) -> Own:
        return validate(job, settings.banned_modules, settings.max_output_chars, settings.timeout_s)

    def verify(self, job: Own, settings: ExecutorSettings) -> Own:
        return verify.induction(job.task, job.answer.text, job.induction_reward, settings.timeout_s)

    def written(self, task: Own) -> Counter[str]:
        """The inputs that were found for a program; what the message says makes no new task."""
        program = program_mark(task.program).hex()
        return Counter(f"{program}\t{input_form(given)}" for given in task.inputs)
