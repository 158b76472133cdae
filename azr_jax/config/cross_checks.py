"""What fields say about each other. Plain Python, before any device; what the model says is checked in run/build.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from azr_jax.config import loss_weights
from azr_jax.config.schema import Config
from azr_jax.tasks.kind import BUILT_IN, Kind, KindFailed, UnknownKind, asked, named
from azr_jax.tasks.prompts import Material, Prompt
from azr_jax.tasks.seedfile import SeedFileError, read_seed_file
from azr_jax.tasks.types import Proposal, Role


def problems(c: Config) -> list[str]:
    """One line each: the field, its value, and what would be right. The fields of `c` are sound by themselves."""
    try:
        kinds = named(c.tasks.kinds)
    except UnknownKind as error:
        return [f"tasks.kinds={error}"]
    found = [*_of_prompts(c), *_of_kinds(c, kinds), *_of_buffers(c), *_of_rewards(c), *_of_the_loss(c, kinds)]
    return [*found, *_of_the_pipeline(c), *_of_the_seed_file(c, kinds), *_of_sizes(c)]


def _of_prompts(c: Config) -> list[str]:
    if c.tasks.examples != "one" and c.tasks.prompt_style not in ("chat", "completion"):
        return [
            f"tasks.examples={c.tasks.examples}: is for tasks.prompt_style=chat or completion; "
            f"{c.tasks.prompt_style} shows none, should be one"
        ]
    return []


def _of_kinds(c: Config, kinds: Sequence[Kind]) -> list[str]:
    found: list[str] = []
    said = f"tasks.kinds={','.join(c.tasks.kinds)}"
    no_programs = all(kind.about_a_program for kind in kinds)
    if c.tasks.induction_shown >= c.tasks.induction_inputs:
        found.append(
            f"tasks.induction_shown={c.tasks.induction_shown}: should be less than tasks.induction_inputs="
            f"{c.tasks.induction_inputs}, so that hidden pairs remain to judge by"
        )
    if c.tasks.induction_fewest and not 2 <= c.tasks.induction_fewest <= c.tasks.induction_inputs:
        found.append(
            f"tasks.induction_fewest={c.tasks.induction_fewest}: should be 0 (all), or from 2, one pair to see and one "
            f"to judge by, to tasks.induction_inputs={c.tasks.induction_inputs}"
        )
    if no_programs and not c.seeding.import_from:
        found.append(
            f"{said}: {' and '.join(kinds)} takes its programs from the other kinds; add deduction, abduction or "
            "error, or give seeding.import_from"
        )
    for kind in kinds:
        if kind not in BUILT_IN:
            found += _asked_once(c, kind)
    if no_programs and c.tasks.composite_probability:
        found.append(
            f"tasks.composite_probability={c.tasks.composite_probability}: has nothing to act on where {said}, "
            "whose proposals hold no program of their own; should be 0, or another kind added"
        )
    return found


def _asked_once(c: Config, kind: Kind) -> list[str]:
    """What a kind of the user's is asked first, before anything dear: its mistakes are found here if they can be."""
    try:
        asked(kind, "first", gives=Proposal, or_none=True)
        if not kind.about_a_program:
            material = Material(c.tasks.prompt_style, (), inputs=c.tasks.induction_inputs)
            asked(kind, "propose_prompt", material, gives=Prompt)
    except KindFailed as error:
        return [f"tasks.kinds={error}"]
    return []


def _of_buffers(c: Config) -> list[str]:
    found: list[str] = []
    seeds = c.seeding.factor * c.batch_size
    if c.buffer.capacity < seeds + c.batch_size:
        found.append(
            f"buffer.capacity={c.buffer.capacity}: should be at least (seeding.factor + 1) x batch_size = "
            f"{seeds + c.batch_size}: seeds never go, and an iteration's new tasks need room beside them"
        )
    if c.buffer.frontier_low > c.buffer.frontier_high:
        found.append(
            f"buffer.frontier_low={c.buffer.frontier_low}: should be at most buffer.frontier_high="
            f"{c.buffer.frontier_high}, or no solve rate lies between them"
        )
    if c.buffer.solve_sampling == "frontier" and not c.tasks.rates_wanted:
        found.append(
            "buffer.solve_sampling=frontier: nobody measures solve rates where tasks.train_proposer=False and "
            "tasks.train_on_estimates=False; should be max_new, half_new, uniform or mistakes, or one of these True"
        )
    if c.buffer.valid_program_filter != "all" and not c.tasks.rates_wanted:
        found.append(
            f"buffer.valid_program_filter={c.buffer.valid_program_filter}: nobody measures solve rates where "
            "tasks.train_proposer=False and tasks.train_on_estimates=False; should be all, or one of these True"
        )
    return found


def _of_rewards(c: Config) -> list[str]:
    found: list[str] = []
    if c.rewards.combine != "add" and not any(vars(c.rewards.intrinsic).values()):
        found.append(
            f"rewards.combine={c.rewards.combine}: there is nothing to combine; should be add, or a weight of "
            "rewards.intrinsic other than 0"
        )
    if c.rewards.peak_at != 0.5 and c.rewards.learnability != "peak":
        found.append(
            f"rewards.peak_at={c.rewards.peak_at}: rewards.learnability={c.rewards.learnability} has no peak; should "
            "be 0.5, or rewards.learnability=peak"
        )
    return found


def _of_the_loss(c: Config, kinds: Sequence[Kind]) -> list[str]:
    learner, found = c.learner, list[str]()
    if 0 < learner.clip_dual <= 1:
        found.append(f"learner.clip_dual={learner.clip_dual}: should be above 1, or 0 for no bound")
    if learner.clip_dual and learner.policy_loss in ("gspo", "cispo"):
        found.append(
            f"learner.clip_dual={learner.clip_dual}: learner.policy_loss={learner.policy_loss} has no such bound; "
            "should be 0"
        )
    if learner.policy_loss == "dr_grpo" and learner.loss == "sequence_mean":
        found.append(
            "learner.loss=sequence_mean: learner.policy_loss=dr_grpo divides by a constant; give one of the two"
        )
    if learner.kl and learner.kl_in == "loss" and learner.kl_estimator == "k1":
        found.append("learner.kl_estimator=k1: its gradient's mean is 0; should be k2 or k3, or learner.kl_in=reward")
    if not learner.kl and (learner.kl_estimator != "auto" or len(learner.kl_roles) < len(Role)):
        field = "kl_estimator" if learner.kl_estimator != "auto" else "kl_roles"
        found.append(
            f"learner.{field}: has nothing to act on while learner.kl=0; should be left out, or learner.kl above 0"
        )
    if learner.importance != "none" and learner.old_logprobs == "sampler":
        found.append(
            f"learner.importance={learner.importance}: weights p_old / p_sampler are 1 with learner.old_logprobs="
            "sampler; should be none, or learner.old_logprobs=learner"
        )
    # Where ratios are to the sampler's own probabilities, they answer for it already.
    if learner.importance == "none" and learner.old_logprobs == "learner":
        found += [
            f"learner.importance=none: with rollout.{field}={value} the sampler's policy is another than the "
            f"learner's; should be token or sequence, or learner.old_logprobs=sampler, or rollout.{field}={none}"
            for field, value, none in (
                ("quantization", c.rollout.quantization, "none"), ("kv_cache_dtype", c.rollout.kv_cache_dtype, "same")
            )
            if value != none
        ]  # fmt: skip
    if learner.importance == "none" and learner.importance_mode != "truncate":
        found.append(
            f"learner.importance_mode={learner.importance_mode}: there are no weights while learner.importance=none; "
            "should be token or sequence"
        )
    if learner.importance != "sequence" and learner.importance_length_norm:
        found.append("learner.importance_length_norm=true: is for learner.importance=sequence; should be false")
    return found + loss_weights.problems(learner.weights, kinds, proposer=c.tasks.train_proposer)


def _of_the_pipeline(c: Config) -> list[str]:
    p, found = c.pipeline, list[str]()
    if p.solve_after < 1 and not p.ahead:
        found.append(
            f"pipeline.solve_after={p.solve_after}: goes by what came first, and a run without stale tokens does not "
            "depend on it; should be 1, or pipeline.mode=overlapped with pipeline.staleness from 1 up"
        )
    if p.solve_after < 1 and c.buffer.valid_program_filter != "all":
        found.append(
            f"buffer.valid_program_filter={c.buffer.valid_program_filter}: waits for the attempts at a task, and with "
            f"pipeline.solve_after={p.solve_after} it is solved before; should be all, or pipeline.solve_after=1"
        )
    if p.mode == "synchronous":
        idle = {"kv_cache": p.kv_cache == "keep", "staleness": p.staleness > 1, "follow": bool(p.follow)}
        idle |= {"least_ess": p.least_ess > 0, "most_gap": p.most_gap > 0}
        because = "has nothing to act on while pipeline.mode=synchronous; should be left out, or the mode overlapped"
        return found + [f"pipeline.{field}={getattr(p, field)}: {because}" for field, said in idle.items() if said]
    if p.least_ess and c.learner.importance == "none":
        found.append(
            f"pipeline.least_ess={p.least_ess}: of importance weights, and learner.importance=none; should be 0, or "
            "learner.importance=token or sequence"
        )
    if p.follow and not Path(p.follow).is_file():
        found.append(f"pipeline.follow={p.follow}: there is no such file; should be the schedule.jsonl of a run")
    if c.learner.epochs > 1:
        found.append(
            f"learner.epochs={c.learner.epochs}: tokens that are stale already would be gone over again; should be 1 "
            "with pipeline.mode=overlapped"
        )
    if c.rollout.propose_vocab_dropout:
        found.append(
            f"rollout.propose_vocab_dropout={c.rollout.propose_vocab_dropout}: drops other words in every iteration, "
            "and with pipeline.mode=overlapped a proposal may see two; should be 0"
        )
    return found


def _of_the_seed_file(c: Config, kinds: Sequence[Kind]) -> list[str]:
    """Read whole: a mistake in the last line should not be found after the model was loaded."""
    path = c.seeding.import_from
    if not path:
        return []
    if not Path(path).is_file():
        return [f"seeding.import_from={path}: there is no such file"]
    try:
        rows = list(read_seed_file(Path(path), kinds))
    except (SeedFileError, OSError, UnicodeDecodeError) as error:
        return [f"seeding.import_from={path}: cannot be read: {error}"]
    return _of_rows(c, kinds, rows)


def _of_rows(c: Config, kinds: Sequence[Kind], rows: list[Proposal]) -> list[str]:
    name = f"seeding.import_from={c.seeding.import_from}"
    if not rows:
        return [f"{name}: holds no rows; give a file with some, or none to start from the identity triplet"]
    if all(kind.about_a_program for kind in kinds) and not any(row.kind in kinds for row in rows):
        only = ",".join(c.tasks.kinds)
        return [
            f"{name}: holds no {' or '.join(kinds)} rows (inputs and a message), and tasks.kinds={only} has no other "
            "source of programs; add a kind or give another file"
        ]
    if len(rows) + c.batch_size > c.buffer.capacity:
        return [
            f"{name}: has {len(rows)} rows; buffer.capacity={c.buffer.capacity} should be at least "
            f"{len(rows) + c.batch_size}, these and batch_size: imported tasks are seeds and never go"
        ]
    return []


def _of_sizes(c: Config) -> list[str]:
    """Of rollouts, rows, judges and schedules."""
    found: list[str] = []

    def need(good: bool, message: str) -> None:
        if not good:
            found.append(message)

    longest = c.rollout.max_prompt_tokens + c.rollout.max_new_tokens
    need(
        c.learner.row_tokens == 0 or c.learner.row_tokens >= longest,
        f"learner.row_tokens={c.learner.row_tokens}: should be 0 or at least rollout.max_prompt_tokens + "
        f"rollout.max_new_tokens = {longest}, or the longest rollout does not fit a row",
    )
    need(
        (c.executor.judge == "http") == bool(c.executor.url),
        f"executor.url={c.executor.url}: the farm of executor.judge=http, now {c.executor.judge}; give both or neither",
    )
    need(
        not (c.executor.judge == "http" and c.executor.packages),
        f"executor.packages={','.join(c.executor.packages)}: of executor.judge=local; a farm has its own",
    )
    learner = c.learner
    need(
        learner.schedule == "constant" or learner.warmup < c.iterations,
        f"learner.warmup={learner.warmup}: should be less than iterations={c.iterations}, where the schedule ends",
    )
    need(
        not (learner.lora.rank and learner.freeze),
        f"learner.freeze={','.join(learner.freeze)}: learner.lora.rank={learner.lora.rank} freezes all; give one",
    )
    need(
        not (learner.share_prompts and c.model.attention not in ("auto", "xla")),
        f"learner.share_prompts=true: model.attention={c.model.attention} knows no shared prompts; should be xla or "
        "auto",
    )
    pages = math.ceil(longest / c.rollout.page_size) + 1  # one that a completion copies from
    need(
        c.rollout.pages == 0 or c.rollout.pages >= pages,
        f"rollout.pages={c.rollout.pages}: should be 0 or at least {pages}, one rollout at its longest and one page",
    )
    need(
        c.rollout.repetition_stop != 1,
        "rollout.repetition_stop=1: every phrase comes once; should be 0 (off), or 2 or more",
    )
    need(
        not (c.rollout.stop_at_answer and c.tasks.format == "lenient"),
        "rollout.stop_at_answer=true: what it stops is whole, which tasks.format=lenient does not ask for; should be "
        "false, or tasks.format=strict",
    )
    need(
        c.mesh.fsdp != 0,
        "mesh.fsdp=0: should be -1 (all that mesh.tensor leaves) or a number of devices",
    )
    need(
        bool(c.eval.every) <= bool(c.eval.suites),
        f"eval.every={c.eval.every}: eval.suites should name what is measured; eval.every=0 measures nothing",
    )
    return found
