"""What most kinds have in common: the form of prompts and answers, and what a buffer asks.

A kind of your own is derived from this: it says what it is called, what proposers and solvers are asked, what a solver
sees, and how proposals are validated and answers verified; what it leaves out is as it stands here. docs/EXTENDING.md
goes through it with an example.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, ClassVar, NamedTuple

from azr_jax.tasks import wording
from azr_jax.tasks.kind import BUILT_IN, Own
from azr_jax.tasks.novelty import grams
from azr_jax.tasks.parsing import MOST_INPUTS, Block, defines, inputs_in
from azr_jax.tasks.prompts import (
    PROGRAM_PLACE,
    THOUGHT,
    Material,
    Prompt,
    answer_stop,
    block,
    conversation,
    fill,
    layout,
    opening,
    thought,
)
from azr_jax.tasks.sameness import task_mark
from azr_jax.tasks.seedfile import public_row
from azr_jax.tasks.types import FormatError, InductionTask, Kind, Proposal, Task, Triplet

# With fewer turns than this a small model of the chat style does not keep to the form: SmolLM2-135M wrote a valid
# proposal in 4 of 64 after the identity alone, in 20 of 64 after the identity and these two.
FEWEST_TURNS = 3


class Words(NamedTuple):
    """What a solver is asked, at the length of each style; {task} is what is seen of the task."""

    long: str  # think, think_chat; {layout} is the form of the answer
    short: str  # chat
    heading: str  # completion; {number} is 1, or follows on worked examples


class BaseKind(Kind):
    needs = ("name", "to_proposer", "to_solver")
    to_proposer: ClassVar[str]  # what a proposer is asked for, in a sentence or two
    to_solver: ClassVar[str | Words]  # and a solver
    task_type = Triplet
    answer_block = "python"
    answer_place: ClassVar[str] = PROGRAM_PLACE  # what is shown where the answer's contents go
    # The blocks of a proposal, each with what is shown where its contents go. With two of input there may be many.
    proposal_form: ClassVar[Sequence[tuple[str, str]]] = (("python", PROGRAM_PLACE), ("input", wording.INPUT_PLACE))
    heading: ClassVar[str] = ""  # of a proposal, in completion; empty: the name
    stop_at: ClassVar[tuple[str, ...]] = ()  # in chat and completion: where a proposal goes on to what is not its part

    @abstractmethod
    def shown(self, task: Own) -> str:
        """What a solver sees of the task, in blocks. Never what it has to find."""

    # --- prompts
    def propose_prompt(self, material: Material) -> Prompt:
        m, shown = material, [self.render_proposal(self.proposal_of(task)) for task in material.references]
        if m.style in THOUGHT:
            return thought(self.long_request(m), m.style)
        first = opening(self.proposal_form[0][0])
        if m.style == "chat":
            shown += self.worked_proposals(m.rules.examples)[: max(0, FEWEST_TURNS - len(shown))]
            given = fill(wording.CHAT_GIVEN, functions=_programs(m.functions)) if m.functions else ""
            requests = [self.to_proposer + given, *[wording.CHAT_AGAIN] * len(shown)]
            return conversation(list(zip(requests, shown)), requests[-1], first, self.stop_at)
        parts = [fill(wording.COMPLETION_GIVEN, functions=_programs(m.functions))] if m.functions else []
        for number, text in enumerate(shown, start=1):
            parts.append(self._heading(number) + text + "\n\n")
        return Prompt("".join([*parts, self._heading(len(shown) + 1)]), prefix=first, stop=("\n###", *self.stop_at))

    def long_request(self, material: Material) -> str:
        return fill(wording.PROPOSE, said=self.to_proposer, layout=layout(*self.proposal_form), **self.told(material))

    def told(self, material: Material) -> dict[str, str]:
        """The parts of a long request that depend on the run: what is forbidden, given, and there already."""
        rules = material.rules
        existing = [
            fill(wording.EXAMPLE, blocks=self.render_proposal(self.proposal_of(task)), result=self.result_of(task))
            for task in material.references
        ]
        return {
            "rules": fill(
                wording.RULES,
                banned=fill(wording.BANNED, names=", ".join(rules.banned)) if rules.banned else "",
                stripped=wording.STRIPPED if rules.stripped else "",
            ),
            "given": fill(wording.GIVEN, functions=_programs(material.functions)) if material.functions else "",
            "examples": fill(wording.EXAMPLES, tasks="\n\n".join(existing)) if existing else "",
        }

    def solve_prompt(self, task: Own, style: str, examples: str) -> Prompt:
        words, text = self._to_solver(), self.shown(task)
        if style in THOUGHT:
            form = layout((self.answer_block, self.answer_place))
            return thought(fill(words.long, task=text, layout=form), style)
        solved, first = self.worked_answers(examples, task), opening(self.answer_block)
        if style == "chat":
            turns = [(fill(words.short, task=shown), answer) for shown, answer in solved]
            return conversation(turns, fill(words.short, task=text), first, answer_stop(style))
        parts = [
            fill(words.heading, number=str(number), task=shown) + answer + "\n\n"
            for number, (shown, answer) in enumerate(solved, start=1)
        ]
        parts.append(fill(words.heading, number=str(len(solved) + 1), task=text))
        return Prompt("".join(parts), prefix=first, stop=answer_stop(style))

    def worked_proposals(self, examples: str) -> list[str]:
        """In chat, after the references: proposals of our own for small models."""
        return []

    def worked_answers(self, examples: str, task: Own) -> list[tuple[str, str]]:
        """In chat and completion: tasks as a solver sees them, each with its answer's block."""
        return []

    def result_of(self, task: Own) -> str:
        """What a long request tells of an existing task beside its proposal: a line, after a line break."""
        return ""

    def _heading(self, number: int) -> str:
        return fill(wording.HEADING, title=self.heading or self.name.capitalize(), number=str(number))

    def _to_solver(self) -> Words:
        said = self.to_solver
        if isinstance(said, Words):
            return said
        said = said.replace("{", "{{").replace("}", "}}")
        long = f"{said}\n\n{{task}}\n\nGive your answer in this form:\n\n{{layout}}"
        return Words(long, f"{{task}}\n{said}", f"### {self.name.capitalize()} {{number}}\n{{task}}\n")

    # --- proposals
    def proposal_of(self, task: Own) -> Proposal:
        """What was proposed, as it is shown to other proposers."""
        if isinstance(task, InductionTask):
            return Proposal(self, task.program, task.inputs, task.message)
        return Proposal(self, task.program, (task.input,))

    def render_proposal(self, proposal: Proposal) -> str:
        texts = {"python": [proposal.program], "input": proposal.inputs, "message": [proposal.message]}
        return "\n".join(block(name, text) for name in dict(self.proposal_form) for text in texts[name])

    def read_proposal(self, blocks: Sequence[Block], program: str) -> Proposal | FormatError:
        given = (text for block in blocks if block.name == "input" and block.text for text in inputs_in(block.text))
        found = {
            "python": [block.text for block in blocks if block.name in ("python", "") and defines(block.text)],
            "input": list(islice(given, MOST_INPUTS)),
            "message": [block.text for block in blocks if block.name == "message" and block.text],
        }
        asked = dict(self.proposal_form)
        for name in asked:
            if not found[name]:
                return FormatError(f"no {name} block")
        code = found["python"][-1] if "python" in asked else program
        return Proposal(self, code, tuple(found["input"]), found["message"][-1] if "message" in asked else "")

    def too_many(self, blocks: Sequence[Block]) -> bool:
        asked = Counter(name for name, _ in self.proposal_form)
        most = {"input": MOST_INPUTS} if asked["input"] > 1 else {}
        counts = Counter(block.name or "python" for block in blocks)
        return any(count > most.get(name, asked[name]) for name, count in counts.items())

    # --- the buffer
    def first(self) -> Proposal | None:
        return None

    def mark(self, task: Task, copies: str) -> bytes:
        return task_mark(task, copies)

    def written(self, task: Task) -> Counter[str]:
        return grams(task.program)

    def answers(self, task: Own) -> tuple[str, ...]:
        return task.outputs if isinstance(task, InductionTask) else (task.output,)

    def row(self, task: Task) -> dict[str, Any] | None:
        return public_row(task) | ({} if self in BUILT_IN else {"kind": str(self)})


def _programs(functions: Sequence[str]) -> str:
    return "\n".join(block("python", program) for program in functions)
