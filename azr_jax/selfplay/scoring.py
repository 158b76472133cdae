"""From what was played to what each completion is worth: rewards, then TRR++ advantages, then the learner's samples."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from azr_jax.config.schema import Config
from azr_jax.learner.advantages import Baselines, advantages, repeated, rewards_told
from azr_jax.learner.packing import TrainingSample
from azr_jax.selfplay.results import Played, Proposed, Scored, Solved
from azr_jax.tasks.buffers import Unkept
from azr_jax.tasks.rewards import RewardSettings, proposer_reward, remembered, solver_reward
from azr_jax.tasks.types import FormatError, Kind, Role

Chosen = list[tuple[Role, Scored]]
Key = tuple[int, int]  # Scored.key


def with_rewards(played: Played, settings: RewardSettings) -> Played:
    """With the reward of every proposal, estimate attempt and solution."""
    return played.with_each(lambda one: {"reward_parts": _reward(one, settings)})


def _reward(one: Scored, settings: RewardSettings) -> dict[str, float]:
    if isinstance(one, Solved):
        return solver_reward(not isinstance(one.answer, FormatError), one.score, settings)
    assert isinstance(one, Proposed)
    parts = proposer_reward(
        formatted=not isinstance(one.proposal, FormatError),
        valid=one.task is not None,
        solve_rate=one.solve_rate,
        settings=settings,
        duplicate=one.kept == Unkept.DUPLICATE,
        terms=one.traits.terms(one.kind) if one.traits else None,
    )
    return remembered(parts, one.traits.familiarity, settings) if one.traits else parts


def learned_from(played: Played, c: Config) -> Chosen:
    """The completions the update learns from, in an order that does not depend on when they arrived.

    With `overlong` "mask" those that were cut are left out: no loss, and no part in anybody's baseline. Where all were
    cut they stay, for an update needs something; in the strict format they are worth the same, and teach nothing.
    """
    chosen: Chosen = []
    for kind, proposals in played.proposed.items():
        if c.tasks.train_proposer:
            chosen += [(Role.PROPOSE, proposed) for proposed in proposals]
        if c.tasks.train_on_estimates:
            chosen += [(Role.SOLVE, attempt) for proposed in proposals for attempt in proposed.attempts]
        chosen += [(Role.SOLVE, solved) for solved in played.solved[kind]]
    if c.learner.overlong == "error":
        return chosen
    return [(role, item) for role, item in chosen if not item.completion.rollout.truncated] or chosen


def compute_advantages(
    chosen: Chosen, c: Config, rng: random.Random, baselines: Baselines | None = None
) -> tuple[dict[Key, float], dict[str, float]]:
    """The advantage of every chosen completion, and what share of them teaches nothing. `baselines` move on."""
    groups = [f"{role}/{item.kind}" for role, item in chosen]
    result = advantages(
        c.learner.advantage,
        rewards=rewards_told([item.reward for _, item in chosen], groups, c.rewards.control, rng),
        groups=groups,
        # A prompt that was sampled once has its group to compare with.
        tasks=repeated([item.task_id if isinstance(item, Solved) else -1 for _, item in chosen]),
        lengths=[len(item.completion.rollout.tokens) for _, item in chosen],
        weighting=c.learner.weighting,
        deviation=c.learner.policy_loss != "dr_grpo",
        baselines=baselines,
    )
    values = {item.key: float(value) for (_, item), value in zip(chosen, result.values, strict=True)}
    return values, {
        "advantage/flat_groups": float(result.flat_groups),  # their rewards are all equal
        "advantage/flat_share": result.flat_groups / result.groups,
        **{f"{group}/advantage/zero": share for group, share in result.zero.items()},
        **{f"{name}/advantage/baseline": value for name, value in (baselines.values if baselines else {}).items()},
    }


def with_advantages(played: Played, values: Mapping[Key, float]) -> Played:
    """With the advantages: 0 for what the update does not learn from."""
    return played.with_each(lambda one: {"advantage": values.get(one.key, 0.0)})


def trained_groups(kinds: Sequence[Kind]) -> list[tuple[Role, Kind]]:
    """Each role and kind, in the order in which the learner counts its groups."""
    return [(role, kind) for kind in kinds for role in (Role.PROPOSE, Role.SOLVE)]


def training_samples(
    chosen: Chosen, values: Mapping[Key, float], kinds: Sequence[Kind], iteration: int
) -> list[TrainingSample]:
    group = {of: number for number, of in enumerate(trained_groups(kinds))}
    return [
        TrainingSample(
            prompt=item.completion.prompt,
            completion=item.completion.rollout.tokens,
            sampler_logprobs=item.completion.rollout.sampler_logprobs,
            advantage=values[item.key],
            limited=item.completion.rollout.request.limited,
            group=group[role, item.kind],
            ages=tuple(iteration - version for version in item.completion.rollout.versions),
        )
        for role, item in chosen
    ]
