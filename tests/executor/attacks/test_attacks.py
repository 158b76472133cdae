"""Every attack is shown to work where nothing holds it, and then fails against the executor.

The order is shuffled, three times over; between the attacks, honest programs are judged, and all of them rightly.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))

import answers
import plain_python
import programs
import unfit

from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode, encode
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 1.0

_DEDUCTION = Triplet(answers.DEDUCTION_PROGRAM, answers.DEDUCTION_INPUT, "37338", encode(37338))
_ABDUCTION = Triplet(answers.ABDUCTION_PROGRAM, answers.ABDUCTION_INPUT, "4210", encode(4210))
_SQUARES = [int(x) ** 2 + 1 for x in answers.INDUCTION_INPUTS]
_INDUCTION = InductionTask(
    answers.INDUCTION_PROGRAM, answers.INDUCTION_INPUTS, tuple(map(str, _SQUARES)), tuple(map(encode, _SQUARES)), "", 5
)

FAMILIES = {
    "deduction": answers.DEDUCTION, "abduction": answers.ABDUCTION, "induction": answers.INDUCTION,
    "parser": answers.PARSER, "hit": programs.HITS, "hang": programs.HANGS, "death": programs.DEATHS,
    "poison": programs.POISONS, "nondeterministic": unfit.NONDETERMINISTIC, "clock": unfit.CLOCK,
    "round_the_list": unfit.ROUND_THE_LIST,
}  # fmt: skip
# How a parser suffers differs from version to version: it is only asked that ours is not the one to suffer.
_UNSHOWN = "parser"
ALL = [(family, name) for family, attacks in FAMILIES.items() for name in attacks]
_SHOWN = [attack for attack in ALL if attack[0] != _UNSHOWN]


def planted(code: str, folder: Path) -> str:
    return (
        code.replace("@ROOT@", str(ROOT)).replace("@PLANTED@", str(folder / "planted")).replace("@FOLDER@", str(folder))
    )


@pytest.fixture(scope="module")
def open_executor():
    """No list of banned modules, so that the walls are tested and not the list."""
    with Executor(ExecutorSettings(timeout_s=LIMIT_S, workers=2, banned_modules=())) as running:
        yield running


# ------------------------------------------------------------------------------ the attacks work on careless judges
_CARELESS = """
space = {{"gold": {gold!r}}}
import sys
sys.modules["__main__"].space = space
exec({program!r}, space)
print("HIT" if eval({question!r}, space) else "miss")
"""
_CARELESS_INDUCTION = """
import sys
space = {{}}
sys.modules["__main__"].space = space
exec({program!r}, space)
for text, gold in {cases!r}:
    space["gold"] = gold
    if not all([eval(f"f({{text}}) == {{gold}}", space)]):
        break
else:
    print("HIT")
"""


_CARELESS_CALL = """
import pickle, sys
sys.argv = [""]
space = {{"__name__": "program"}}
exec({code!r}, space)
try:
    result = space["f"]()
except SystemExit as error:
    result = str(error)
if hasattr(result, "__next__"):
    result = list(result)
print(result, flush=True)
print(pickle.loads(pickle.dumps(result)))
"""


def shows(family: str, name: str, folder: Path) -> bool:
    """Whether the attack does what it says in a plain interpreter."""
    attack = FAMILIES[family][name]
    if family in ("deduction", "abduction"):
        program, gold = (
            (answers.DEDUCTION_PROGRAM, answers.DEDUCTION_GOLD)
            if family == "deduction"
            else (answers.ABDUCTION_PROGRAM, answers.ABDUCTION_GOLD)
        )
        question = f"{attack} == {gold}" if family == "deduction" else f"f({attack}) == {gold}"
        return "HIT" in plain_python.run(_CARELESS.format(gold=gold, program=program, question=question)).stdout
    if family == "induction":
        cases = list(zip(answers.INDUCTION_INPUTS, _SQUARES))
        return "HIT" in plain_python.run(_CARELESS_INDUCTION.format(program=attack, cases=cases)).stdout
    if family == "poison":
        poison, victim, expected = attack
        script = f"import json\nexec({poison!r}, {{}})\ns = {{}}\nexec({victim!r}, s)\nprint(s['f']() == {expected!r})"
        return plain_python.run(script).stdout.strip() != "True"
    return _shows_program(family, planted(attack, folder), folder)


def _shows_program(family: str, code: str, folder: Path) -> bool:
    called = (
        f"import sys\nsys.argv = ['']\ns = {{'__name__': 'program'}}\nexec({code!r}, s)\nprint(s['f'](), flush=True)"
    )
    if family == "hit":
        (folder / "planted").write_text("x")
        os.environ["SECRET"] = "token"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            return "HIT" in plain_python.run(_CARELESS_CALL.format(code=code), inherited=(theirs.fileno(),)).stdout
    if family == "death":
        done = plain_python.run(called + "\nprint('survived')")
        return "survived" not in done.stdout
    if family == "hang":
        try:
            plain_python.run(called, timeout_s=1.2)
        except Exception as error:
            return type(error).__name__ == "TimeoutExpired"
        return False
    # the clock and other sources of chance: several processes, each with its own hash seed
    seen = {plain_python.run(called).stdout for _ in range(2 if family == "round_the_list" else 4)}
    return len(seen) > 1 and "" not in seen if family != "clock" else all(seen)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), _SHOWN, ids=["-".join(a) for a in _SHOWN])
def test_attack_is_real(family, name, tmp_path):
    try:
        assert shows(family, name, tmp_path)
    finally:
        Path("/dev/shm/azr_jax_attack").unlink(missing_ok=True)


# ------------------------------------------------------------------------------ and fail here
def attempt(executor: Executor, guarded: Executor, family: str, name: str, folder: Path):
    """The future of the attack, and what says whether it was beaten."""
    attack = FAMILIES[family][name]
    if family in ("deduction", "parser"):
        return executor.submit(Verify(Kind.DEDUCTION, _DEDUCTION, Answer(Kind.DEDUCTION, attack))), lost
    if family == "abduction":
        return executor.submit(Verify(Kind.ABDUCTION, _ABDUCTION, Answer(Kind.ABDUCTION, attack))), lost
    if family == "induction":
        return executor.submit(Verify(Kind.INDUCTION, _INDUCTION, Answer(Kind.INDUCTION, attack), "fraction")), lost
    if family in ("nondeterministic", "clock"):
        program = planted(attack, folder)
        return executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("",)))), refused
    if family == "round_the_list":
        return guarded.submit(Validate(Proposal(Kind.DEDUCTION, attack, ("",)))), refused
    program = attack[0] if family == "poison" else planted(attack, folder)
    beaten = {"hit": no_hit, "hang": timed_out, "death": no_value, "poison": harmless}[family]
    return executor.submit(Run(program, ("",))), beaten


def lost(verdict):
    return verdict.score == 0.0


def refused(validation):
    return validation.task is None and validation.reason not in ("", "no function f", "syntax error", "too long")


def no_hit(outcomes):
    return outcomes[0].reason != "ok" or "HIT" not in (outcomes[0].value or "HIT")


def timed_out(outcomes):
    return outcomes[0].reason in ("timeout", "not plain", "raised") and outcomes[0].value is None


def no_value(outcomes):
    """Some deaths do not even happen: the signal they raise is refused, and the program returns None."""
    return outcomes[0].value in (None, "null")


def harmless(outcomes):
    return outcomes[0].reason in ("ok", "raised", "crashed")


_HONEST = [
    (lambda e: e.submit(Verify(Kind.DEDUCTION, _DEDUCTION, Answer(Kind.DEDUCTION, "37338"))), 1.0),
    (lambda e: e.submit(Verify(Kind.DEDUCTION, _DEDUCTION, Answer(Kind.DEDUCTION, "37000 + 338"))), 1.0),
    (lambda e: e.submit(Verify(Kind.DEDUCTION, _DEDUCTION, Answer(Kind.DEDUCTION, "37339"))), 0.0),
    (lambda e: e.submit(Verify(Kind.ABDUCTION, _ABDUCTION, Answer(Kind.ABDUCTION, "600 + 1"))), 1.0),
    (lambda e: e.submit(Verify(Kind.ABDUCTION, _ABDUCTION, Answer(Kind.ABDUCTION, "600"))), 0.0),
    (lambda e: e.submit(Verify(Kind.INDUCTION, _INDUCTION, Answer(Kind.INDUCTION, "def f(x): return 1 + x**2"))), 1.0),
    (lambda e: e.submit(Verify(Kind.INDUCTION, _INDUCTION, Answer(Kind.INDUCTION, "def f(x): return x**2"))), 0.0),
]


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_no_attack_succeeds(executor, open_executor, order, tmp_path):
    """All attacks and honest work in one shuffled stream; then every victim of a poison, in the same processes."""
    (tmp_path / "planted").write_text("x")
    attacks = list(ALL)
    random.Random(order).shuffle(attacks)
    waiting, honest = [], []
    for number, (family, name) in enumerate(attacks):
        waiting.append((family, name, *attempt(open_executor, executor, family, name, tmp_path)))
        ask, score = _HONEST[number % len(_HONEST)]
        honest.append((number, ask(open_executor), score))
    won = [(family, name, f.result()) for family, name, f, beaten in waiting if not beaten(f.result())]
    assert won == []
    assert [(n, v) for n, f, score in honest if (v := f.result()).score != score] == []
    for name, (_, victim, expected) in programs.POISONS.items():
        (outcome,) = open_executor.submit(Run(victim, ("",))).result()
        assert (name, outcome.reason) == (name, "ok")
        assert decode(outcome.value or "") == expected, name
    assert (tmp_path / "planted").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["planted"] and not Path("/dev/shm/azr_jax_attack").exists()
    assert open_executor.pending() == []
    assert open_executor.stats().get("zygotes_replaced", 0) == 0


@pytest.mark.parametrize("name", ["loop", "swallow_everything", "c_loop_sum", "block_signals", "regex"])
def test_an_endless_program_ends_at_the_limit(open_executor, name):
    began = time.monotonic()
    program = programs.HANGS[name] + f"# asked alone: {name}\n"
    (outcome,) = open_executor.submit(Run(program, ("",))).result()
    assert outcome.reason == "timeout"
    assert LIMIT_S <= time.monotonic() - began < LIMIT_S + 0.2 + 0.3  # 0.3 s for a busy machine


def test_a_process_number_says_nothing(open_executor):
    """It would differ from run to run, so the answer is 0 for everybody and the program is as good as `return 0`."""
    program = "import os\ndef f():\n    return os.getpid()\n"
    assert open_executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("",)))).result().task.output == "0"


def test_there_are_enough_attacks():
    assert len(_SHOWN) >= 100
