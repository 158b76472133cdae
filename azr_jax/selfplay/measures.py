"""One iteration as numbers: a flat dict of floats, named `<role>/<kind>/<what>`. Reads what was played, only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from azr_jax.selfplay.played import Played, Proposed, Solved
from azr_jax.tasks.buffers import Buffers
from azr_jax.tasks.types import FormatError, Kind

BINS = 9  # of the solve-rate histogram: 0, 1/8, ..., 1 at the paper's eight attempts


def measure(played: Played, buffers: Buffers) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for kind, proposals in played.proposed.items():
        numbers |= _proposals(kind, proposals)
        numbers |= _estimates(kind, [p for p in proposals if p.attempts])
        numbers |= _solutions(kind, played.solved[kind])
        numbers[f"buffer/{kind}/size"] = float(len(buffers[kind]))
        numbers[f"buffer/{kind}/age"] = buffers[kind].mean_age(played.iteration)
    everything = [p for proposals in played.proposed.values() for p in proposals]
    numbers["propose/valid_rate"] = mean([p.task is not None for p in everything])
    return numbers


def _proposals(kind: Kind, proposals: Sequence[Proposed]) -> dict[str, float]:
    name, count = f"propose/{kind}", len(proposals)
    numbers = {
        f"{name}/valid_rate": mean([p.task is not None for p in proposals]),
        f"{name}/format_error_rate": mean([isinstance(p.proposal, FormatError) for p in proposals]),
        f"{name}/duplicate_rate": mean([p.task is not None and p.entry_id is None for p in proposals]),
        f"{name}/references/dropped": float(sum(p.dropped_references for p in proposals)),
    }
    refused = Counter(p.refusal for p in proposals if p.task is None)
    numbers |= {f"{name}/refused/{reason}": number / count for reason, number in sorted(refused.items())}
    return numbers | _rewards_and_lengths(name, proposals, [p.task is not None for p in proposals])


def _estimates(kind: Kind, estimated: Sequence[Proposed]) -> dict[str, float]:
    if not estimated:
        return {}
    rates = [p.solve_rate or 0.0 for p in estimated]
    bins = Counter(round(rate * (BINS - 1)) for rate in rates)
    numbers = {f"estimate/{kind}/solve_rate/hist_{b}": bins[b] / len(rates) for b in range(BINS)}
    return numbers | {
        f"estimate/{kind}/solve_rate/mean": mean(rates),
        f"estimate/{kind}/agree_rate": mean([rate in (0.0, 1.0) for rate in rates]),
    }


def _solutions(kind: Kind, solutions: Sequence[Solved]) -> dict[str, float]:
    name = f"solve/{kind}"
    correct = [s.correct for s in solutions]
    numbers = {
        f"{name}/accuracy": mean(correct),
        f"{name}/format_error_rate": mean([isinstance(s.answer, FormatError) for s in solutions]),
    }
    reasons = Counter(s.verdict.reason for s in solutions if s.verdict and not s.correct)
    numbers |= {f"{name}/wrong/{reason}": number / len(solutions) for reason, number in sorted(reasons.items())}
    return numbers | _rewards_and_lengths(name, solutions, correct)


def _rewards_and_lengths(name: str, items: Sequence[Proposed | Solved], good: Sequence[bool]) -> dict[str, float]:
    rewards = [item.reward for item in items]
    lengths = [len(item.completion.rollout.tokens) for item in items]
    numbers = {
        f"{name}/reward/mean": mean(rewards),
        f"{name}/reward/std": math.sqrt(mean([(r - mean(rewards)) ** 2 for r in rewards])),
        f"{name}/length/mean": mean(lengths),
        f"{name}/length/p95": float(sorted(lengths)[math.ceil(0.95 * len(lengths)) - 1]),
        f"{name}/length/clipped": mean([item.completion.rollout.finish == "length" for item in items]),
    }
    for label, wanted in (("good", True), ("bad", False)):
        chosen = [length for length, was in zip(lengths, good, strict=True) if was is wanted]
        if chosen:
            numbers[f"{name}/length/{label}"] = mean(chosen)
    return numbers


def mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values) if values else math.nan
