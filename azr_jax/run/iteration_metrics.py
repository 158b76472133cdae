"""One iteration as numbers: a flat dict of floats. Reads what was played, only.

    propose/<kind>/...    what was proposed: valid, refused and why, rewards and their parts, lengths
    estimate/<kind>/...   how hard the new tasks are
    solve/<kind>/...      how the solve batch went
    novelty/<kind>/...    what the new tasks are like: intricacy, distances, types of values
    buffer/<kind>/...     what is kept

`<role>/<kind>/advantage/...` comes from selfplay/scoring.py, where advantages are made.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from azr_jax.monitor.rules import repeats
from azr_jax.selfplay.results import Played, Proposed, Scored, Solved
from azr_jax.tasks.buffers import Buffers, Unkept
from azr_jax.tasks.novelty import Traits, complexity, disagreement
from azr_jax.tasks.rewards import PARTS
from azr_jax.tasks.typenames import type_of
from azr_jax.tasks.types import Answer, FormatError, InductionTask, Proposal, Task

BINS = 9  # of the solve-rate histogram: 0, 1/8, ..., 1 at the paper's eight attempts
OF_TRAITS: dict[str, Callable[[Traits], float]] = {
    "complexity": lambda traits: traits.complexity,
    "halstead": lambda traits: traits.halstead,
    "lines": lambda traits: traits.lines,
    "ast_distance": lambda traits: traits.ast_distance,
    "diversity": lambda traits: traits.answer_diversity,
    "nearest": lambda traits: traits.nearest,
    "mean_distance": lambda traits: traits.mean_distance,
}


def measure(played: Played, buffers: Buffers) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for kind, proposals in played.proposed.items():
        solutions = played.solved[kind]
        numbers |= _proposals(f"propose/{kind}", proposals)
        numbers |= _estimates(f"estimate/{kind}", [p for p in proposals if p.attempts])
        numbers |= _solutions(f"solve/{kind}", solutions)
        numbers |= _novelty(f"novelty/{kind}", [p for p in proposals if p.task is not None])
        if issubclass(kind.task_type, InductionTask):
            numbers |= _number_of_inputs(f"propose/{kind}", proposals)
        if kind.answer_block == "python":
            numbers |= _complexity_gap(f"novelty/{kind}", proposals, solutions)
        numbers[f"buffer/{kind}/size"] = float(len(buffers[kind]))
        numbers[f"buffer/{kind}/age"] = buffers[kind].mean_age(played.iteration)
    numbers["propose/valid_rate"] = mean(p.task is not None for ps in played.proposed.values() for p in ps)
    return numbers


def _proposals(name: str, proposals: Sequence[Proposed]) -> dict[str, float]:
    refused = Counter(p.refusal for p in proposals if p.task is None)
    return {
        f"{name}/valid_rate": mean(p.task is not None for p in proposals),
        f"{name}/format_error_rate": mean(isinstance(p.proposal, FormatError) for p in proposals),
        f"{name}/duplicate_rate": mean(p.kept == Unkept.DUPLICATE for p in proposals),
        f"{name}/duplicates_paid": _paid_share([p for p in proposals if p.kept == Unkept.DUPLICATE]),
        f"{name}/full_rate": mean(p.kept == Unkept.FULL for p in proposals),
        f"{name}/filtered_rate": mean(p.kept == Unkept.FILTERED for p in proposals),
        f"{name}/references/dropped": float(sum(p.dropped_references for p in proposals)),
        **{f"{name}/refused/{reason}": count / len(proposals) for reason, count in sorted(refused.items())},
        **_common(name, proposals, [p.task is not None for p in proposals]),
    }


def _paid_share(duplicates: Sequence[Proposed]) -> float:
    """Of proposals of what is there already, how many earned something."""
    return mean(p.reward > 0.0 for p in duplicates) if duplicates else 0.0


def _estimates(name: str, estimated: Sequence[Proposed]) -> dict[str, float]:
    if not estimated:
        return {}
    rates = [p.solve_rate or 0.0 for p in estimated]
    bins = Counter(round(rate * (BINS - 1)) for rate in rates)
    return {
        **{f"{name}/solve_rate/hist_{b}": bins[b] / len(rates) for b in range(BINS)},
        f"{name}/tasks": float(len(rates)),
        f"{name}/solve_rate/mean": mean(rates),
        f"{name}/agree_rate": mean(rate in (0.0, 1.0) for rate in rates),
        f"{name}/disagreement": mean(disagreement(_answers(p.attempts)) for p in estimated),
    }


def _solutions(name: str, solutions: Sequence[Solved]) -> dict[str, float]:
    if not solutions:  # nothing is kept of this kind yet
        return {}
    wrong = Counter(s.verdict.reason for s in solutions if s.verdict and not s.correct)
    return {
        f"{name}/accuracy": mean(s.correct for s in solutions),
        f"{name}/format_error_rate": mean(isinstance(s.answer, FormatError) for s in solutions),
        **{f"{name}/wrong/{reason}": count / len(solutions) for reason, count in sorted(wrong.items())},
        **_common(name, solutions, [s.correct for s in solutions]),
    }


def _novelty(name: str, valid: Sequence[Proposed]) -> dict[str, float]:
    """Of this iteration's tasks, duplicates too; `nearest` and `diversity` are against all kept before them."""
    if not valid:
        return {}
    known = [p.traits for p in valid if p.traits is not None]
    # A proposal about a program of the buffer is shown no references that it could differ from.
    noted = {what: of for what, of in OF_TRAITS.items() if what != "ast_distance" or not valid[0].kind.about_a_program}
    inputs = [text for p in valid if p.task is not None for text in _inputs(p.task)]
    outputs = [text for p in valid if p.task is not None for text in _outputs(p.task)]
    return {
        **{f"{name}/{what}": mean(map(of, known)) for what, of in noted.items()},
        f"{name}/distinct_inputs": len(set(inputs)) / len(inputs),
        f"{name}/distinct_outputs": len(set(outputs)) / len(outputs),
        f"{name}/distinct_input_types": float(len(set(map(type_of, inputs)))),
        f"{name}/distinct_output_types": float(len(set(map(type_of, outputs)))),
    }


def _number_of_inputs(name: str, proposals: Sequence[Proposed]) -> dict[str, float]:
    """How many inputs came with a proposal, and how many a task holds: few of them leave the rule open."""
    given = [len(p.proposal.inputs) for p in proposals if isinstance(p.proposal, Proposal)]
    kept = [len(p.task.inputs) for p in proposals if isinstance(p.task, InductionTask)]
    return {f"{name}/inputs/{what}": mean(counts) for what, counts in (("given", given), ("kept", kept)) if counts}


def _complexity_gap(name: str, proposals: Sequence[Proposed], solutions: Sequence[Solved]) -> dict[str, float]:
    """How much more intricate the programs asked about are than those the solver finds for them."""
    tried = [*solutions, *(attempt for proposed in proposals for attempt in proposed.attempts)]
    written = [(s.task.program, s.answer.text) for s in tried if isinstance(s.answer, Answer)]
    if not written:
        return {}
    return {f"{name}/complexity_gap": mean(complexity(hidden) - complexity(found) for hidden, found in written)}


def _common(name: str, items: Sequence[Scored], good: Sequence[bool]) -> dict[str, float]:
    """Rewards with their parts, which sum to the mean, and lengths."""
    rewards = [item.reward for item in items]
    lengths = [len(item.completion.rollout.tokens) for item in items]
    numbers = {
        f"{name}/reward/mean": mean(rewards),
        f"{name}/reward/std": math.sqrt(mean((r - mean(rewards)) ** 2 for r in rewards)),
        f"{name}/length/mean": mean(lengths),
        f"{name}/length/p95": float(sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1]),
        f"{name}/length/clipped": mean(item.completion.rollout.truncated for item in items),
        f"{name}/repeats": mean(repeats(item.completion.text) for item in items),
    }
    for part in PARTS:
        if any(part in item.reward_parts for item in items):
            numbers[f"{name}/reward/{part}"] = mean(item.reward_parts.get(part, 0.0) for item in items)
    for label, wanted in (("good", True), ("bad", False)):
        chosen = [length for length, was in zip(lengths, good, strict=True) if was is wanted]
        if chosen:
            numbers[f"{name}/length/{label}"] = mean(chosen)
    return numbers


def _answers(attempts: Iterable[Solved]) -> list[str]:
    return [attempt.answer.text for attempt in attempts if isinstance(attempt.answer, Answer)]


def _inputs(task: Task) -> tuple[str, ...]:
    return task.inputs if isinstance(task, InductionTask) else (task.input,)


def _outputs(task: Task) -> tuple[str, ...]:
    return task.outputs if isinstance(task, InductionTask) else (task.output,)


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan
