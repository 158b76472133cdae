"""From a checked config to the settings of the rooms that know no config: what has the same name is handed on by it."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

from azr_jax.config import loss_weights
from azr_jax.config.schema import Config
from azr_jax.executor.settings import ExecutorSettings
from azr_jax.learner.lora import Trained
from azr_jax.learner.optimizer import OptimizerSettings
from azr_jax.learner.step import LearnerSettings
from azr_jax.learner.terms import Group, Objective
from azr_jax.models.packed_splash import SIZES
from azr_jax.rollout.requests import EngineSettings
from azr_jax.selfplay.scoring import trained_groups
from azr_jax.tasks.buffers import BufferSettings
from azr_jax.tasks.kind import named
from azr_jax.tasks.rewards import RewardSettings
from azr_jax.tasks.types import Kind, Role

T = TypeVar("T")


def taken(made: type[T], section: object, **otherwise: object) -> T:
    """`made` with what the section has under the names of its fields, and with what is called otherwise."""
    names = {field.name for field in fields(made)} & vars(section).keys()  # pyright: ignore[reportArgumentType]
    return made(**{name: getattr(section, name) for name in names} | otherwise)


def played_kinds(c: Config) -> tuple[Kind, ...]:
    return named(c.tasks.kinds)


def executor_settings(c: Config) -> ExecutorSettings:
    return taken(ExecutorSettings, c.executor)


def buffer_settings(c: Config) -> BufferSettings:
    return taken(
        BufferSettings, c.buffer, copies=c.tasks.copies, frontier=(c.buffer.frontier_low, c.buffer.frontier_high)
    )


def reward_settings(c: Config) -> RewardSettings:
    return taken(
        RewardSettings,
        c.rewards,
        duplicate=None if c.rewards.duplicate == "full" else c.rewards.duplicate,
        intrinsic=vars(c.rewards.intrinsic),
        memory=vars(c.rewards.memory),
    )


def row_tokens(c: Config, platform: str) -> int:
    """Of a packed row: room for the longest sample; on TPU whole tiles, without which splash attention cannot run."""
    longest = c.learner.row_tokens or c.rollout.max_prompt_tokens + c.rollout.max_new_tokens
    tile = SIZES[-1] if platform == "tpu" else 1
    return -(-longest // tile) * tile


def engine_settings(c: Config, slots: int, never: tuple[int, ...] = ()) -> EngineSettings:
    return taken(
        EngineSettings,
        c.rollout,
        slots=slots,
        dtype=c.model.dtype,
        matmul_dtype=c.model.matmul_dtype,
        never=never,
        limits=c.rollout.propose_vocab_dropout > 0,
        kv_cache=c.pipeline.kv_cache if c.pipeline.ahead else "",
    )


def learner_settings(c: Config, never: tuple[int, ...] = ()) -> LearnerSettings:
    learner, steps = c.learner, c.learner.epochs * c.learner.minibatches  # of the optimizer, in an iteration
    groups, weights = trained_groups(played_kinds(c)), loss_weights.read(learner.weights)
    counted = tuple(number for number, (role, _) in enumerate(groups) if role in learner.kl_roles)
    return taken(
        LearnerSettings,
        learner,
        objective=taken(
            Objective, learner, kl_groups=None if set(learner.kl_roles) == set(Role) else counted, never=never
        ),
        optimizer=taken(
            OptimizerSettings,
            learner,
            name=learner.optimizer,
            warmup=learner.warmup * steps,
            steps=c.iterations * steps,
        ),
        trained=Trained(learner.lora.rank, learner.lora.targets, c.seed, learner.freeze),
        groups=tuple(Group(f"{role}/{kind}", loss_weights.of_group(weights, role, kind)) for role, kind in groups),
        longest=c.rollout.max_new_tokens,
        oldest=c.pipeline.ahead,
        temperature=c.rollout.temperature,
        dtype=c.model.dtype,
        matmul_dtype=c.model.matmul_dtype,
        remat=c.model.remat,
        attention=c.model.attention,
    )
