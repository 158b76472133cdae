"""Known programs -> text to learn from: what a player of each role and kind would be asked, and a completion.

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


def solving(kind: Kind, known: Known, case: int, answer: Known | None = None) -> Text:
    """With another program as `answer`, its output, input or text stands where the right one should."""
    task = task_of(kind, known, case)
    prompt = prompts.solve(kind, task, style=STYLE)
    a = answer or known
    case %= len(a.inputs)
    written = {Kind.DEDUCTION: a.outputs[case], Kind.ABDUCTION: a.inputs[case], Kind.INDUCTION: a.program}
    return _text(Role.SOLVE, kind, prompt, prompts.render_answer(Answer(kind, written[kind])))


def proposing(kind: Kind, known: Known, case: int, references: Sequence[Task], inputs_of: Known | None = None) -> Text:
    """For induction the program is given and the references are not shown. `inputs_of` another: they seldom fit."""
    inputs = (inputs_of or known).inputs
    if kind == Kind.INDUCTION:
        shown: Sequence[Task] = (task_of(kind, known, case),)
        proposal = Proposal(kind, known.program, inputs[:INDUCTION_INPUTS], known.message)
    else:
        shown, proposal = references, Proposal(kind, known.program, (inputs[case % len(inputs)],))
    prompt = prompts.propose(kind, shown, style=STYLE, inputs=INDUCTION_INPUTS)
    return _text(Role.PROPOSE, kind, prompt, prompts.render_proposal(proposal))


def draw(rng: random.Random, corpus: Sequence[Known], role: Role, kind: Kind, mistaken: float = 0.0) -> Text:
    """A text about a program of the corpus, with other programs of it as references.

    In a share of `mistaken` the answer, or the proposed input, is that of another program.
    """
    known = rng.choice(corpus)
    case = rng.randrange(len(known.inputs))
    other = rng.choice(corpus) if mistaken and rng.random() < mistaken else None
    if role == Role.SOLVE:
        return solving(kind, known, case, other)
    others = [rng.choice(corpus) for _ in range(rng.randint(0, REFERENCES))]
    return proposing(kind, known, case, [task_of(Kind.DEDUCTION, one, 0) for one in others], other)


def _text(role: Role, kind: Kind, prompt: prompts.Prompt, written: str) -> Text:
    if not written.startswith(prompt.prefix):
        raise ValueError(f"{role} {kind}: the prompt opens with {prompt.prefix!r}, the answer with {written[:30]!r}")
    return Text(role, kind, prompt.render(), written.removeprefix(prompt.prefix))
