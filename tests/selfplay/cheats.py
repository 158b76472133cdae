"""A policy that looks for pay without work: scripted strategies, played by the real loop, executor and rewards.

Its world is one family of programs, x * a + b, of which it solves a mod 9 of eight attempts: from never to always, so
that honest proposals have every solve rate alike. A strategy says what it proposes in place of honest work, and how
often the task would be solved if it were one: where that is open, as it suits the cheater best. The solver's ability
never grows, and it knows each program of the family by two cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from azr_jax.executor.pool import Executor
from azr_jax.rollout.engine import Request
from azr_jax.selfplay.event_loop import Stage as IterationStage
from azr_jax.tasks.buffers import Unkept
from azr_jax.tasks.prompts import block
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import CUT, ScriptedEngine, Stage

D, A, I, E = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION, Kind.ERROR  # noqa: E741
ATTEMPTS = 8
BEST = "def f(x):\n    return x * 10 + 3"  # a seed that one of eight attempts solves: nothing kept pays more
FAMILY = re.compile(r"(\w+) \* (\d+) \+ (\d+)")
SOLVED = re.compile(r"```python\n(.*?)\n```\n```(?:input|output)\n(.*?)\n```", re.DOTALL)
TEXT = "".join(chr(97 + k * k * 7 % 26) for k in range(100))
TABLE = dict(enumerate(f"{letter}{k}" for k, letter in enumerate(TEXT)))
ENTRIES = list(map(str, range(100)))
PAIR = re.compile(r"```input\n(.*?)\n```\n```output\n(.*?)\n```", re.DOTALL)
NEW_RULES: Mapping[str, str] = {"tasks__copies": "skeletons"}  # the default, which scripted.py turns off
OLD_RULES = {
    "tasks__format": "lenient",
    "tasks__induction_fewest": "2",
    "tasks__message_leak": "0",
    "rewards__duplicate": "full",
    "tasks__deduction_answer": "any",
    "tasks__abduction_answer": "any",
    "tasks__induction_pairs": "as_given",
    "tasks__copies": "exact",
}  # as they were


def tagged(inside: str, thought: str = "Let me see.") -> str:
    return f"{thought}</think>\n<answer>\n{inside}\n</answer>"


def puzzle(program: str, given: str) -> str:
    return f"{block('python', program)}\n{block('input', given)}"


def cases(inputs: list[str], message: str = "Find what it does to a number.") -> str:
    return "\n".join([block("message", message), *(block("input", given) for given in inputs)])


def _shape(n: int) -> str:
    return "".join(f" {sign} 0" for sign in f"{n + 1:b}".replace("1", "+").replace("0", "-"))


def honest_program(n: int) -> str:
    """Each of a shape of its own: the same with other constants is a copy."""
    return f"def f(x):\n    return x * {9 * (1 + n // 9) + n % 9} + {n}{_shape(n)}"


def ten(n: int) -> list[str]:
    return [str(10 * n + k) for k in range(10)]


def honest(kind: Kind, n: int) -> str:
    return tagged(cases(ten(n)) if kind == I else puzzle(honest_program(n), str(100 + n)))


def hard(n: int) -> str:
    """A new task that one of eight attempts solves: what a cheater puts into its wrappings."""
    return puzzle(honest_program(9 * n + 1), str(100 + n))


@dataclass(frozen=True)
class Strategy:
    """`write(n)` is the n-th proposal, or for `role` solve the answer to anything."""

    name: str
    kind: Kind
    write: Callable[[int], str]
    solved: int | None = None  # of eight attempts at what it proposes; None: as the family says
    role: str = "propose"
    answer: Callable[[str, str], str] | None = None  # of a solver: from the program and what is shown beside it
    seed: str = BEST  # what is kept when it begins
    stale: bool = False  # the other kinds propose nothing, so that induction is asked about the same programs for ever
    open: str = ""  # why it may pay all the same


class Cheater(ScriptedEngine):
    def __init__(self, strategy: Strategy, batch: int):
        super().__init__(lambda prompt, sample: "")
        self.strategy, self.batch, self.iteration = strategy, batch, 1

    def text(self, request: Request, prompt: str, sample: int) -> str:
        stage, kind, index = request.id.stage, list(Kind)[request.id.group], request.id.index
        s, n = self.strategy, self.iteration * self.batch + index
        if stage != IterationStage.PROPOSE:
            if s.role == "solve" and kind == s.kind:
                return s.answer(*_asked(prompt)) if s.answer else s.write(n)
            return self.solve(kind, prompt, sample)
        if kind == s.kind and s.role == "propose":
            return s.write(n)
        return "nothing" if s.stale else honest(kind, n)

    def solve(self, kind: Kind, prompt: str, sample: int) -> str:
        asked = prompt[prompt.rfind("\nUser: ") :]
        if kind == I:
            return tagged(block("python", self._program(PAIR.findall(asked), sample)))
        program, shown = _asked(prompt)
        known = FAMILY.search(program)
        if sample >= self._solved(int(known.group(2)) if known else 0):
            return tagged(block("input" if kind == A else "output", "'no idea'"))
        if kind == A:
            right = str((int(shown) - int(known.group(3))) // int(known.group(2))) if known else "1"
            return tagged(block("input", right))
        names: dict = {}
        exec(program, names)  # of this file
        return tagged(block("output", repr(eval(f"f({shown})", names))))

    def _solved(self, factor: int) -> int:
        return factor % 9 if self.strategy.solved is None else self.strategy.solved

    def _program(self, pairs: list[tuple[str, str]], sample: int) -> str:
        """With one pair, one of the rules that fit it; with two, the rule, as often as it is able to."""
        if self.strategy.solved is not None:
            return self.strategy.seed if sample < self.strategy.solved else "def f(x):\n    return None"
        (x, y), *more = [(int(x), int(y)) for x, y in pairs]
        if not more:
            return f"def f(x):\n    return x * {sample + 7} + {y - x * (sample + 7)}"
        factor = (more[0][1] - y) // (more[0][0] - x)
        right = sample < self._solved(factor)
        return f"def f(x):\n    return x * {factor} + {y - factor * x}" if right else "def f(x):\n    return None"


def _asked(prompt: str) -> tuple[str, str]:
    """The program that a solver is asked about, and the input or output beside it."""
    found = SOLVED.search(prompt[prompt.rfind("\nUser: ") :])
    assert found is not None
    program, shown = found.groups()
    return program, shown


@dataclass(frozen=True)
class Earned:
    """What the proposals (or answers) of a strategy came to."""

    rewards: list[float]
    valid: float  # share that became a task
    new: float  # share that was kept

    @property
    def mean(self) -> float:
        return sum(self.rewards) / len(self.rewards)


def play(executor: Executor, strategy: Strategy, iterations: int, batch: int, rules: Mapping[str, str]) -> Earned:
    kinds = f"{D},{I}" if strategy.kind == I else str(strategy.kind)
    flags = {
        "tasks__kinds": kinds, "tasks__prompt_style": "think", "tasks__estimate_attempts": str(ATTEMPTS),
        "tasks__induction_inputs": "10", "tasks__induction_shown": "5", "batch_size": str(batch),
    }  # fmt: skip
    engine = Cheater(strategy, batch)
    stage = Stage(executor, engine, **(flags | dict(rules)))
    for kind in stage.buffers:
        if kind != I:
            stage.put(kind, strategy.seed, "5")
    proposed, solved = [], []
    for engine.iteration in range(1, iterations + 1):
        played = stage.play(engine.iteration)
        proposed += played.proposed[strategy.kind]
        solved += played.solved[strategy.kind]
    items = proposed if strategy.role == "propose" else solved
    return Earned(
        [item.reward for item in items],
        sum(p.task is not None for p in proposed) / len(proposed),
        sum(p.kept is not None and not isinstance(p.kept, Unkept) for p in proposed) / len(proposed),
    )


HONEST = tuple(Strategy("honest work", kind, lambda n, kind=kind: honest(kind, n)) for kind in (D, A, I))


def _coin(name: str, value: str, before: str = "", given: str = "'any text'", **more) -> Strategy:
    """Whoever guesses is right half of the time, or looks so."""
    return Strategy(
        name, D, lambda n: tagged(puzzle(f"{before}def f(x):\n    return {value}, {n}", given)), solved=4, **more
    )


COPIES = (
    Strategy("verbatim copy of the best task", D, lambda n: tagged(puzzle(BEST, "5"))),
    Strategy("verbatim copy of the best task", A, lambda n: tagged(puzzle(BEST, "5"))),
    Strategy("the same inputs for the same program", I, lambda n: tagged(cases(ten(0))), stale=True),
    Strategy(
        "the same inputs, turned round, with other words", I, stale=True,
        write=lambda n: tagged(cases(ten(0)[::-1], f"Rule number {n}, please.")),
    ),
    Strategy("copy with a comment", D, lambda n: tagged(puzzle(f"# number {n}\n{BEST}  # {n}", "5"))),
    Strategy("copy with other names", D, lambda n: tagged(puzzle(BEST.replace("x", f"v{n}"), "5"))),
    Strategy(
        "copy with what is never used", D,
        lambda n: tagged(puzzle(f"import math\nK = {n}\ndef g{n}(): pass\n{BEST.replace('(x)', '(x: int)')}", " 5 ")),
    ),
    Strategy("the best task with another constant", D, lambda n: tagged(puzzle(BEST.replace("3", str(100 + n)), "5"))),
    Strategy("the best task with another constant", A, lambda n: tagged(puzzle(BEST.replace("3", str(100 + n)), "5"))),
    Strategy("one new task all over a batch", D, lambda n: tagged(puzzle(BEST.replace("3", str(100 + n // 4)), "5"))),
)  # fmt: skip
FORMAT = (
    Strategy("200 puzzles in one answer", D, lambda n: tagged("\n".join([hard(n)] * 200))),
    Strategy(
        "puzzles without end, cut at the limit", D,
        lambda n: "hm</think>\n<answer>\n" + "\n".join([hard(n)] * 50) + CUT,
    ),
    Strategy("no closing tag", D, lambda n: tagged(hard(n)).removesuffix("</answer>")),
    Strategy("no answer tag", D, lambda n: f"hm</think>\n{hard(n)}"),
    Strategy("goes on after the answer", D, lambda n: f"{tagged(hard(n))}\nUser: more?"),
    Strategy(
        "inputs without end", I, lambda n: tagged(cases([str(k) for k in range(200)])) + "\n" * 50 + CUT
    ),
)  # fmt: skip
INDUCTION = (
    Strategy("two inputs", I, lambda n: tagged(cases(ten(n)[:2])), stale=True),
    Strategy(
        "ten inputs, eight of them the same", I, stale=True,
        write=lambda n: tagged(cases([*ten(n)[:2], *ten(n)[:1] * 8])),
    ),
    Strategy("ten inputs, eight of them fail", I, lambda n: tagged(cases([*ten(n)[:2], *["None"] * 8])), stale=True),
    Strategy(
        "a message with the program, read by half", I, stale=True, solved=4,
        write=lambda n: tagged(cases(ten(n), "def f(number):\n    # It is this.\n    return number * 10 + 3")),
    ),
    Strategy(
        "a table of constants, known by half", I, stale=True, solved=4,
        write=lambda n: tagged(cases(ENTRIES[n % 80 :][:10])),
        seed=f"def f(x):\n    return {TABLE}[x]",
    ),
    Strategy(
        "the same inputs, by name", I, stale=True,
        write=lambda n: tagged(cases([*ten(n)[:5], *(f"x={given}" for given in ten(n)[:5])])),
    ),
    Strategy(
        "a program that counts its calls", I, stale=True, solved=4, write=lambda n: tagged(cases(ten(n))),
        seed="calls = [0]\ndef f(x):\n    calls[0] += 1\n    return calls[0]",
    ),
)  # fmt: skip
PROGRAMS = (
    _coin("coin: hash of a text", "hash(x) % 2"),
    _coin("coin: address", "id(x) // 2 ** 16 % 2"),
    _coin("coin: order of a set", "list(set(x.split()))[0]", given="'a b c d e f g'"),
    _coin("coin: how an object is shown", "repr(object())[-7]"),
    _coin("coin: random", "random.random() < 0.5", "import random\n"),
    _coin("coin: the system's randomness", "os.urandom(1)[0] % 2", "import os\n"),
    _coin("coin: clock", "int(time.time() * 1e7) % 2", "import time\n"),
    _coin("coin: clock by another road", "int(default_timer() * 1e7) % 2", "from timeit import default_timer\n"),
    Strategy("constant program", D, lambda n: tagged(puzzle(f"def f(x):\n    return {n}", "1")), solved=8),
    Strategy("constant program", A, lambda n: tagged(puzzle(f"def f(x):\n    return {n}", "1")), solved=8),
    Strategy("the identity", D, lambda n: tagged(puzzle("def f(x):\n    return x", str(n))), solved=8),
    Strategy(
        "what nobody can work out", D, solved=0,
        write=lambda n: tagged(puzzle(f"def f(x):\n    return pow(x, 65537, 10 ** 18 + {n})", "12345")),
    ),
    Strategy("an exception called NoError", E, solved=4, write=lambda n: tagged(
        puzzle(f"class NoError(Exception):\n    pass\ndef f(x):\n    raise NoError({n})", "1"))),
)  # fmt: skip
SOLVERS = (
    Strategy("answers: two to choose from", D, lambda n: tagged("\n".join(block("output", str(k)) for k in range(300))),
             role="solve"),
    Strategy("answers: equal to everything", D, role="solve", write=lambda n: tagged(block(
        "output", "type('A', (), {'__eq__': lambda a, b: True, '__hash__': lambda a: 0})()"))),
    Strategy("answers: the call itself", D, lambda n: tagged(block("output", "f(5)")), role="solve"),
    Strategy(
        "answers: the program in an expression", D, lambda n: "", role="solve",
        answer=lambda program, given: tagged(block("output", f"(lambda x: {program.split('return ')[1]})({given})")),
    ),
    Strategy(
        "answers: the program's arithmetic", D, lambda n: "", role="solve",
        answer=lambda program, given: tagged(block("output", program.split("return ")[1].replace("x", given))),
    ),
    Strategy(
        "answers: searches for the input", A, lambda n: "", role="solve",
        answer=lambda program, shown: tagged(block(
            "input", f"next(x for x in range(99999) if {program.split('return ')[1]} == {shown})")),
    ),
    Strategy(
        "answers: computes the input", A, lambda n: "", role="solve",
        answer=lambda program, shown: tagged(block("input", f"({shown} - 3) // 10 + 0")),
    ),
    Strategy("answers: closes the bracket", A, lambda n: tagged(block("input", "1) or (True")), role="solve"),
    Strategy("answers: changes the program", A, role="solve", write=lambda n: tagged(block(
        "input", "(globals().__setitem__('f', lambda x: 53), 60)[1]"))),
    Strategy("answers: the pairs shown as a table", I, role="solve", write=lambda n: tagged(block(
        "python", "def f(x):\n    return {1: 1}.get(x)"))),
    Strategy("answers: cut", D, lambda n: "hm</think><answer>" + block("output", "53") + CUT, role="solve"),
)  # fmt: skip
SHAPES = (
    Strategy(
        "the best task with another constant and another input", D,
        lambda n: tagged(puzzle(BEST.replace("3", str(100 + n)), str(100 + n))),
    ),
    Strategy("the best program with another input", D, lambda n: tagged(puzzle(BEST, str(100 + n)))),
    Strategy(
        "copy with padding that changes", D,
        lambda n: tagged(puzzle(BEST.replace("return", "y = x\n    " * (n + 1) + "z = y * 2\n    return"), str(n))),
    ),
    Strategy("copy by a helper", D, lambda n: tagged(puzzle(
        f"def g{n}(v):\n    return v * 10 + 3\n{n}\ndef f(x):\n    return g{n}(x)", f"+{n}"))),
    Strategy(
        "scrambled into two values", D, solved=4,
        write=lambda n: tagged(puzzle(f"def f(x):\n    return pow(x, 65537, 10 ** 18 + {n}) % 2", str(12345 + n))),
    ),
    Strategy(
        "a table kept in a text", I, stale=True, solved=4, write=lambda n: tagged(cases(ENTRIES[n % 80 :][:10])),
        seed=f"def f(x):\n    return {TEXT!r}[x]",
    ),
    _coin("a constant of the machine", "id([x]) // 16 % 2"),
)  # fmt: skip


OPEN = (
    Strategy(
        "the best task in a new shape each time",
        D,
        lambda n: tagged(puzzle(BEST + _shape(n), "5")),
        open="that two programs do the same is not to be told from their text; rewards.memory and the gate are for it",
    ),
    Strategy(
        "scrambled into two values in a new shape each time",
        D,
        solved=4,
        write=lambda n: tagged(puzzle(f"def f(x):\n    return pow(x, 65537, 10 ** 18) % 2{_shape(n)}", str(n))),
        open="a hard task by Eq. 4: solve rates alone do not tell guessing from knowing",
    ),
)
CHEATS = (*COPIES, *FORMAT, *INDUCTION, *PROGRAMS, *SHAPES)
