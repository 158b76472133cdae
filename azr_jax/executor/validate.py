"""A proposal -> a task, or the reason there is none: integrity, safety, determinism, a plain output within limits."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial
from typing import Any

from azr_jax.executor import pairs
from azr_jax.executor.cases import (
    MAX_INPUT_CHARS,
    MAX_PROGRAM_CHARS,
    MORE_SEEDS,
    SEEDS,
    STILL_MORE_SEEDS,
    Budget,
    Case,
    Cases,
    Checked,
    ChildRequest,
    Together,
    check,
    run_cases,
    side_by_side,
)
from azr_jax.executor.constants import marks_in
from azr_jax.executor.equality import same
from azr_jax.executor.jobs import Validate
from azr_jax.executor.values import Refused, Value, decode, encode, show
from azr_jax.executor.written import without_comments
from azr_jax.tasks.types import InductionTask, Kind, Proposal, Triplet, Validation

NO_ERROR = "NoError"
_IN_TIME = 0.5  # of the time limit
PROPOSAL_LIMITS = 8  # time limits that all runs of one proposal may take together


def validate(
    job: Validate, banned: tuple[str, ...], max_output_chars: int, timeout_s: float
) -> Generator[ChildRequest | Together, Any, Validation]:
    """Runs the proposal under two hash seeds side by side and builds the task from what both agree on."""
    proposal, kind = job.proposal, job.proposal.kind
    refusal = _misshapen(job)
    if refusal is not None:
        return refusal
    calls = [{"text": text} for text in proposal.inputs]
    several = issubclass(kind.task_type, InductionTask)
    exact = several and job.fewest >= len(calls)  # so that the first bad input ends it
    budget = Budget(PROPOSAL_LIMITS * timeout_s)
    checked = yield from check(proposal.program, proposal.inputs, banned=banned, timeout_s=timeout_s, budget=budget)
    if checked.reason:
        return Validation(None, checked.reason, checked.detail)
    # What is asked of those that run it is what is asked when an answer to the task is judged (verify.py), to the byte.
    run = partial(run_cases, checked.program, calls, guard=banned, given=several, timeout_s=timeout_s, budget=budget)
    both = partial(run, all_of_them=several and not exact)
    # The other way round, so that what a program remembers between calls shows as a difference too.
    first, second = yield from side_by_side(both(), both(seed=SEEDS[1], numbers=range(len(calls))[::-1]))
    if first.reason:
        return Validation(None, first.reason, first.detail)
    usable = [n for n in sorted(first.cases) if not _unusable(first.cases[n], kind)]
    if not usable or (exact and len(usable) < len(calls)):
        return _why_unusable(first, kind)
    if _takes_long((first, second), kind, timeout_s):
        return Validation(None, "too slow", f"more than {_IN_TIME:.0%} of the time limit")
    others, seeds = [second], SEEDS[1:]
    for seen, more in ((checked.by_chance, MORE_SEEDS), (checked.by_address, STILL_MORE_SEEDS)):
        if seen and all(_agree_on(first, other, usable, kind) for other in others):
            seeds += more
            others += yield from side_by_side(*(run(seed=seed, numbers=usable[::-1]) for seed in more))
    if several and not all(_agree_on(first, other, usable, kind) for other in others):
        each = partial(run, numbers=usable, alone=True)
        first, *others = yield from side_by_side(each(), *(each(seed=seed) for seed in seeds))
    if budget.spent:
        return Validation(None, "timeout", "all runs together")
    if not all(_agree_on(first, other, usable, kind) for other in others):
        reasons = (ran.reason for ran in (first, *others) if ran.reason)
        return Validation(None, "not deterministic", next(reasons, ""))
    if _takes_long((first, *others), kind, timeout_s):
        return Validation(None, "too slow", f"more than {_IN_TIME:.0%} of the time limit")
    if several:
        return _induction(job, checked, first, usable, max_output_chars)
    return _triplet(proposal, first, max_output_chars)


def _takes_long(runs: Iterable[Cases], kind: Kind, timeout_s: float) -> bool:
    """It runs again for every answer: with nearly the limit, right answers would be late, and right, by chance."""
    return kind.runs_again and max(ran.spent_s for ran in runs) > _IN_TIME * timeout_s


def _misshapen(job: Validate) -> Validation | None:
    proposal, given = job.proposal, len(job.proposal.inputs)
    if len(proposal.program) > MAX_PROGRAM_CHARS or any(len(i) > MAX_INPUT_CHARS for i in proposal.inputs):
        return Validation(None, "too long")
    fewest, most = (job.fewest, job.most) if issubclass(proposal.kind.task_type, InductionTask) else (1, 1)
    if not fewest <= given <= most:
        return Validation(None, "wrong number of inputs", f"{given}, asked for {most}")
    return None


def _unusable(case: Case, kind: Kind) -> str:
    """Why a case cannot be one of this kind; empty if it can."""
    if kind.may_raise and case.status in ("raised", "unplain"):
        return "" if case.ordinary else "exits"
    return {"value": "", "unplain": "output not plain", "raised": "raised"}.get(case.status, case.status)


def _why_unusable(cases: Cases, kind: Kind) -> Validation:
    if not cases.cases:
        return Validation(None, "crashed")
    case = next(case for _, case in sorted(cases.cases.items()) if _unusable(case, kind))
    return Validation(None, _unusable(case, kind), case.detail)


def _agree_on(first: Cases, second: Cases, numbers: list[int], kind: Kind) -> bool:
    return not (first.reason or second.reason) and all(_agree(first, second, n, kind) for n in numbers)


def _agree(first: Cases, second: Cases, number: int, kind: Kind) -> bool:
    a, b = first.cases.get(number), second.cases.get(number)
    if a is None or b is None:
        return False
    if kind.may_raise:  # a program may raise an exception of that very name
        return (a.status == "raised", _error_name(a)) == (b.status == "raised", _error_name(b))
    try:
        return a.status == b.status == "value" and (a.value == b.value or same(_value(a), _value(b)))
    except Refused:
        return False


def _error_name(case: Case) -> str:
    return case.name if case.status == "raised" else NO_ERROR if case.status in ("value", "unplain") else case.status


def _value(case: Case) -> Value:
    return decode(case.value or "")


def _triplet(proposal: Proposal, found: Cases, max_output_chars: int) -> Validation:
    case = found.cases[0]
    given = without_comments(proposal.inputs[0])
    if proposal.kind.may_raise:
        name = _error_name(case)
        if not name.isidentifier() or (name == NO_ERROR and case.status == "raised"):
            return Validation(None, "raised", f"an exception called {name!r}")
        return Validation(Triplet(found.program, given, name, encode(name)))
    shown, reason, detail = _shown(case, max_output_chars)
    if reason:
        return Validation(None, reason, detail)
    return Validation(Triplet(found.program, given, shown, case.value or ""))


def _shown(case: Case, max_output_chars: int) -> tuple[str, str, str]:
    """The output as Python text, or the reason it cannot be a task's output, and more for people."""
    try:
        shown = show(_value(case))
    except Refused as refused:
        return "", "output not plain", str(refused)
    return (shown, "", "") if len(shown) <= max_output_chars else ("", "output too long", "")


def _induction(job: Validate, checked: Checked, found: Cases, usable: list[int], most_chars: int) -> Validation:
    """Leaves out inputs that failed or repeat another by value, then asks that what is hidden can be induced.

    Whether two are one is said twice: by the child that ran them, where a program may write what it likes, and by the
    one that ran nothing, which knows less.
    """
    proposal, good = job.proposal, list[pairs.Pair]()
    apart = {checked.inputs.get(number): number for number in reversed(usable)}
    for number in sorted(apart.values()):
        text, reason, _ = _shown(found.cases[number], most_chars)
        if not reason:
            good.append(pairs.pair(number, found.cases[number], without_comments(proposal.inputs[number]), text))
    kept = pairs.different(good)
    if len(kept) < job.fewest:
        return Validation(None, "too few inputs", f"{len(kept)} of {len(proposal.inputs)} left")
    shown = min(job.shown, max(1, len(kept) // 2))
    if len({one.output for one in kept}) == 1:
        return Validation(None, "all outputs equal")
    if job.pairs == "inducible":
        kept, reason = pairs.arranged(kept, shown, marks_in(checked.constants))
        if reason:
            return Validation(None, reason)
    task = InductionTask(
        program=found.program,
        inputs=tuple(without_comments(proposal.inputs[one.number]) for one in kept),
        outputs=tuple(one.text for one in kept),
        values=tuple(one.value for one in kept),
        message=proposal.message,
        shown=shown,
    )
    return Validation(task)
