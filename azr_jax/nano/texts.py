"""Known programs -> text to learn from: what a player of each role and kind would be asked, and a right completion.

Every prompt is rendered by tasks/prompts.py in the style that self-play will use, so the model starts out knowing
exactly the form it will meet there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from azr_jax.nano.world import Known
from azr_jax.tasks import prompts
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Role, Task, Triplet

STYLE = "completion"
KINDS = (Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION)
REFERENCES = 2  # at most, before a proposal; configs/nano.py asks for as many
INDUCTION_INPUTS = 6  # of a proposal, and of a task
INDUCTION_SHOWN = 3


@dataclass(frozen=True)
class Text:
    role: Role
    kind: Kind
    prompt: str
    completion: str


def task_of(kind: Kind, known: Known, case: int) -> Task:
    """The task that validation would make of this program; `case` says which input where there is one."""
    if kind == Kind.INDUCTION:
        n = INDUCTION_INPUTS
        cases = (known.inputs[:n], known.outputs[:n], known.values[:n])
        return InductionTask(known.program, *cases, message=known.message, shown=INDUCTION_SHOWN)
    return Triplet(known.program, known.inputs[case], known.outputs[case], known.values[case])


def solving(kind: Kind, known: Known, case: int) -> Text:
    task = task_of(kind, known, case)
    prompt = prompts.solve(kind, task, style=STYLE)
    right = {Kind.DEDUCTION: known.outputs[case], Kind.ABDUCTION: known.inputs[case], Kind.INDUCTION: known.program}
    return _text(Role.SOLVE, kind, prompt, prompts.render_answer(Answer(kind, right[kind])))


def proposing(kind: Kind, known: Known, case: int, references: Sequence[Task]) -> Text:
    """For induction the program is given and the references are not shown."""
    if kind == Kind.INDUCTION:
        shown: Sequence[Task] = (task_of(kind, known, case),)
        proposal = Proposal(kind, known.program, known.inputs[:INDUCTION_INPUTS], known.message)
    else:
        shown, proposal = references, Proposal(kind, known.program, (known.inputs[case],))
    prompt = prompts.propose(kind, shown, style=STYLE, inputs=INDUCTION_INPUTS)
    return _text(Role.PROPOSE, kind, prompt, prompts.render_proposal(proposal))


def draw(rng: random.Random, corpus: Sequence[Known], role: Role, kind: Kind) -> Text:
    """A text about a program of the corpus, with other programs of it as references."""
    known = rng.choice(corpus)
    case = rng.randrange(len(known.inputs))
    if role == Role.SOLVE:
        return solving(kind, known, case)
    others = [rng.choice(corpus) for _ in range(rng.randint(0, REFERENCES))]
    return proposing(kind, known, case, [task_of(Kind.DEDUCTION, other, 0) for other in others])


def _text(role: Role, kind: Kind, prompt: prompts.Prompt, written: str) -> Text:
    if not written.startswith(prompt.prefix):
        raise ValueError(f"{role} {kind}: the prompt opens with {prompt.prefix!r}, the answer with {written[:30]!r}")
    return Text(role, kind, prompt.render(), written.removeprefix(prompt.prefix))
