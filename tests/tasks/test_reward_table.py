"""Every price of the game in both presets, worked out by hand: from a completion's text through parsing, the real
executor and the estimates to its reward.

Paper (Eq. 4 to 6): 1 - r, 0 where all attempts agree; -0.5 well-formed and refused or wrong; -1 not well-formed. Public
code: a refused proposal is -1 as well, one from which nothing is learned -0.5; a copy is paid as if it were new, and
a message may hold the program.
"""

from dataclasses import dataclass

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.selfplay.event_loop import Stage as IterationStage
from azr_jax.tasks.types import Kind
from tests.run.test_whole_loop import SEEDS
from tests.selfplay.scripted import CUT, ScriptedEngine, Stage

D, A, I, E = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR  # noqa: E741


@dataclass(frozen=True)
class Proposal:
    """One that the proposer writes; `right` of the eight attempts at it are."""

    name: str
    text: str
    right: int
    paper: float
    reference: float


@dataclass(frozen=True)
class Answer:
    """One that the solver gives, with the same price in both presets."""

    name: str
    text: str
    price: float


def block(name: str, text: object) -> str:
    return f"```{name}\n{text}\n```"


def whole(*blocks: str) -> str:
    """As it is asked for; the prompt has opened <think>."""
    return "step by step</think>\n<answer>\n" + "\n".join(blocks) + "\n</answer>"


def program(number: int, body: str = "return 100 // x + {}") -> str:
    """The programs of these tests: at 5 they give 20 + number."""
    return "def f(x):\n    " + body.format(number)


def triplet(code: str, given: object = 5) -> str:
    return whole(block("python", code), block("input", given))


def pairs(*inputs: object, message: str = "Divide a hundred by x.") -> str:
    return whole(*(block("input", one) for one in inputs), block("message", message))


def program_proposals(kind: Kind) -> list[Proposal]:
    first = triplet(program(1))
    refused = "raise SystemExit" if kind == E else "return x // 0 + {}"
    return [
        Proposal("nobody solves it", triplet(program(0)), 0, 0.0, -0.5),
        Proposal("one of eight does", first, 1, 0.875, 0.875),
        Proposal("four of eight do", triplet(program(2)), 4, 0.5, 0.5),
        Proposal("seven of eight do", triplet(program(3)), 7, 0.125, 0.125),
        Proposal("everybody does", triplet(program(4)), 8, 0.0, -0.5),
        Proposal("a copy of the second", first, 1, -0.5, 0.875),
        Proposal("does not run", triplet(program(5, refused)), 0, -0.5, -1.0),
        Proposal("imports what is banned", triplet("import random\n" + program(6)), 0, -0.5, -1.0),
        Proposal("differs by hash seed", triplet(program(7, "return 1 // (hash('a') % 2)")), 0, -0.5, -1.0),
        Proposal("an input that is none", triplet(program(8), "("), 0, -0.5, -1.0),
        Proposal("no input", whole(block("python", program(9))), 0, -1.0, -1.0),
        Proposal("two puzzles", whole(*[block("python", program(10)), block("input", 5)] * 2), 0, -1.0, -1.0),
        Proposal("no tags", block("python", program(11)) + "\n" + block("input", 5), 0, -1.0, -1.0),
        Proposal("cut at the limit", triplet(program(12)) + CUT, 0, -1.0, -1.0),
    ]


INDUCTION_PROPOSALS = [
    Proposal("nobody solves it", pairs(*range(1, 11)), 0, 0.0, -0.5),
    Proposal("one of eight does", pairs(*range(2, 12)), 1, 0.875, 0.875),
    Proposal("everybody does", pairs(*range(3, 13)), 8, 0.0, -0.5),
    Proposal("a copy of the second", pairs(*range(2, 12)), 1, -0.5, 0.875),
    Proposal("its message is the program", pairs(*range(4, 14), message=program(0)), 1, -0.5, 0.875),
    Proposal("two inputs", pairs(1, 2), 8, -0.5, -1.0),
    Proposal("nine inputs", pairs(*range(5, 14)), 1, -0.5, -1.0),
    Proposal("eleven inputs", pairs(*range(5, 16)), 1, -0.5, -1.0),
    Proposal("one of ten raises", pairs(*range(10)), 1, -0.5, -1.0),
    Proposal("one of ten is no input", pairs(*range(6, 15), "("), 1, -0.5, -1.0),
    Proposal("no message", whole(*(block("input", one) for one in range(1, 11))), 0, -1.0, -1.0),
    Proposal("no inputs", whole(block("message", "Divide.")), 0, -1.0, -1.0),
    Proposal("cut at the limit", pairs(*range(7, 17)) + CUT, 0, -1.0, -1.0),
]
PROPOSALS = {kind: program_proposals(kind) for kind in (D, A, E)} | {I: INDUCTION_PROPOSALS}
ANSWER_BLOCK = {D: "output", A: "input", I: "python", E: "output"}
# Asked about program(20) at 5, which gives 40; of induction about program(0) on what is hidden: all from 9 to 14.
RIGHT = {D: ("40", "4_0  # why"), A: ("5", "x=5"), I: (program(0), "f = lambda n: int(100 / n)"), E: ("NoError",) * 2}
WRONG = {
    D: ("41", "1 // 0"),
    A: ("2", "0"),
    I: ("def f(x):\n    return 100 // x if x < 14 else 0", "def f(x:"),
    E: ("ZeroDivisionError", "none"),
}


def right(kind: Kind, number: int) -> str:
    """An answer to the task of one of the proposals."""
    said = {D: 20 + number, A: 5, I: program(0), E: "NoError"}[kind]
    return whole(block(ANSWER_BLOCK[kind], said))


def answers(kind: Kind) -> list[Answer]:
    name, (good, equal), (bad, broken) = ANSWER_BLOCK[kind], RIGHT[kind], WRONG[kind]
    return [
        Answer("right", whole(block(name, good)), 1.0),
        Answer("right, written otherwise", whole(block(name, equal)), 1.0),
        Answer("wrong", whole(block(name, bad)), -0.5),
        Answer("does not run", whole(block(name, broken)), -0.5),
        Answer("nothing in it", whole(block(name, "")), -1.0),
        Answer("no answer", "step by step</think>\nI do not know.", -1.0),
        Answer("never stops thinking", "step by step " * 5, -1.0),
        Answer("cut at the limit", whole(block(name, good)) + CUT, -1.0),
    ]


class Table(ScriptedEngine):
    """Writes proposal by proposal, and answers as many attempts right as the table says; then those of `answers`."""

    def __init__(self, kind: Kind):
        super().__init__(lambda prompt, sample: "")
        self.kind = kind

    def text(self, request, prompt, sample):
        stage, index, proposals = request.id.stage, request.id.index, PROPOSALS[self.kind]
        if stage == IterationStage.PROPOSE:
            about = pairs(*range(5, 15)) if self.kind == I else triplet(program(20))
            return proposals[index].text if index < len(proposals) else about
        if stage == IterationStage.SOLVE:
            return ""
        if index == len(proposals):
            return answers(self.kind)[sample].text
        number = 1 if proposals[index].name.startswith("a copy") else index
        return right(self.kind, number) if sample < proposals[index].right else whole(block("none", "no"))


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


@pytest.fixture(scope="module")
def played(executor):
    """One iteration of each kind under each preset: (kind, preset) -> its proposals."""
    found = {}
    for kind in Kind:
        for preset in ("paper", "reference"):
            made = Stage(
                executor, Table(kind), tasks__kinds=kind, batch_size=str(len(PROPOSALS[kind]) + 1), preset=preset,
                tasks__prompt_style="think", tasks__estimate_attempts="8", tasks__references="0",
                tasks__induction_inputs="10", tasks__induction_shown="5", seeding__import_from=str(SEEDS),
            )  # fmt: skip
            if kind == I:
                made.put(kind, program(0), "90", "91", "1", message="what induction is asked about")
            found[kind, preset] = made.play().proposed[kind]
    return found


@pytest.mark.parametrize("preset", ["paper", "reference"])
@pytest.mark.parametrize(
    ("kind", "index"),
    [
        pytest.param(kind, index, id=f"{kind}: {one.name}")
        for kind, proposals in PROPOSALS.items()
        for index, one in enumerate(proposals)
    ],
)
def test_what_a_proposal_earns(played, kind, index, preset):
    case, proposed = PROPOSALS[kind][index], played[kind, preset][index]
    price = {"paper": case.paper, "reference": case.reference}[preset]
    assert proposed.reward == price, (proposed.refusal, proposed.solve_rate, proposed.reward_parts)
    if price == -1.0:
        assert proposed.task is None
    if price > 0.0:
        assert proposed.solve_rate == case.right / 8


@pytest.mark.parametrize("preset", ["paper", "reference"])
@pytest.mark.parametrize(
    ("kind", "index"),
    [pytest.param(kind, index, id=f"{kind}: {one.name}") for kind in Kind for index, one in enumerate(answers(kind))],
)
def test_what_an_answer_earns(played, kind, index, preset):
    case, asked = answers(kind)[index], played[kind, preset][-1]
    assert asked.attempts[index].reward == case.price, (asked.attempts[index].answer, asked.attempts[index].verdict)
    assert asked.solve_rate == 0.25 and asked.reward == 0.75


def test_there_are_enough():
    proposals = sum(map(len, PROPOSALS.values()))
    assert (proposals, proposals + sum(len(answers(kind)) for kind in Kind)) == (55, 87)
