"""From a checked config to the small settings of self-play. Nothing here knows a model or a device."""

from __future__ import annotations

from azr_jax.config.schema import Config
from azr_jax.executor.pool import ExecutorSettings
from azr_jax.learner.advantages import Baselines
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.iteration import PlaySettings, SelfPlay
from azr_jax.selfplay.prompting import Prompter, SamplingSettings
from azr_jax.selfplay.proposing import Proposer, ProposeSettings
from azr_jax.selfplay.scoring import CreditSettings
from azr_jax.selfplay.seeding import SeedSettings
from azr_jax.tasks.buffers import Buffers, BufferSettings
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.kind import named
from azr_jax.tasks.rewards import RewardSettings
from azr_jax.tasks.types import Kind


def played_kinds(c: Config) -> tuple[Kind, ...]:
    return named(c.tasks.kinds)


def sampling_settings(c: Config) -> SamplingSettings:
    return SamplingSettings(
        style=c.tasks.prompt_style,
        max_prompt_tokens=c.rollout.max_prompt_tokens,
        max_new_tokens=c.rollout.max_new_tokens,
        temperature=c.rollout.temperature,
        top_k=c.rollout.top_k,
        top_p=c.rollout.top_p,
        min_p=c.rollout.min_p,
        induction_inputs=c.tasks.induction_inputs,
        induction_message=c.tasks.induction_message,
        examples=c.tasks.examples,
        banned=ExecutorSettings().banned_modules,
        strict=c.tasks.format == "strict",
        stop_at_answer=c.rollout.stop_at_answer,
        repetition_stop=c.rollout.repetition_stop,
    )


def propose_settings(c: Config) -> ProposeSettings:
    return ProposeSettings(
        references=c.tasks.references,
        reference_sampling=c.buffer.reference_sampling,
        inputs=c.tasks.induction_inputs,
        fewest=c.tasks.induction_fewest or c.tasks.induction_inputs,
        shown=c.tasks.induction_shown,
        pairs=c.tasks.induction_pairs,
        strip_comments=c.tasks.strip_comments,
        strip_globals=c.tasks.strip_globals,
        message_leak=c.tasks.message_leak,
        novelty_gate=c.tasks.novelty_gate,
        composite_probability=c.tasks.composite_probability,
        composite_most=c.tasks.composite_most,
        limited=c.rollout.propose_vocab_dropout > 0,
    )


def play_settings(c: Config) -> PlaySettings:
    return PlaySettings(
        seed=c.seed,
        kinds=played_kinds(c),
        batch=c.batch_size,
        estimate_attempts=c.tasks.estimate_attempts if c.tasks.train_proposer or c.tasks.train_on_estimates else 0,
        estimate_duplicates=c.rewards.duplicate == "full" or c.tasks.train_on_estimates,
        solve_sampling=c.buffer.solve_sampling,
        valid_program_filter=c.buffer.valid_program_filter,
    )


def self_play(
    c: Config, loop: EventLoop, prompter: Prompter, buffers: Buffers, reserved: Reserved | None = None
) -> SelfPlay:
    """`reserved`: programs of the run's evaluations."""
    return SelfPlay(
        play_settings(c),
        loop,
        Proposer(prompter, buffers, propose_settings(c), reserved or Reserved()),
        Solver(prompter, c.tasks.induction_reward, c.tasks.deduction_answer, c.tasks.abduction_answer),
        credit_settings(c),
        Baselines(c.learner.rae_decay) if c.learner.advantage == "rae" else None,
    )


def credit_settings(c: Config) -> CreditSettings:
    return CreditSettings(
        reward_settings(c),
        proposer=c.tasks.train_proposer,
        estimates=c.tasks.train_on_estimates,
        overlong=c.learner.overlong,
        control=c.rewards.control,
        advantage=c.learner.advantage,
        weighting=c.learner.weighting,
        deviation=c.learner.policy_loss != "dr_grpo",
    )


def seed_settings(c: Config, slots: int) -> SeedSettings:
    """`slots` are those of all replicas of the sampler."""
    return SeedSettings(
        seed=c.seed,
        kinds=played_kinds(c),
        slots=slots,
        target=c.seeding.factor * c.batch_size,
        max_rounds=c.seeding.max_rounds,
        strip=c.seeding.strip,
        import_from=c.seeding.import_from,
    )


def buffer_settings(c: Config) -> BufferSettings:
    return BufferSettings(
        capacity=c.buffer.capacity,
        evict=c.buffer.evict,
        copies=c.tasks.copies,
        frontier=(c.buffer.frontier_low, c.buffer.frontier_high),
    )


def reward_settings(c: Config) -> RewardSettings:
    return RewardSettings(
        learnability=c.rewards.learnability,
        peak_power=c.rewards.peak_power,
        peak_at=c.rewards.peak_at,
        duplicate=None if c.rewards.duplicate == "full" else c.rewards.duplicate,
        zero_learnability=c.rewards.zero_learnability,
        invalid=c.rewards.invalid,
        wrong=c.rewards.wrong,
        format_error=c.rewards.format_error,
        intrinsic=vars(c.rewards.intrinsic),
        intrinsic_cap=c.rewards.intrinsic_cap,
        combine=c.rewards.combine,
        memory=vars(c.rewards.memory),
    )
