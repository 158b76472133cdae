"""Every setting, written once: its type, what it may be, its value, and what it means.

The values are the paper's. Where its public code does otherwise, `Reference` says so: such a field is None in a recipe
until something is chosen there, and `preset` fills it in. Of `Literal`, `bool` and `str` the type is the rule; for the
rest it stands beside it (rules.py). Recipes and flags go through ml_collections (configs/base.py is made from this
page); what they resolve into is a Config. What fields say about each other stands in cross_checks.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from azr_jax.config import loss_weights
from azr_jax.config.rules import (
    Overlapped,
    Reference,
    assigned,
    identifiers,
    integer,
    integers,
    kind_names,
    multiple_or_0,
    number,
    number_or,
    one_of,
    rules_of,
    some_of,
    text,
    texts,
)
from azr_jax.monitor.rules import RULES as ALARMS
from azr_jax.tasks.kind import BUILT_IN
from azr_jax.tasks.rewards import COMBINE
from azr_jax.tasks.sameness import COPIES
from azr_jax.tasks.worked import SHOWN as EXAMPLES

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")  # of a layer
FREEZABLE = ("embed", "unembed", "final_norm", "layers", *(f"layers.{w}" for w in (*MATRICES, "attn_norm", "mlp_norm")))
ALARM_NAMES = tuple(alarm.name for alarm in ALARMS)

Form: TypeAlias = Literal["literal", "operators", "any"]
Texts: TypeAlias = tuple[str, ...]
Share: TypeAlias = Annotated[float, number(0, 1)]
Price: TypeAlias = Annotated[float, number(-10, 0)]
Term: TypeAlias = Annotated[float, number(-10, 10)]
Likeness: TypeAlias = Annotated[float, number(0, 10)]
Decay: TypeAlias = Annotated[float, number(0, 0.99999)]
Above0: TypeAlias = Annotated[float, number(0, above=True)]
From0: TypeAlias = Annotated[int, integer(0)]
From1: TypeAlias = Annotated[int, integer(1)]


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class ModelConfig:
    # a folder, a Hugging Face name, `nano:base` (comes along), `random:tiny` (tests)
    name: Annotated[str, text(empty=False)] = "Qwen/Qwen2.5-7B"
    cache_dir: str = ""  # where converted models are kept; empty: the user's cache directory
    # added tokens the model never learned, as <think>,</think>: spelled out, never sampled
    spell_out: Annotated[Texts, texts()] = ()
    # compute type; master weights and optimizer state are float32 whatever it is
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    # what weights and what they multiply are rounded to; sums are not
    matmul_dtype: Literal["same", "bfloat16"] = "same"
    remat: Literal["none", "dots", "full"] = "full"  # what the backward pass computes again instead of keeping
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"  # the learner's


@dataclass(frozen=True)
class TasksConfig:
    # also error, and your own as module:Class
    kinds: Annotated[Texts, kind_names(*BUILT_IN)] = ("deduction", "abduction", "induction")
    references: Annotated[int, integer(0, 64)] = 6  # K: tasks of the buffer shown to the proposer; 0 is an ablation
    # n: attempts that measure how hard a new task is
    estimate_attempts: Annotated[
        int, integer(2, why="with one attempt every solve rate is 0 or 1, which teaches nothing")
    ] = 8
    train_proposer: bool = True  # False: only the solver learns (ablation)
    train_on_estimates: bool = False  # True: the attempts that measured difficulty train the solver too
    # think (paper) | think_chat, chat (the model's template) | completion (small bases)
    prompt_style: Literal["think", "think_chat", "chat", "completion"] = "think"
    examples: Annotated[str, one_of(*EXAMPLES)] = "one"  # worked ones in chat and completion; matching: arguments
    # strict (ended, whole, closed, nothing more) | lenient (whatever is found, cut or not)
    format: Literal["strict", "lenient"] = "strict"
    induction_inputs: Annotated[int, integer(2, 64)] = 10  # asked for in an induction proposal; more are refused
    # how many, valid and different, make it a task; 0: every one of those asked for
    induction_fewest: Annotated[int, integer(0, 64)] = 0
    # input/output pairs the solver sees; the others judge its program
    induction_shown: Annotated[int, integer(1, 63)] = 5
    # inducible (what is hidden follows from what is shown) | as_given (the first)
    induction_pairs: Annotated[Literal["inducible", "as_given"], Reference("as_given")] = "inducible"
    # question (or an instruction: paper) | hint: what think's proposers write
    induction_message: Literal["question", "hint"] = "question"
    # a message with so much of its program's code in it is refused; 0: none is
    message_leak: Annotated[Share, Reference(0.0)] = 0.8
    # literal (written out, made by constructors) | operators (5 * 10) | any (computed)
    deduction_answer: Annotated[Form, Reference("any")] = "literal"
    abduction_answer: Annotated[Form, Reference("any")] = "literal"  # of an input that is found: any may search for it
    # of a kept task: exact | constants (may differ, same input) | skeletons (and other inputs)
    copies: Annotated[str, one_of(*COPIES), Reference("exact")] = "skeletons"
    induction_reward: Literal["binary", "fraction"] = "binary"  # all hidden pairs, or the share of them
    strip_comments: bool = False  # True: new tasks lose comments and docstrings (ablation)
    strip_globals: bool = False  # True: new tasks lose top-level statements but imports and definitions (ablation)
    composite_probability: Share = 0.0  # p: chance that a proposal must call functions of the buffer (ablation)
    composite_most: Annotated[int, integer(1, 8)] = 3  # c: from 1 to this many of them
    novelty_gate: Share = 0.0  # a task nearer than this (history.py) to any ever kept is refused; 0: off

    @property
    def rates_wanted(self) -> bool:
        """Whether anybody learns from how hard new tasks are, so that it is measured."""
        return self.train_proposer or self.train_on_estimates


@dataclass(frozen=True)
class SeedingConfig:
    factor: From1 = 4  # S: every buffer is filled to S x batch_size before training
    max_rounds: From1 = 60  # rounds, each filling every slot of the sampler, before seeding gives up and says why
    strip: bool = True  # the model's seed programs lose comments, docstrings and globals (paper)
    import_from: str = ""  # a file in the public seed-buffer format to start from, re-validated row by row


@dataclass(frozen=True)
class BufferConfig:
    capacity: From1 = 16384  # tasks kept per kind
    # who goes when a buffer is full; seeds never go
    evict: Annotated[Literal["oldest_first", "keep_oldest"], Reference("keep_oldest")] = "oldest_first"
    # kept are all | non_one (not all attempts right) | non_extremes (nor all wrong)
    valid_program_filter: Literal["all", "non_one", "non_extremes"] = "all"
    # learnability: solve rates near one half
    reference_sampling: Literal["uniform", "recent", "learnability"] = "uniform"
    # max_new: this iteration's first
    solve_sampling: Literal["max_new", "half_new", "uniform", "frontier", "mistakes"] = "max_new"
    frontier_low: Share = 0.2  # `frontier` solves the newest tasks whose measured solve rate is from here
    frontier_high: Share = 0.8  # to here, both included


@dataclass(frozen=True)
class IntrinsicConfig:
    """Weights of terms from 0 to 1, earned beside learnability above 0."""

    complexity: Term = 0.0  # branches of the program, one half at 3
    halstead: Term = 0.0  # Halstead volume of the program, one half at 200
    ast_distance: Term = 0.0  # mean distance to the references it was proposed with
    answer_diversity: Term = 0.0  # how rare its answer is among all kept so far


@dataclass(frozen=True)
class MemoryConfig:
    """Weights of what a proposal loses, of what it earned, for being like all ever kept."""

    nearest: Likeness = 0.0  # likeness to the nearest task, 0 to 1
    mean: Likeness = 0.0  # likeness to all of them on average


@dataclass(frozen=True)
class RewardsConfig:
    learnability: Literal["paper", "peak"] = "paper"  # paper: 1 - r, 0 at r = 0 and 1 | peak: [4 r (1 - r)]^k
    peak_power: Above0 = 1.0  # k of `peak`
    peak_at: Annotated[float, number(0.01, 0.99)] = 0.5  # the solve rate at which `peak` is 1
    # of a valid proposal whose learnability is 0
    zero_learnability: Annotated[float, number(-1, 1), Reference(-0.5)] = 0.0
    # of a copy of a task kept before, or earlier in its batch; full: as if it were new
    duplicate: Annotated[float | Literal["full"], number_or("full", -10, 0), Reference("full")] = -0.5
    invalid: Annotated[Price, Reference(-1.0)] = -0.5  # a well-formed proposal that is refused
    wrong: Price = -0.5  # a well-formed answer that is wrong
    format_error: Price = -1.0  # a completion without the blocks asked for
    intrinsic: IntrinsicConfig = IntrinsicConfig()
    # the most that each weighted term may come to; 0: no bound
    intrinsic_cap: Annotated[float, number(0, 10), Reference(0.5)] = 0.0
    # add (r + sum) | add_product (r + product) | multiply (r x sum) | multiply_product
    combine: Annotated[str, one_of(*COMBINE)] = "add"
    memory: MemoryConfig = MemoryConfig()
    control: Literal["none", "shuffled", "flipped"] = "none"  # inside role and kind: runs that must not learn


@dataclass(frozen=True)
class RolloutConfig:
    max_prompt_tokens: Annotated[int, integer(8)] = 6144  # prompts over it lose references, one by one
    max_new_tokens: From1 = 8096  # completions are cut here
    slots: From0 = 64  # completions a replica decodes side by side; 0: by estimated time, as mesh.rollout_tensor
    page_size: From1 = 64  # tokens per page of the key/value cache
    pages: From0 = 0  # of each replica's cache; 0: enough for every slot at its longest, or what memory leaves
    # a prompt is read in pieces of so many, whole pages; common beginnings are read once in this unit
    prefill_tokens: From1 = 128
    prefill_rows: Annotated[int, multiple_or_0(16)] = 512  # of a call for pieces of several prompts; 0: it reads one
    quantization: Literal["none", "int8"] = "none"  # of the sampler's matrices; importance weights then answer for it
    kv_cache_dtype: Literal["same", "int8"] = "same"  # of keys and values: same as model.dtype; int8 as quantization
    attention: Literal["auto", "xla", "gpu", "tpu", "tpu_fused"] = "auto"  # over the cache; compared with xla at start
    decode_steps: From1 = 32  # tokens decoded on the device between two looks of the host
    # guessed ahead, at most, where slots stand empty, from what a text says already: the same text sooner; 0: none
    draft_tokens: From0 = 0
    temperature: Annotated[float, number(0, 10, above=True)] = 1.0  # the learner scores at the same temperature
    top_k: From0 = 0  # 0: off
    top_p: Annotated[float, number(0, 1, above=True)] = 1.0  # 1: off
    min_p: Share = 0.0  # 0: off
    # share of its words the proposer does without, drawn each iteration; 0: off
    propose_vocab_dropout: Annotated[float, number(0, 0.99)] = 0.0
    stop_at_answer: bool = False  # True: ends where the answer does; False: at end-of-text alone, which is trained
    repetition_stop: From0 = 0  # ends, as if cut, where the same phrase came so many times in a row; 0: never


@dataclass(frozen=True)
class ExecutorConfig:
    timeout_s: Annotated[float, number(0.05, 600)] = 10.0  # wall-clock limit of one program
    memory_mb: Annotated[int, integer(32)] = 512  # memory limit of one program
    workers: Annotated[int, integer(0, 1024)] = 0  # programs run side by side; 0: one per core
    allow_weak: bool = False  # True: run even where the machine lacks the least isolation asked for
    # installed packages that programs may import beside the standard library, as numpy
    packages: Annotated[Texts, identifiers()] = ()
    judge: Literal["local", "http"] = "local"  # local (its own jailed processes) | http (a farm of sandboxes at `url`)
    url: str = ""  # http://<host>:<port> of a farm in the shape of SandboxFusion; for executor.judge=http


@dataclass(frozen=True)
class LoraConfig:
    rank: From0 = 0  # above 0: the weights stay, and low-rank corrections beside them are trained
    targets: Annotated[Texts, some_of(*MATRICES)] = MATRICES  # which weights get corrections


@dataclass(frozen=True)
class LearnerConfig:
    lr: Annotated[float, number(0, 1)] = 1e-6  # the learning rate
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # the latter two fall to 0 at the last iteration
    warmup: From0 = 0  # iterations of linear warm-up
    # adamw_bf16: smaller first moment; adamw_factored: smaller second too
    optimizer: Literal["adamw", "adamw_bf16", "adamw_factored"] = "adamw"
    b1: Decay = 0.9  # how much of the first moment stays from step to step
    b2: Decay = 0.999  # and of the second; adamw_factored has a schedule of its own for it
    eps: Annotated[float, number(0, 1, above=True)] = 1e-8  # added to the root of the second moment
    weight_decay: Annotated[float, number(0, 10)] = 0.01  # of matrices; norms and biases do not decay
    grad_clip: Above0 = 1.0  # global norm
    # trr: one baseline per role and kind
    advantage: Literal["trr", "reinforce_pp", "grpo", "rloo", "rae"] = "trr"
    rae_decay: Decay = 0.95  # how much of rae's moving baseline, of each role and kind, stays from step to step
    # what the baseline's mean and deviation average over
    weighting: Annotated[Literal["sequence", "token"], Reference("token")] = "sequence"
    # gspo (mean over sequences) | dr_grpo (constant length, no deviation)
    policy_loss: Literal["ppo", "gspo", "cispo", "dr_grpo"] = "ppo"
    loss: Literal["token_mean", "sequence_mean"] = "token_mean"  # gspo and dr_grpo bring their own
    # of the loss, by role or role and kind, as `propose=0.5,solve/induction=2`; else 1
    weights: Annotated[Texts, assigned(*loss_weights.NAMES, low=0, known=loss_weights.is_name)] = ()
    # error (what was cut counts as the format says) | mask (no loss, not in the baseline)
    overlong: Literal["error", "mask"] = "error"
    entropy: Annotated[float, number(-1, 1), Reference(0.0)] = 0.001  # weight of the entropy bonus
    # PPO clip; has no effect while there is one step per iteration and old_logprobs are the learner's
    clip_low: Annotated[float, number(0, 1, above=True)] = 0.2
    clip_high: Annotated[Above0, Reference(0.28)] = 0.2  # PPO clip, upper side
    # above 1: bounds the ratio where the advantage is negative; 0: off
    clip_dual: Annotated[float, number(0), Reference(3.0)] = 0.0
    # weight of the divergence from model.name as it was; above 0 its weights are held too
    kl: Annotated[float, number(0)] = 0.0
    kl_in: Literal["loss", "reward"] = "loss"  # a penalty with a gradient, or taken off the advantage of every token
    # azr_jax/learner/terms.py; auto: k3 in the loss, k1 in the reward
    kl_estimator: Literal["auto", "k1", "k2", "k3"] = "auto"
    kl_roles: Annotated[Texts, some_of("propose", "solve")] = ("propose", "solve")  # whose completions it counts for
    epochs: From1 = 1  # passes over an iteration's completions
    minibatches: From1 = 1  # optimizer steps per pass, each on its share of every role and kind
    # p_old, which PPO's ratio divides by: the learner's, before the first step on the batch (weights make up for the
    # sampler's: decoupled), or the sampler's own, whose ratio and clip take in how old a token is
    old_logprobs: Literal["learner", "sampler"] = "learner"
    # sampler/learner importance weights; where tokens may be stale (pipeline) and nothing is said: token
    importance: Annotated[Literal["none", "token", "sequence"], Overlapped("token")] = "none"
    # truncate (at the cap) | mask (0 outside low and cap) | two_sided (at both)
    importance_mode: Literal["truncate", "mask", "two_sided"] = "truncate"
    importance_low: Share = 0.5  # lower bound of mask and two_sided
    importance_cap: Annotated[float, number(1)] = 2.0  # upper bound
    importance_length_norm: bool = False  # True: a sequence's weight is its tokens' geometric mean, not product
    row_tokens: From0 = 0  # tokens of a packed row; 0: the longest prompt plus the longest completion
    # rows may be shorter by so many-ths, for less padding; each length met is compiled once
    row_lengths: Annotated[int, integer(1, 64)] = 32
    share_prompts: bool = False  # True: what prompts of a row begin alike with is read once; attention by xla
    microbatch: From0 = 0  # packed rows per gradient step of the accumulation, all devices; 0: one per device
    chunk: From0 = 0  # completion tokens whose logits are held at a time; 0: as many as make 512 MiB
    # weights that are not trained: embed, unembed, final_norm, layers, layers.q, ...
    freeze: Annotated[Texts, some_of(*FREEZABLE, empty=True)] = ()
    lora: LoraConfig = LoraConfig()
    max_bad_steps: From1 = 3  # updates skipped in a row for a gradient that is not finite, before it stops


@dataclass(frozen=True)
class PipelineConfig:
    # synchronous | overlapped (proposals of iterations to come fill slots that fall free while one drains)
    mode: Literal["synchronous", "overlapped"] = "synchronous"
    staleness: From0 = 1  # overlapped: updates that a token may be older than the one that uses it; 0: as synchronous
    # overlapped: of what an update meets unfinished; recompute: dropped for its time, then read again; keep: needs room
    kv_cache: Literal["keep", "recompute"] = "recompute"
    # overlapped: share of a kind's proposals that are in before its solve batch is drawn; below 1 not in its turn only,
    # and of those that came first; 1: of all of them, in their turn
    solve_after: Annotated[float, number(0, 1, above=True)] = 1.0
    least_ess: Share = 0.0  # overlapped: nothing begins before its turn while the last update's ess is below; 0: off
    most_gap: Annotated[float, number(0)] = 0.0  # the same while the gap of its stale tokens, in nats, is above
    # overlapped: the schedule.jsonl of a run like this one; what was when drawn by which weights comes out the same
    follow: str = ""

    @property
    def ahead(self) -> int:
        """Iterations that may be begun before their turn."""
        return self.staleness if self.mode == "overlapped" else 0


@dataclass(frozen=True)
class MeshConfig:
    fsdp: Annotated[int, integer(-1)] = -1  # devices the weights are sharded over; -1: all that the others leave
    tensor: From1 = 1  # devices a layer is split over
    data: From0 = 0  # copies of the learner's weights, each over fsdp x tensor devices; 0: one for a slice or 32 chips
    rollout_tensor: From0 = 0  # the same while sampling, replicas over the rest; 0: by estimated time


@dataclass(frozen=True)
class CheckpointConfig:
    every: From1 = 10  # iterations between checkpoints; the last one is always saved
    keep: From1 = 2  # how many of the latest are kept
    keep_every: From0 = 0  # beside those, every one whose iteration this divides stays; 0: none
    # bfloat16: the optimizer's float32 arrays are rounded in the checkpoint, which is a third smaller, and nowhere else
    moments: Literal["same", "bfloat16"] = "same"


@dataclass(frozen=True)
class EvalConfig:
    every: From0 = 10  # iterations between two measurements on tasks the run never trains on; 0: never
    # which tasks; azr_jax/run/heldout_eval.py lists them
    suites: Annotated[Texts, some_of("nano", "cruxeval", empty=True)] = ("cruxeval",)
    data_dir: str = ""  # folder with the suites' files, laid down by hand; empty: they are fetched
    rows: From0 = 100  # tasks of each kind, the first of the suite; 0: all of it
    attempts: From1 = 4  # at each task, sampled as in training


@dataclass(frozen=True)
class HealthConfig:
    # of single alarms, as `entropy_collapse=0.1`; azr_jax/monitor/rules.py lists them
    thresholds: Annotated[Texts, assigned(*ALARM_NAMES)] = ()
    # alarms that end the run with a checkpoint, by name; `any` for all of them
    stop_on: Annotated[Texts, some_of("any", *ALARM_NAMES, empty=True)] = ()
    returns: From0 = 0  # times it goes back to its last good checkpoint after learner.max_bad_steps


@dataclass(frozen=True)
class MonitorConfig:
    # beside metrics.jsonl
    sinks: Annotated[Texts, some_of("tensorboard", "wandb", "trackio", empty=True)] = ("tensorboard",)
    report_every: From0 = 10  # iterations between two writings of report.html; 0: only at the end
    health: HealthConfig = HealthConfig()


@dataclass(frozen=True)
class ProfileConfig:
    # iterations of which a JAX profiler trace is written to profile/<iteration>, as 2,3
    steps: Annotated[tuple[int, ...], integers(1)] = ()


@dataclass(frozen=True)
class WatchdogConfig:
    """In seconds; when one passes, it says what is waited for (watchdog.txt)."""

    on_expiry: Literal["continue", "end"] = "continue"  # end: with exit code 86, for a supervisor to start it again
    seed_s: Above0 = 86400.0  # all of seeding
    play_s: Above0 = 14400.0  # all of an iteration's sampling and judging
    evaluate_s: Above0 = 14400.0  # a measurement on held-out tasks
    round_s: Above0 = 900.0  # rollout.decode_steps tokens of every slot, and the callbacks of what finished
    verdict_s: Above0 = 600.0  # the next verdict, while nothing is left to sample
    update_s: Above0 = 3600.0  # the optimizer step; the first one compiles
    weights_s: Above0 = 1800.0  # handing the new weights to the sampler; the first time compiles its programs
    save_s: Above0 = 1800.0  # a checkpoint
    report_s: Above0 = 600.0  # the last report
    process_s: Above0 = 60.0  # a process of the run is dead and nobody has noticed


@dataclass(frozen=True)
class Config:
    # everything random follows from it: weights of `random:` models, tasks drawn, tokens sampled
    seed: Annotated[int, integer(0, 2**31 - 1)] = 0
    iterations: From1 = 500  # propose -> validate -> estimate -> solve -> update, this many times
    batch_size: From1 = 64  # B: proposals, and solved tasks, per role and kind in one iteration
    preset: Literal["paper", "reference"] = "paper"  # fills every field that a recipe leaves None
    model: ModelConfig = ModelConfig()
    tasks: TasksConfig = TasksConfig()
    seeding: SeedingConfig = SeedingConfig()
    buffer: BufferConfig = BufferConfig()
    rewards: RewardsConfig = RewardsConfig()
    rollout: RolloutConfig = RolloutConfig()
    executor: ExecutorConfig = ExecutorConfig()
    learner: LearnerConfig = LearnerConfig()
    pipeline: PipelineConfig = PipelineConfig()
    mesh: MeshConfig = MeshConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    monitor: MonitorConfig = MonitorConfig()
    profile: ProfileConfig = ProfileConfig()
    watchdog: WatchdogConfig = WatchdogConfig()


RULES, PRESETS, OVERLAPPED = rules_of(Config)
