"""A model of a million parameters that knows only a small world of programs: self-play on two CPU cores, no network.

    python -m azr_jax.main

Two cores and 2 GB of memory. The base stands in azr_jax/nano/base, made by `python -m azr_jax.nano.pretrain`; it has
learned the form of prompts and answers and a part of what the programs do, and a seventh of the last text it read was
wrong. Prompts ask for as many references and inputs as that base has seen.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.iterations = 60
    c.batch_size = 64
    c.model.name = "nano:base"
    c.model.dtype = "float32"
    c.model.remat = "none"
    c.tasks.prompt_style = "completion"
    c.tasks.references = 2
    c.tasks.estimate_attempts = 4  # what eight would cost goes into a larger batch
    c.tasks.copies = "constants"  # half of its programs are known ones with other constants
    c.tasks.induction_inputs = 6
    c.tasks.induction_shown = 3
    c.seeding.factor = 2
    c.rollout.max_prompt_tokens = 256
    c.rollout.max_new_tokens = 128
    c.rollout.slots = 64
    c.rollout.page_size = 32
    c.rollout.prefill_rows = 0  # a CPU pays for every row, filled or not
    c.rollout.decode_steps = 8
    c.rollout.stop_at_answer = True  # a closed block is an answer; nothing has to be learned after it
    c.executor.timeout_s = 2.0
    c.learner.lr = 5e-4
    c.learner.schedule = "linear"  # small batches: without it the last iterations wander
    c.learner.loss = "sequence_mean"  # an answer is a few tokens, a program many
    c.learner.row_lengths = 1  # compiling takes longer than padding
    c.checkpoint.every = 50
    c.eval.every = 10
    c.eval.suites = ("nano",)
    c.eval.rows = 200  # all of them
    c.monitor.sinks = ()
    return c
