"""Every field with what it may be. `configs/base.py` holds its value and meaning; flags.py reads recipes against these.

What fields say about each other stands in cross_checks.py, what the presets fill in in presets.py.
"""

from __future__ import annotations

from azr_jax.config import loss_weights
from azr_jax.config.presets import PRESETS
from azr_jax.config.rules import (
    Config as Config,
)
from azr_jax.config.rules import (
    FieldRule,
    assigned,
    boolean,
    identifiers,
    integer,
    integers,
    kinds,
    number,
    number_or,
    one_of,
    some_of,
    text,
    texts,
)
from azr_jax.executor.written import FORMS
from azr_jax.monitor.rules import RULES as ALARMS
from azr_jax.tasks.kind import BUILT_IN
from azr_jax.tasks.rewards import COMBINE, INTRINSIC, MEMORY
from azr_jax.tasks.sameness import COPIES
from azr_jax.tasks.worked import SHOWN as EXAMPLES


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


MATRICES = ("q", "k", "v", "o", "gate", "up", "down")  # of a layer
FREEZABLE = ("embed", "unembed", "final_norm", "layers", *(f"layers.{w}" for w in (*MATRICES, "attn_norm", "mlp_norm")))

RULES: dict[str, FieldRule] = {
    "seed": integer(0, 2**31 - 1),
    "iterations": integer(1),
    "batch_size": integer(1),
    "preset": one_of(*PRESETS),
    "model.name": text(empty=False),
    "model.cache_dir": text(),
    "model.spell_out": texts(),
    "model.dtype": one_of("float32", "bfloat16"),
    "model.matmul_dtype": one_of("same", "bfloat16"),
    "model.remat": one_of("none", "dots", "full"),
    "model.attention": one_of("auto", "xla", "cudnn", "splash"),
    "tasks.kinds": kinds(*BUILT_IN),
    "tasks.references": integer(0, 64),
    "tasks.estimate_attempts": integer(2, why="with one attempt every solve rate is 0 or 1, which teaches nothing"),
    "tasks.train_proposer": boolean(),
    "tasks.train_on_estimates": boolean(),
    "tasks.prompt_style": one_of("think", "think_chat", "chat", "completion"),
    "tasks.examples": one_of(*EXAMPLES),
    "tasks.format": one_of("strict", "lenient"),
    "tasks.induction_inputs": integer(2, 64),
    "tasks.induction_fewest": integer(0, 64),
    "tasks.induction_shown": integer(1, 63),
    "tasks.induction_pairs": one_of("inducible", "as_given"),
    "tasks.induction_message": one_of("question", "hint"),
    "tasks.message_leak": number(0, 1),
    "tasks.induction_reward": one_of("binary", "fraction"),
    "tasks.deduction_answer": one_of(*FORMS),
    "tasks.abduction_answer": one_of(*FORMS),
    "tasks.copies": one_of(*COPIES),
    "tasks.strip_comments": boolean(),
    "tasks.strip_globals": boolean(),
    "tasks.composite_probability": number(0, 1),
    "tasks.composite_most": integer(1, 8),
    "tasks.novelty_gate": number(0, 1),
    "seeding.factor": integer(1),
    "seeding.max_rounds": integer(1),
    "seeding.strip": boolean(),
    "seeding.import_from": text(),
    "buffer.capacity": integer(1),
    "buffer.evict": one_of("oldest_first", "keep_oldest"),
    "buffer.valid_program_filter": one_of("all", "non_one", "non_extremes"),
    "buffer.reference_sampling": one_of("uniform", "recent", "learnability"),
    "buffer.solve_sampling": one_of("max_new", "half_new", "uniform", "frontier", "mistakes"),
    "buffer.frontier_low": number(0, 1),
    "buffer.frontier_high": number(0, 1),
    "rewards.learnability": one_of("paper", "peak"),
    "rewards.peak_power": number(0, above=True),
    "rewards.peak_at": number(0.01, 0.99),
    "rewards.zero_learnability": number(-1, 1),
    "rewards.duplicate": number_or("full", -10, 0),
    "rewards.invalid": number(-10, 0),
    "rewards.wrong": number(-10, 0),
    "rewards.format_error": number(-10, 0),
    **{f"rewards.intrinsic.{term}": number(-10, 10) for term in INTRINSIC},
    "rewards.intrinsic_cap": number(0, 10),
    "rewards.combine": one_of(*COMBINE),
    **{f"rewards.memory.{name}": number(0, 10) for name in MEMORY},
    "rewards.control": one_of("none", "shuffled", "flipped"),
    "rollout.max_prompt_tokens": integer(8),
    "rollout.max_new_tokens": integer(1),
    "rollout.slots": integer(0),
    "rollout.page_size": integer(1),
    "rollout.pages": integer(0),
    "rollout.decode_steps": integer(1),
    "rollout.temperature": number(0, 10, above=True),
    "rollout.top_k": integer(0),
    "rollout.top_p": number(0, 1, above=True),
    "rollout.min_p": number(0, 1),
    "rollout.propose_vocab_dropout": number(0, 0.99),
    "rollout.stop_at_answer": boolean(),
    "rollout.repetition_stop": integer(0),
    "executor.timeout_s": number(0.05, 600),
    "executor.memory_mb": integer(32),
    "executor.workers": integer(0, 1024),
    "executor.allow_weak": boolean(),
    "executor.packages": identifiers(),
    "executor.judge": one_of("local", "http"),
    "executor.url": text(),
    "learner.lr": number(0, 1),
    "learner.schedule": one_of("constant", "linear", "cosine"),
    "learner.warmup": integer(0),
    "learner.optimizer": one_of("adamw", "adamw_bf16", "adamw_factored"),
    "learner.b1": number(0, 0.99999),
    "learner.b2": number(0, 0.99999),
    "learner.eps": number(0, 1, above=True),
    "learner.weight_decay": number(0, 10),
    "learner.grad_clip": number(0, above=True),
    "learner.advantage": one_of("trr", "reinforce_pp", "grpo", "rloo", "rae"),
    "learner.rae_decay": number(0, 0.99999),
    "learner.policy_loss": one_of("ppo", "gspo", "cispo", "dr_grpo"),
    "learner.weights": assigned(*loss_weights.NAMES, low=0, known=loss_weights.is_name),
    "learner.weighting": one_of("sequence", "token"),
    "learner.loss": one_of("token_mean", "sequence_mean"),
    "learner.overlong": one_of("error", "mask"),
    "learner.entropy": number(-1, 1),
    "learner.clip_low": number(0, 1, above=True),
    "learner.clip_high": number(0, above=True),
    "learner.clip_dual": number(0),
    "learner.kl": number(0),
    "learner.kl_in": one_of("loss", "reward"),
    "learner.kl_estimator": one_of("auto", "k1", "k2", "k3"),
    "learner.kl_roles": some_of("propose", "solve"),
    "learner.epochs": integer(1),
    "learner.minibatches": integer(1),
    "learner.importance": one_of("none", "token", "sequence"),
    "learner.importance_mode": one_of("truncate", "mask", "two_sided"),
    "learner.importance_low": number(0, 1),
    "learner.importance_cap": number(1),
    "learner.importance_length_norm": boolean(),
    "learner.row_tokens": integer(0),
    "learner.row_lengths": integer(1, 64),
    "learner.share_prompts": boolean(),
    "learner.microbatch": integer(0),
    "learner.chunk": integer(0),
    "learner.freeze": some_of(*FREEZABLE, empty=True),
    "learner.lora.rank": integer(0),
    "learner.lora.targets": some_of(*MATRICES),
    "learner.max_bad_steps": integer(1),
    "mesh.fsdp": integer(-1),
    "mesh.tensor": integer(1),
    "mesh.rollout_tensor": integer(0),
    "profile.steps": integers(1),
    "checkpoint.every": integer(1),
    "checkpoint.keep": integer(1),
    "checkpoint.keep_every": integer(0),
    "eval.every": integer(0),
    "eval.suites": some_of("nano", "cruxeval", empty=True),
    "eval.data_dir": text(),
    "eval.rows": integer(0),
    "eval.attempts": integer(1),
    "monitor.sinks": some_of("tensorboard", "wandb", "trackio", empty=True),
    "monitor.report_every": integer(0),
    "monitor.health.thresholds": assigned(*(alarm.name for alarm in ALARMS)),
    "monitor.health.stop_on": some_of("any", *(alarm.name for alarm in ALARMS), empty=True),
    "monitor.health.returns": integer(0),
    "watchdog.on_expiry": one_of("continue", "end"),
    **{
        f"watchdog.{name}_s": number(0, above=True)
        for name in ["seed", "play", "evaluate", "round", "verdict", "update", "weights", "save", "report", "process"]
    },
}
