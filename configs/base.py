"""The settings of the Absolute Zero paper: every field, its value, and one line of meaning.

Recipes beside this file state only what differs. Any field can be changed on the command line:

    python -m azr_jax.main --config=configs/qwen7b.py --config.learner.lr=5e-7 --config.tasks.kinds=deduction,abduction

A field that is None takes its value from the preset: `paper` is what the paper says, `reference` is what its public
code does (azr_jax/config/presets.py lists both). What values are allowed stands in azr_jax/config/schema.py too.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # everything random follows from it: weights of `random:` models, tasks drawn, tokens sampled
    c.iterations = 500  # propose -> validate -> estimate -> solve -> update, this many times
    c.batch_size = 64  # B: proposals, and solved tasks, per role and kind in one iteration
    c.preset = "paper"  # paper | reference: fills every field that is None

    c.model = ConfigDict()
    c.model.name = "Qwen/Qwen2.5-7B"  # a folder, a Hugging Face name, `nano:base` (comes along), `random:tiny` (tests)
    c.model.cache_dir = ""  # where converted models are kept; empty: the user's cache directory
    c.model.spell_out = ()  # added tokens the model never learned, as <think>,</think>: spelled out, never sampled
    c.model.dtype = "bfloat16"  # compute type; master weights and optimizer state are float32 whatever it is
    c.model.matmul_dtype = "same"  # same | bfloat16: what weights and what they multiply are rounded to; sums are not
    c.model.remat = "full"  # none | dots | full: what the backward pass computes again instead of keeping
    c.model.attention = "auto"  # auto | xla | cudnn | splash: the learner's attention

    c.tasks = ConfigDict()
    c.tasks.kinds = ("deduction", "abduction", "induction")  # also error, and your own as module:Class
    c.tasks.references = 6  # K: tasks of the buffer shown to the proposer; 0 is an ablation
    c.tasks.estimate_attempts = 8  # n: attempts that measure how hard a new task is
    c.tasks.train_proposer = True  # False: only the solver learns (ablation)
    c.tasks.train_on_estimates = False  # True: the attempts that measured difficulty train the solver too
    c.tasks.prompt_style = "think"  # think (paper) | think_chat, chat (the model's template) | completion (small bases)
    c.tasks.examples = "one"  # worked ones in chat and completion: one | several | matching (arguments) | none
    c.tasks.format = "strict"  # strict (ended, whole, closed, nothing more) | lenient (whatever is found, cut or not)
    c.tasks.induction_inputs = 10  # inputs asked for in an induction proposal; more are refused
    c.tasks.induction_fewest = 0  # how many, valid and different, make it a task; 0: every one of those asked for
    c.tasks.induction_shown = 5  # input/output pairs the solver sees; the others judge its program
    c.tasks.induction_pairs = None  # inducible (what is hidden follows from what is shown) | as_given (the first)
    c.tasks.induction_message = "question"  # question (or an instruction: paper) | hint: what think's proposers write
    c.tasks.message_leak = None  # a message with so much (0 to 1) of its program's code in it is refused; 0: none is
    c.tasks.deduction_answer = None  # literal (written out, made by constructors) | operators (5 * 10) | any (computed)
    c.tasks.abduction_answer = None  # the same of an input that is found: any may search for it
    c.tasks.copies = None  # of a kept task: exact | constants (may differ, same input) | skeletons (and other inputs)
    c.tasks.induction_reward = "binary"  # binary (all hidden pairs) | fraction (share of hidden pairs)
    c.tasks.strip_comments = False  # True: new tasks lose comments and docstrings (ablation)
    c.tasks.strip_globals = False  # True: new tasks lose top-level statements but imports and definitions (ablation)
    c.tasks.composite_probability = 0.0  # p: chance that a proposal must call functions of the buffer (ablation)
    c.tasks.composite_most = 3  # c: from 1 to this many of them
    c.tasks.novelty_gate = 0.0  # a task nearer than this (history.py, 0 to 1) to any ever kept is refused; 0: off

    c.seeding = ConfigDict()
    c.seeding.factor = 4  # S: every buffer is filled to S x batch_size before training
    c.seeding.max_rounds = 60  # rounds, each filling every slot of the sampler, before seeding gives up and says why
    c.seeding.strip = True  # the model's seed programs lose comments, docstrings and globals (paper)
    c.seeding.import_from = ""  # a file in the public seed-buffer format to start from, re-validated row by row

    c.buffer = ConfigDict()
    c.buffer.capacity = 16384  # tasks kept per kind
    c.buffer.evict = None  # oldest_first | keep_oldest: who goes when a buffer is full; seeds never go
    c.buffer.valid_program_filter = "all"  # all | non_one (not all attempts right) | non_extremes (nor all wrong): kept
    c.buffer.reference_sampling = "uniform"  # uniform | recent | learnability (solve rates near one half)
    c.buffer.solve_sampling = "max_new"  # max_new (this iteration's first) | half_new | uniform | frontier | mistakes
    c.buffer.frontier_low = 0.2  # `frontier` solves the newest tasks whose measured solve rate is from here
    c.buffer.frontier_high = 0.8  # to here, both included

    c.rewards = ConfigDict()
    c.rewards.learnability = "paper"  # paper: 1 - r, 0 at r = 0 and 1 | peak: [4 r (1 - r)]^k
    c.rewards.peak_power = 1.0  # k of `peak`
    c.rewards.peak_at = 0.5  # the solve rate at which `peak` is 1
    c.rewards.zero_learnability = None  # reward of a valid proposal whose learnability is 0
    c.rewards.duplicate = None  # of a copy of a task kept before, or earlier in its batch; full: as if it were new
    c.rewards.invalid = None  # a well-formed proposal that is refused
    c.rewards.wrong = -0.5  # a well-formed answer that is wrong
    c.rewards.format_error = -1.0  # a completion without the blocks asked for
    c.rewards.intrinsic = ConfigDict()  # weights of terms from 0 to 1, earned beside learnability above 0
    c.rewards.intrinsic.complexity = 0.0  # branches of the program, one half at 3
    c.rewards.intrinsic.halstead = 0.0  # Halstead volume of the program, one half at 200
    c.rewards.intrinsic.ast_distance = 0.0  # mean distance to the references it was proposed with
    c.rewards.intrinsic.answer_diversity = 0.0  # how rare its answer is among all kept so far
    c.rewards.intrinsic_cap = None  # the most that each weighted term may come to; 0: no bound
    c.rewards.combine = "add"  # add (r + sum) | add_product (r + product) | multiply (r x sum) | multiply_product
    c.rewards.memory = ConfigDict()  # weights of what a proposal loses, of what it earned, for being like all ever kept
    c.rewards.memory.nearest = 0.0  # likeness to the nearest task, 0 to 1
    c.rewards.memory.mean = 0.0  # likeness to all of them on average
    c.rewards.control = "none"  # none | shuffled (inside role and kind) | flipped: runs that must not learn

    c.rollout = ConfigDict()
    c.rollout.max_prompt_tokens = 6144  # prompts over it lose references, one by one
    c.rollout.max_new_tokens = 8096  # completions are cut here
    c.rollout.slots = 64  # completions a replica decodes side by side; 0: by estimated time, as mesh.rollout_tensor
    c.rollout.page_size = 64  # tokens per page of the key/value cache
    c.rollout.pages = 0  # of each replica's cache; 0: enough for every slot at its longest, or what memory leaves
    c.rollout.decode_steps = 32  # tokens decoded on the device between two looks of the host
    c.rollout.temperature = 1.0  # the learner scores at the same temperature
    c.rollout.top_k = 0  # 0: off
    c.rollout.top_p = 1.0  # 1: off
    c.rollout.min_p = 0.0  # 0: off
    c.rollout.propose_vocab_dropout = 0.0  # share of its words the proposer does without, drawn each iteration; 0: off
    c.rollout.stop_at_answer = False  # True: ends where the answer does; False: at end-of-text alone, which is trained
    c.rollout.repetition_stop = 0  # ends, as if cut, where the same phrase came so many times in a row; 0: never

    c.executor = ConfigDict()
    c.executor.timeout_s = 10.0  # wall-clock limit of one program
    c.executor.memory_mb = 512  # memory limit of one program
    c.executor.workers = 0  # programs run side by side; 0: one per core
    c.executor.allow_weak = False  # True: run even where the machine lacks the least isolation asked for
    c.executor.packages = ()  # installed packages that programs may import beside the standard library, as numpy
    c.executor.judge = "local"  # local (its own jailed processes) | http (a farm of sandboxes at executor.url)
    c.executor.url = ""  # http://<host>:<port> of a farm in the shape of SandboxFusion; for executor.judge=http

    c.learner = ConfigDict()
    c.learner.lr = 1e-6  # the learning rate
    c.learner.schedule = "constant"  # constant | linear | cosine: the latter two fall to 0 at the last iteration
    c.learner.warmup = 0  # iterations of linear warm-up
    c.learner.optimizer = "adamw"  # adamw | adamw_bf16 (smaller first moment) | adamw_factored (smaller second too)
    c.learner.b1 = 0.9  # how much of the first moment stays from step to step
    c.learner.b2 = 0.999  # and of the second; adamw_factored has a schedule of its own for it
    c.learner.eps = 1e-8  # added to the root of the second moment
    c.learner.weight_decay = 0.01  # of matrices; norms and biases do not decay
    c.learner.grad_clip = 1.0  # global norm
    c.learner.advantage = "trr"  # trr (one baseline per role and kind) | reinforce_pp | grpo | rloo | rae
    c.learner.rae_decay = 0.95  # how much of rae's moving baseline, of each role and kind, stays from step to step
    c.learner.weighting = None  # sequence | token: what the baseline's mean and deviation average over
    c.learner.policy_loss = "ppo"  # ppo | gspo (mean over sequences) | cispo | dr_grpo (constant length, no deviation)
    c.learner.loss = "token_mean"  # token_mean | sequence_mean; gspo and dr_grpo bring their own
    c.learner.weights = ()  # of the loss, by role or role and kind, as `propose=0.5,solve/induction=2`; else 1
    c.learner.overlong = "error"  # error (what was cut counts as the format says) | mask (no loss, not in the baseline)
    c.learner.entropy = None  # weight of the entropy bonus
    c.learner.clip_low = 0.2  # PPO clip; has no effect while there is one step per iteration
    c.learner.clip_high = None  # PPO clip, upper side
    c.learner.clip_dual = None  # above 1: bounds the ratio where the advantage is negative; 0: off
    c.learner.kl = 0.0  # weight of the divergence from model.name as it was; above 0 its weights are held too
    c.learner.kl_in = "loss"  # loss (a penalty with a gradient) | reward (taken off the advantage of every token)
    c.learner.kl_estimator = "auto"  # k1 | k2 | k3 (azr_jax/learner/terms.py); auto: k3 in the loss, k1 in the reward
    c.learner.kl_roles = ("propose", "solve")  # whose completions it counts for
    c.learner.epochs = 1  # passes over an iteration's completions
    c.learner.minibatches = 1  # optimizer steps per pass, each on its share of every role and kind
    c.learner.importance = "none"  # none | token | sequence: sampler/learner importance weights
    c.learner.importance_mode = "truncate"  # truncate (at the cap) | mask (0 outside low and cap) | two_sided (at both)
    c.learner.importance_low = 0.5  # lower bound of mask and two_sided
    c.learner.importance_cap = 2.0  # upper bound
    c.learner.importance_length_norm = False  # True: a sequence's weight is its tokens' geometric mean, not product
    c.learner.row_tokens = 0  # tokens of a packed row; 0: the longest prompt plus the longest completion
    c.learner.row_lengths = 32  # rows may be shorter by so many-ths, for less padding; each length met is compiled once
    c.learner.share_prompts = False  # True: what prompts of a row begin alike with is read once; attention by xla
    c.learner.microbatch = 0  # packed rows per gradient step of the accumulation, all devices; 0: one per device
    c.learner.chunk = 0  # completion tokens whose logits are held at a time; 0: as many as make 512 MiB
    c.learner.freeze = ()  # weights that are not trained: embed, unembed, final_norm, layers, layers.q, ...
    c.learner.lora = ConfigDict()
    c.learner.lora.rank = 0  # above 0: the weights stay, and low-rank corrections beside them are trained
    c.learner.lora.targets = ("q", "k", "v", "o", "gate", "up", "down")  # which weights get corrections
    c.learner.max_bad_steps = 3  # updates skipped in a row for a gradient that is not finite, before it stops

    c.mesh = ConfigDict()
    c.mesh.fsdp = -1  # devices the weights are sharded over; -1: all that `tensor` leaves
    c.mesh.tensor = 1  # devices a layer is split over
    c.mesh.rollout_tensor = 0  # the same while sampling, replicas over the rest; 0: by estimated time

    c.checkpoint = ConfigDict()
    c.checkpoint.every = 10  # iterations between checkpoints; the last one is always saved
    c.checkpoint.keep = 2  # how many of the latest are kept
    c.checkpoint.keep_every = 0  # beside those, every one whose iteration this divides stays; 0: none

    c.eval = ConfigDict()
    c.eval.every = 10  # iterations between two measurements on tasks the run never trains on; 0: never
    c.eval.suites = ("cruxeval",)  # which tasks; azr_jax/run/heldout_eval.py lists them
    c.eval.data_dir = ""  # folder with the suites' files, laid down by hand; empty: they are fetched
    c.eval.rows = 100  # tasks of each kind; 0: all of the suite
    c.eval.attempts = 4  # at each task, sampled as in training

    c.monitor = ConfigDict()
    c.monitor.sinks = ("tensorboard",)  # beside metrics.jsonl: tensorboard, wandb, trackio
    c.monitor.report_every = 10  # iterations between two writings of report.html; 0: only at the end
    c.monitor.health = ConfigDict()
    c.monitor.health.thresholds = ()  # of single alarms, as `entropy_collapse=0.1`; azr_jax/monitor/rules.py lists them
    c.monitor.health.stop_on = ()  # alarms that end the run with a checkpoint, by name; `any` for all of them
    c.monitor.health.returns = 0  # times it goes back to its last good checkpoint after learner.max_bad_steps

    c.profile = ConfigDict()
    c.profile.steps = ()  # iterations of which a JAX profiler trace is written to profile/<iteration>, as 2,3

    c.watchdog = ConfigDict()  # deadlines in seconds, after which it says what is waited for (watchdog.txt)
    c.watchdog.on_expiry = "continue"  # continue | end: with exit code 86, for a supervisor to start it again
    c.watchdog.seed_s = 86400.0  # all of seeding
    c.watchdog.play_s = 14400.0  # all of an iteration's sampling and judging
    c.watchdog.evaluate_s = 14400.0  # a measurement on held-out tasks
    c.watchdog.round_s = 900.0  # rollout.decode_steps tokens of every slot, and the callbacks of what finished
    c.watchdog.verdict_s = 600.0  # the next verdict, while nothing is left to sample
    c.watchdog.update_s = 3600.0  # the optimizer step; the first one compiles
    c.watchdog.weights_s = 1800.0  # handing the new weights to the sampler; the first time compiles its programs
    c.watchdog.save_s = 1800.0  # a checkpoint
    c.watchdog.report_s = 600.0  # the last report
    c.watchdog.process_s = 60.0  # a process of the run is dead and nobody has noticed
    return c
