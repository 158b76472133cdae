"""Rewards to advantages: TRR++ (one baseline per role and kind), and four other baselines for comparison.

NumPy in float64, on the host: a few hundred numbers per iteration. Every token of a completion gets its sequence's
advantage; spreading it over tokens is packing's work. No discounting and no value network, on purpose.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

NAMES = ("trr", "reinforce_pp", "grpo", "rloo", "rae")
WEIGHTINGS = ("sequence", "token")


class Baselines:
    """The moving mean reward of each group, of `rae`. Plain numbers, so that a checkpoint keeps them exactly."""

    def __init__(self, decay: float, values: Mapping[str, float] | None = None):
        self.decay, self.values = decay, dict(values or {})

    def moved(self, group: Hashable, mean: float) -> float:
        """The baseline as it was before these rewards, which therefore say nothing of themselves; then it moves on.

        The first rewards have no past to be compared with, and are their own.
        """
        name = str(group)
        before = self.values.get(name, mean)
        self.values[name] = self.decay * before + (1 - self.decay) * mean
        return before


class Advantages(NamedTuple):
    values: np.ndarray  # float32, one per reward, in the order given
    groups: int  # how many baselines there were
    flat_groups: int  # those whose rewards are all equal: they teach nothing, and their advantages are zero
    zero: Mapping[Hashable, float]  # of each group, the share of completions that teach nothing


def advantages(
    name: str,
    rewards: Sequence[float],
    groups: Sequence[Hashable],
    tasks: Sequence[int],
    lengths: Sequence[int],
    weighting: str,
    *,
    deviation: bool = True,
    baselines: Baselines | None = None,
    expected: Sequence[Hashable] = (),
) -> Advantages:
    """One advantage per completion.

    `groups` says which (role, kind) each completion belongs to. `tasks` says which task it is an attempt at: `grpo`
    and `rloo` compare attempts at the same task; a negative number means that the prompt was sampled once (a
    proposal), and those compare within their group. `lengths` are the completions' tokens. With weighting `sequence`
    each completion counts once in mean and deviation (the paper), with `token` once per token (the reference code).
    Without `deviation` rewards are not divided by it, which `rloo` and `rae` never do. `rae` takes each group's
    baseline from `baselines`, which then move on. `expected` lists groups that must have rewards.
    """
    if name not in NAMES:
        raise ValueError(f"advantage={name!r}: should be one of {', '.join(NAMES)}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting={weighting!r}: should be one of {', '.join(WEIGHTINGS)}")
    reward_S = _checked(rewards, groups, tasks, lengths, expected)
    weight_S = np.ones(len(reward_S)) if weighting == "sequence" else np.asarray(lengths, np.float64)

    members: dict[Hashable, list[int]] = {}
    for index in range(len(reward_S)):
        members.setdefault(_baseline_of(name, groups[index], tasks[index]), []).append(index)
    value_S, flat = np.zeros(len(reward_S)), 0
    for indices in members.values():
        reward, weight = reward_S[indices], weight_S[indices]
        if name == "rae":
            assert baselines is not None
            mean = np.average(reward, weights=weight) if weight.any() else reward.mean()
            before = baselines.moved(groups[indices[0]], float(mean))
            value_S[indices] = reward - before
            flat += not value_S[indices].any()
            continue
        # Exact comparison: a deviation computed from equal rewards can come out as 1e-17 and blow them up.
        if reward.min() == reward.max() or np.count_nonzero(weight) < 2:
            flat += 1
        else:
            value_S[indices] = _compared(name, reward, weight, deviation)
    values = value_S.astype(np.float32)
    each: dict[Hashable, list[bool]] = {}
    for group, value in zip(groups, values, strict=True):
        each.setdefault(group, []).append(value == 0.0)
    return Advantages(values, len(members), flat, {group: sum(zeros) / len(zeros) for group, zeros in each.items()})


def rewards_told(rewards: Sequence[float], groups: Sequence[Hashable], control: str, rng: random.Random) -> list[float]:
    """The rewards that the update is told; they are the true ones unless a control experiment asks for others.

    `shuffled` deals the rewards of each group out anew, `flipped` makes good bad. Metrics keep the true ones.
    """
    if control == "flipped":
        return [-reward for reward in rewards]
    told = list(rewards)
    if control == "shuffled":
        for group in dict.fromkeys(groups):
            places = [place for place, of in enumerate(groups) if of == group]
            dealt = [rewards[place] for place in places]
            rng.shuffle(dealt)
            for place, reward in zip(places, dealt, strict=True):
                told[place] = reward
    return told


def repeated(tasks: Sequence[int]) -> list[int]:
    """Which completions are attempts at the same task; -1 for one that was sampled once."""
    times = Counter(tasks)
    return [task if times[task] > 1 else -1 for task in tasks]


def _baseline_of(name: str, group: Hashable, task: int) -> Hashable:
    if name == "reinforce_pp":
        return "all"
    if name in ("trr", "rae") or task < 0:
        return ("group", group)
    return ("task", group, task)


def _compared(name: str, reward: np.ndarray, weight: np.ndarray, deviation: bool) -> np.ndarray:
    """With `deviation` (r - mean) / std, else r - mean, both weighted, the population's; `rloo`: see there."""
    if name == "rloo":
        return _leave_one_out(reward, weight)
    mean = np.average(reward, weights=weight)
    if not deviation:
        return reward - mean
    std = np.sqrt(np.average((reward - mean) ** 2, weights=weight))
    return (reward - mean) / std if std > 0 else np.zeros_like(reward)


def _leave_one_out(reward: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """r_i minus the mean of the others."""
    others = weight.sum() - weight
    return reward - ((weight * reward).sum() - weight * reward) / others


def _checked(
    rewards: Sequence[float],
    groups: Sequence[Hashable],
    tasks: Sequence[int],
    lengths: Sequence[int],
    expected: Sequence[Hashable],
) -> np.ndarray:
    reward_S = np.asarray(rewards, np.float64)
    if reward_S.size == 0:
        raise ValueError("rewards: none given; an iteration must hand over at least one completion")
    for field, given in (("groups", groups), ("tasks", tasks), ("lengths", lengths)):
        if len(given) != len(reward_S):
            raise ValueError(f"{field}: {len(given)} given for {len(reward_S)} rewards; should be one each")
    missing = [group for group in expected if group not in set(groups)]
    if missing:
        raise ValueError(f"groups: no completion belongs to {missing}; every expected group needs at least one")
    bad = np.flatnonzero(~np.isfinite(reward_S))
    if bad.size:
        raise ValueError(
            f"rewards[{bad[0]}]={reward_S[bad[0]]} (group {groups[int(bad[0])]}, {bad.size} in all): should be finite"
        )
    if min(lengths) < 0:
        raise ValueError(f"lengths: {min(lengths)} given; should be the number of tokens, from 0 up")
    return reward_S
