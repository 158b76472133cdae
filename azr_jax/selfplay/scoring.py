"""From what was played to what each completion is worth: rewards, then TRR++ advantages, then the learner's samples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from azr_jax.learner.advantages import Baselines, advantages
from azr_jax.learner.packing import Sample
from azr_jax.selfplay.results import Played, Proposed, Solved
from azr_jax.tasks.buffers import Unkept
from azr_jax.tasks.rewards import RewardSettings, proposer_reward, remembered, solver_reward
from azr_jax.tasks.types import FormatError, Kind, Role


def reward(played: Played, settings: RewardSettings) -> None:
    """Writes the reward of every proposal, estimate attempt and solution into `played`."""
    for proposals in played.proposed.values():
        for proposed in proposals:
            proposed.reward_parts = proposer_reward(
                formatted=not isinstance(proposed.proposal, FormatError),
                valid=proposed.task is not None,
                solve_rate=proposed.solve_rate,
                settings=settings,
                duplicate=proposed.kept == Unkept.DUPLICATE,
                terms=proposed.traits.terms(proposed.kind) if proposed.traits else None,
            )
            if proposed.traits is not None:
                proposed.reward_parts = remembered(proposed.reward_parts, proposed.traits.familiarity, settings)
            for attempt in proposed.attempts:
                attempt.reward_parts = _solved_reward(attempt, settings)
    for solutions in played.solved.values():
        for solved in solutions:
            solved.reward_parts = _solved_reward(solved, settings)


def _solved_reward(solved: Solved, settings: RewardSettings) -> dict[str, float]:
    return solver_reward(not isinstance(solved.answer, FormatError), solved.score, settings)


def trained_on(
    played: Played, *, proposer: bool, estimates: bool, overlong: str = "error"
) -> list[tuple[Role, Proposed | Solved]]:
    """The completions the update learns from, in an order that does not depend on when they arrived.

    With `overlong` "mask" those that were cut are left out: no loss, and no part in anybody's baseline. Where all were
    cut they stay, for an update needs something; in the strict format they are worth the same, and teach nothing.
    """
    chosen: list[tuple[Role, Proposed | Solved]] = []
    for kind in played.proposed:
        proposals = played.proposed[kind]
        if proposer:
            chosen += [(Role.PROPOSE, proposed) for proposed in proposals]
        if estimates:
            chosen += [(Role.SOLVE, attempt) for proposed in proposals for attempt in proposed.attempts]
        chosen += [(Role.SOLVE, solved) for solved in played.solved[kind]]
    if overlong == "error":
        return chosen
    return [(role, item) for role, item in chosen if not item.completion.rollout.truncated] or chosen


def spoiled(chosen: list[tuple[Role, Proposed | Solved]], control: str, rng: random.Random) -> list[float]:
    """The rewards that the update is told; they are the true ones unless a control experiment asks for others.

    `shuffled` deals the rewards of each (role, kind) out anew, `flipped` makes good bad. Metrics keep the true ones.
    """
    rewards = [item.reward for _, item in chosen]
    if control == "flipped":
        return [-reward for reward in rewards]
    if control == "shuffled":
        groups: dict[tuple[Role, Kind], list[int]] = {}
        for place, (role, item) in enumerate(chosen):
            groups.setdefault((role, item.kind), []).append(place)
        for places in groups.values():
            dealt = [rewards[place] for place in places]
            rng.shuffle(dealt)
            for place, reward in zip(places, dealt, strict=True):
                rewards[place] = reward
    return rewards


def advise(
    chosen: list[tuple[Role, Proposed | Solved]],
    method: str,
    weighting: str,
    rewards: Sequence[float] | None = None,
    *,
    deviation: bool = True,
    baselines: Baselines | None = None,
) -> dict[str, float]:
    """Writes the advantage of every chosen completion; returns what share of them teaches nothing.

    `baselines`, of rae, move on.
    """
    result = advantages(
        method,
        rewards=rewards if rewards is not None else [item.reward for _, item in chosen],
        groups=[f"{role}/{item.kind}" for role, item in chosen],
        tasks=_tasks(chosen),
        lengths=[len(item.completion.rollout.tokens) for _, item in chosen],
        weighting=weighting,
        deviation=deviation,
        baselines=baselines,
    )
    for (_, item), value in zip(chosen, result.values, strict=True):
        item.advantage = float(value)
    return {
        "advantage/flat_groups": float(result.flat_groups),  # their rewards are all equal
        "advantage/flat_share": result.flat_groups / result.groups,
        **_without_advantage(chosen),
        **{f"{name}/advantage/baseline": value for name, value in (baselines.values if baselines else {}).items()},
    }


def _tasks(chosen: list[tuple[Role, Proposed | Solved]]) -> list[int]:
    """Which attempts are at the same task; -1 for a prompt that was sampled once, and has its group to compare with."""
    ids = [-1 if isinstance(item, Proposed) else item.task_id for _, item in chosen]
    times = Counter(ids)
    return [task if times[task] > 1 else -1 for task in ids]


def _without_advantage(chosen: list[tuple[Role, Proposed | Solved]]) -> dict[str, float]:
    """The share of completions that teach nothing, of each role and kind."""
    each: dict[str, list[bool]] = {}
    for role, item in chosen:
        each.setdefault(f"{role}/{item.kind}/advantage/zero", []).append(item.advantage == 0.0)
    return {name: sum(zeros) / len(zeros) for name, zeros in each.items()}


def trained_groups(kinds: Sequence[Kind]) -> list[tuple[Role, Kind]]:
    """Each role and kind, in the order in which the learner counts its groups."""
    return [(role, kind) for kind in kinds for role in (Role.PROPOSE, Role.SOLVE)]


def samples(chosen: list[tuple[Role, Proposed | Solved]], kinds: Sequence[Kind]) -> list[Sample]:
    group = {of: number for number, of in enumerate(trained_groups(kinds))}
    return [
        Sample(
            prompt=item.completion.prompt,
            completion=item.completion.rollout.tokens,
            sampler_logprobs=item.completion.rollout.sampled_logprobs,
            advantage=item.advantage,
            limited=item.completion.rollout.request.limited,
            group=group[role, item.kind],
        )
        for role, item in chosen
    ]
