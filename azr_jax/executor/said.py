"""Whether what a kind says can be acted on: it may be a user's, and a mistake in it costs one verdict and not a run."""

# A user's kind need not keep to the types.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

from dataclasses import fields
from typing import cast

from azr_jax.executor.cases import MORE_SEEDS, SEEDS, STILL_MORE_SEEDS, ChildRequest
from azr_jax.executor.child import LARGEST_REQUEST
from azr_jax.executor.jobs import LONGEST_S, SHORTEST_S, Validate, Verify, is_limit
from azr_jax.tasks.types import Validation, Verdict

_SEEDS = SEEDS + MORE_SEEDS + STILL_MORE_SEEDS
_MOST_LINES = 1 << 16  # that a child may write
LONGEST_REASON = 60  # characters: reasons are counted, and become names of metrics


def checked_answer(job: Validate | Verify, said: object) -> Validation | Verdict:
    """The answer to the job. Raises TypeError or ValueError where it is none."""
    wanted = Validation if isinstance(job, Validate) else Verdict
    if not isinstance(said, wanted):
        raise TypeError(f"{said!r:.60}: a {wanted.__name__} would be right")
    if not isinstance(said.detail, str) or not _is_reason(said.reason):
        raise ValueError(f"reason {said.reason!r:.80}: a short phrase on one line would be right")
    if isinstance(said, Verdict):
        if type(said.score) not in (int, float) or not 0.0 <= said.score <= 1.0 or not said.reason:
            raise ValueError(f"score {said.score!r:.60}, reason {said.reason!r}: a number from 0 to 1 would be right")
    elif isinstance(job, Validate) and said.task is not None:
        right = job.proposal.kind.task_type
        if type(said.task) is not right:
            raise TypeError(f"a task of type {type(said.task).__name__}: {right.__name__} would be right")
        if bad := [one.name for one in fields(right) if not _is_plain(getattr(said.task, one.name))]:
            raise TypeError(f"{right.__name__}.{bad[0]}: a text, a number or a tuple of texts would be right")
    elif not said.reason:
        raise ValueError("neither a task nor a reason")
    return said


def check_requests(asked: object) -> None:
    """Raises TypeError or ValueError for what no zygote could be asked."""
    requests = cast("tuple[object, ...]", asked) if isinstance(asked, tuple) else (asked,)
    if not requests:
        raise ValueError("no request in a tuple of them")
    for one in requests:
        if not isinstance(one, ChildRequest):
            raise TypeError(f"{one!r:.60}: a ChildRequest of executor.cases would be right")
        known = type(one.seed) is int and one.seed in _SEEDS
        if not (isinstance(one.body, bytes) and len(one.body) <= LARGEST_REQUEST and known):
            raise ValueError("a ChildRequest made by hand: run_cases or request of executor.cases would be right")
        if not is_limit(one.timeout_s):
            raise ValueError(f"timeout_s {one.timeout_s!r}: {SHORTEST_S:g} to {LONGEST_S:.0f} s would be right")
        if not (type(one.lines) is int and 0 < one.lines <= _MOST_LINES):
            raise ValueError(f"lines {one.lines!r}: 1 to {_MOST_LINES} would be right")


def _is_reason(reason: object) -> bool:
    return isinstance(reason, str) and len(reason) <= LONGEST_REASON and (reason.isprintable() or not reason)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(one, str) for one in cast("tuple[object, ...]", value))
    return isinstance(value, str | bool | int)
