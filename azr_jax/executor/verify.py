"""An answer -> a verdict, one function per way to judge. The gold stays in this process; children return values, we
compare. A task without a readable gold raises Refused.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from azr_jax.executor import literals
from azr_jax.executor.cases import (
    MAX_INPUT_CHARS,
    MAX_PROGRAM_CHARS,
    OF_A_CALL,
    Case,
    Cases,
    ChildRequest,
    Result,
    case,
    request,
    run_cases,
    told,
)
from azr_jax.executor.jobs import Outcome, Run
from azr_jax.executor.values import Refused, Value, decode, encode, same
from azr_jax.tasks.types import InductionTask, Triplet, Verdict

Judging = Generator[ChildRequest, Result, Verdict]
_CORRECT, _WRONG = Verdict(1.0, "correct"), Verdict(0.0, "wrong value")
_UNDONE = ("crashed", "not run")  # reasons that may be the fault of calls before
_UNKNOWN_FORM = ("not inert", "not written out")
_TOO_LONG = Verdict(0.0, "too long")


def deduction(task: Triplet, text: str, form: str, timeout_s: float) -> Judging:
    gold = decode(task.value)
    if len(text) > MAX_INPUT_CHARS:
        return _TOO_LONG
    try:
        return _CORRECT if same(literals.read(text, written=form == "literal"), gold) else _WRONG
    except literals.NotLiteral:
        case = _only_case((yield request("expression", timeout_s, text=text, form=form)))
    return _compared(case, gold)


def abduction(task: Triplet, text: str, form: str, banned: Sequence[str], timeout_s: float) -> Judging:
    """The program's result for the answer. The child that runs the program is told the answer and not the task's input.

    Only the proposer's own input may use the program's names and be of any form, and an answer that is the same but for
    layout. What a proposal may not import (`banned`), its program may not import here either: it is asked for the same.
    """
    gold = decode(task.value)
    if len(text) > MAX_INPUT_CHARS:
        return _TOO_LONG
    run = partial(run_cases, task.program, timeout_s=timeout_s, guard=banned)
    own = text.strip() == task.input.strip()
    call: dict[str, Any] = {"text": text}
    if not own:
        call |= {"inert": True} if _is_literal(text, form) else {"inert": True, "form": form}
    found = yield from run([call])
    if found.reason in _UNKNOWN_FORM and not own:
        alike = _only_case((yield request("same", timeout_s, text=text, other=task.input)))
        call = {"text": text}
        if alike.value != encode(True):
            if found.reason == "not written out":
                return Verdict(0.0, found.reason)
            case = _only_case((yield request("arguments", timeout_s, text=text)))
            if case.status != "value" or case.value is None:
                return _failed(case)
            call = {"values": case.value}
        found = yield from run([call])
    return Verdict(0.0, found.reason, found.detail) if found.reason else _compared(found.cases[0], gold)


def _is_literal(text: str, form: str) -> bool:
    """Whether no child has to look at the form: most answers are plain literals, and a tree costs it time."""
    if form == "any":
        return True
    try:
        literals.read(text, written=form == "literal")
    except literals.NotLiteral:
        return False
    return True


def induction(task: InductionTask, text: str, reward: str, timeout_s: float) -> Judging:
    """Runs the answer on every hidden input: together in one child or, where it may remember its calls, each alone.

    Never the better of the two: a program that remembers answers differently in them, and a second guess would be paid.
    Of one that cannot remember, what a shared child left undone or ended with is asked again alone.
    """
    hidden = range(task.shown, len(task.inputs)) if task.shown < len(task.inputs) else range(len(task.inputs))
    golds = [decode(task.values[n]) for n in hidden]
    if len(text) > MAX_PROGRAM_CHARS:
        return _TOO_LONG
    binary = reward == "binary"
    calls = [{"text": task.inputs[n]} for n in hidden]
    run = partial(run_cases, text, calls, timeout_s=timeout_s, answer=True, all_of_them=not binary)
    found = yield from run()
    if found.reason:
        return Verdict(0.0, found.reason, found.detail)
    verdicts = [_of_case(found, number, gold) for number, gold in enumerate(golds)]
    # The first call of a child is alone already. A late one had its whole limit, or all of them had all of theirs.
    late = [verdict for verdict in verdicts if verdict.reason == "timeout"]
    if binary and (late or not verdicts[0].correct):
        return late[0] if late else verdicts[0]
    for number, gold in enumerate(golds):
        asked_again = found.remembers or verdicts[number].reason in _UNDONE
        if asked_again and len(golds) > 1 and verdicts[number] not in late:
            verdicts[number] = _of_case((yield from run(numbers=[number])), number, gold)
        if binary and not verdicts[number].correct:
            return verdicts[number]
    wrong = [verdict for verdict in verdicts if not verdict.correct]
    if not wrong:
        return _CORRECT
    right = len(golds) - len(wrong)
    return Verdict(right / len(golds), "partly correct" if right else "wrong value")


def _of_case(found: Cases, number: int, gold: Value) -> Verdict:
    if found.reason:
        return Verdict(0.0, found.reason, found.detail)
    ran = found.cases.get(number)
    return _compared(ran, gold) if ran is not None else Verdict(0.0, "not run")


def error(task: Triplet, text: str) -> Verdict:
    return _CORRECT if text.strip().strip("`'\"").strip() == task.output else _WRONG


def _only_case(result: Result) -> Case:
    """The one case of a request that is not a program."""
    for kind, _, *rest in result.lines:
        if kind in OF_A_CALL:
            return case(kind, rest)
        if kind == "unfit":
            return Case(rest[0], detail=told(rest[1]))
    return Case("crashed" if result.end == "done" else result.end, detail=result.detail)


def _compared(case: Case, gold: Value) -> Verdict:
    if case.status != "value" or case.value is None:
        return _failed(case)
    try:
        return _CORRECT if same(decode(case.value), gold) else _WRONG
    except Refused as refused:
        return Verdict(0.0, "not plain", str(refused))


def _failed(case: Case) -> Verdict:
    return Verdict(0.0, {"unplain": "not plain"}.get(case.status, case.status), case.detail)


def run(job: Run, timeout_s: float) -> Generator[ChildRequest, Result, tuple[Outcome, ...]]:
    """Every call's outcome, for tools and evaluations; no list of banned modules applies."""
    calls = [{"text": text} for text in job.inputs]
    found = yield from run_cases(job.program, calls, timeout_s=job.timeout_s or timeout_s, real_time=True)
    none = Outcome(found.reason or "crashed", detail=found.detail)
    return tuple(_outcome(found.cases[n]) if n in found.cases else none for n in range(len(calls)))


def _outcome(case: Case) -> Outcome:
    if case.status == "value":
        return Outcome("ok", value=case.value)
    return Outcome({"unplain": "not plain"}.get(case.status, case.status), error=case.name or None, detail=case.detail)
