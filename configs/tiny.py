"""Random weights of 100,000 parameters: the whole loop in seconds, for tests. It learns nothing.

    python -m azr_jax.main --config=configs/tiny.py --workdir=/tmp/tiny

A random model writes no valid program, so its buffers start from a seed file the test gives
(`--config.seeding.import_from=...`).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.iterations = 3
    c.batch_size = 2
    c.model.name = "random:tiny"
    c.model.dtype = "float32"
    c.model.remat = "none"
    c.tasks.prompt_style = "completion"
    c.tasks.references = 1
    c.tasks.estimate_attempts = 2
    c.tasks.induction_inputs = 6
    c.tasks.induction_shown = 3
    c.seeding.factor = 1
    c.rollout.max_prompt_tokens = 2048
    c.rollout.max_new_tokens = 16
    c.rollout.slots = 4
    c.rollout.page_size = 16
    c.rollout.prefill_rows = 0  # a CPU pays for every row, filled or not
    c.rollout.decode_steps = 8
    c.rollout.stop_at_answer = True  # a small model does not end by itself
    c.executor.timeout_s = 2.0
    c.learner.lr = 1e-3
    c.learner.row_lengths = 1  # compiling takes longer than padding
    c.checkpoint.every = 1
    c.eval.every = 0  # it learns nothing, and asks for no file
    c.monitor.sinks = ()
    c.monitor.report_every = 0
    return c
