"""What a completion is worth: learnability for proposals, correctness for answers, and fixed prices for failure.

    format error                               settings.format_error   (-1)
    well-formed proposal that is refused       settings.invalid        (paper -0.5, reference -1)
    well-formed answer that is wrong           settings.wrong          (-0.5)
    valid proposal of a task there is already  settings.duplicate      (paper -0.5, reference as if it were new)
    valid proposal, nothing to learn from it   settings.zero_learnability   (paper 0, reference -0.5)
    valid proposal                             learnability(solve rate)
    answer                                     its score

Intrinsic terms (novelty.py measures them) are off by default and only ever touch proposals with something to learn
from: else a task that everybody or nobody solves would be paid for its looks. A reward is told by its parts, which sum
to it. What the presets put into these settings stands in azr_jax/config/schema.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MEMORY = ("nearest", "mean")
INTRINSIC = ("complexity", "halstead", "ast_distance", "answer_diversity")
# How the reward r and the weighted terms become one: the four ways of the paper, of which it found `add` most stable.
COMBINE: Mapping[str, Callable[[float, Iterable[float]], float]] = {
    "add": lambda r, terms: r + sum(terms),
    "add_product": lambda r, terms: r + math.prod(terms),
    "multiply": lambda r, terms: r * sum(terms),
    "multiply_product": lambda r, terms: r * math.prod(terms),
}
PARTS = (
    "format_error", "invalid", "wrong", "duplicate", "nothing_learned", "learnability", "score", "intrinsic", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class RewardSettings:
    learnability: str = "paper"  # paper: 1 - r | peak: 1 at peak_at; both are 0 at r = 0 and r = 1
    peak_power: float = 1.0
    peak_at: float = 0.5
    zero_learnability: float = 0.0  # a valid proposal that every attempt, or none, solved
    duplicate: float | None = -0.5  # a valid proposal of a task that is kept already; None: as if it were new
    invalid: float = -0.5
    wrong: float = -0.5
    format_error: float = -1.0
    intrinsic: Mapping[str, float] = field(default_factory=dict[str, float])  # term -> weight; terms are in [0, 1]
    intrinsic_cap: float = 0.0  # what each weighted term may come to; 0: no bound
    combine: str = "add"
    memory: Mapping[str, float] = field(
        default_factory=dict[str, float]
    )  # by which likeness to all ever kept -> weight

    def __post_init__(self) -> None:
        if self.learnability not in ("paper", "peak"):
            raise ValueError(f"rewards.learnability={self.learnability!r}: should be paper or peak")
        if self.peak_power <= 0:
            raise ValueError(f"rewards.peak_power={self.peak_power!r}: should be above 0")
        if not 0.0 < self.peak_at < 1.0:
            raise ValueError(f"rewards.peak_at={self.peak_at!r}: should be above 0 and below 1")
        if self.combine not in COMBINE:
            raise ValueError(f"rewards.combine={self.combine!r}: should be {', '.join(COMBINE)}")
        unknown = set(self.intrinsic) - set(INTRINSIC)
        if unknown:
            raise ValueError(f"rewards.intrinsic={sorted(unknown)}: should be of {', '.join(INTRINSIC)}")
        if unknown := set(self.memory) - set(MEMORY):
            raise ValueError(f"rewards.memory={sorted(unknown)}: should be of {', '.join(MEMORY)}")


def learnability(solve_rate: float, name: str = "paper", peak_power: float = 1.0, peak_at: float = 0.5) -> float:
    """How much a task of this solve rate can teach: nothing when all attempts agree.

    `peak` is [4 r (1 - r)]^k where it peaks at one half, and elsewhere of the same family: r^p (1 - r)^(1 - p) is
    largest at r = p.
    """
    if not 0.0 <= solve_rate <= 1.0:
        raise ValueError(f"solve_rate={solve_rate!r}: should be from 0 to 1")
    if solve_rate in (0.0, 1.0):
        return 0.0
    if name == "peak":
        below, above = solve_rate / peak_at, (1.0 - solve_rate) / (1.0 - peak_at)
        return (below ** (2.0 * peak_at) * above ** (2.0 * (1.0 - peak_at))) ** peak_power
    return 1.0 - solve_rate


def proposer_reward(
    formatted: bool,
    valid: bool,
    solve_rate: float | None,
    settings: RewardSettings,
    terms: Mapping[str, float] | None = None,
    duplicate: bool = False,
) -> dict[str, float]:
    """The parts of the reward, which is their sum.

    `solve_rate` is None for a valid task whose difficulty nobody measured: it counts as nothing learned. `terms` are
    the intrinsic terms of this proposal; one that has a weight and is not there is a KeyError.
    """
    if not formatted:
        return {"format_error": settings.format_error}
    if not valid:
        return {"invalid": settings.invalid}
    if duplicate and settings.duplicate is not None:
        return {"duplicate": settings.duplicate}
    s = settings
    gain = 0.0 if solve_rate is None else learnability(solve_rate, s.learnability, s.peak_power, s.peak_at)
    if gain <= 0.0:
        return {"nothing_learned": s.zero_learnability}
    most = s.intrinsic_cap or math.inf
    weighted = [min(weight * (terms or {})[term], most) for term, weight in s.intrinsic.items() if weight]
    if not weighted:
        return {"learnability": gain}
    return {"learnability": gain, "intrinsic": COMBINE[settings.combine](gain, weighted) - gain}


def remembered(parts: Mapping[str, float], likeness: Mapping[str, float], settings: RewardSettings) -> dict[str, float]:
    """The parts with what a proposal loses for being like what was ever kept: at most what it earned.

    `likeness` is of the nearest, and of all on average, from 0 to 1. What was worth nothing, or priced, stays.
    """
    loss = sum(weight * likeness[name] for name, weight in settings.memory.items() if weight)
    earned = sum(parts.values()) - settings.zero_learnability
    if not loss or "learnability" not in parts or earned <= 0.0:
        return dict(parts)
    return {**parts, "memory": -min(loss, earned)}


def solver_reward(formatted: bool, score: float, settings: RewardSettings) -> dict[str, float]:
    """The parts of the reward. `score` is the verdict's: 1 right, 0 wrong, between them the share of hidden cases."""
    if not formatted:
        return {"format_error": settings.format_error}
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"score={score!r}: should be from 0 to 1")
    return {"score": score} if score > 0.0 else {"wrong": settings.wrong}
