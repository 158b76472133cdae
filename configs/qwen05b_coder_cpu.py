"""Qwen2.5-Coder-0.5B-Instruct on two CPU cores: a language model of the paper's family plays, no accelerator, no hub.

    python -m azr_jax.main --config=configs/qwen05b_coder_cpu.py

As configs/qwen05b_coder.py but for sizes: B = 8, four estimates, two references, short answers, temperature 0.8.
Trained are low-rank corrections of all matrices (LoRA): gradients and moments of all weights would take 6 GB more. The
solver learns from estimates too: their prompts are read anyway, and once for all four. Products are of bfloat16, which
this is worth doing for where a processor has them (avx512_bf16, amx_bf16 in /proc/cpuinfo); sums and all else are
float32. The learning rate is that of corrections, two hundred times that of weights. What it learned: docs/RESULTS.md.
"""

from ml_collections import ConfigDict

from configs import qwen05b_coder


def get_config() -> ConfigDict:
    c = qwen05b_coder.get_config()
    c.iterations = 100
    c.batch_size = 8
    c.model.dtype = "float32"  # all of it in bfloat16 is several times slower on a CPU
    c.model.matmul_dtype = "bfloat16"
    c.tasks.references = 2
    c.tasks.estimate_attempts = 4
    c.tasks.train_on_estimates = True
    c.tasks.induction_inputs = 6
    c.tasks.induction_shown = 2
    c.tasks.induction_fewest = 4  # of the six inputs
    c.seeding.factor = 2
    c.rollout.max_prompt_tokens = 768
    c.rollout.max_new_tokens = 160
    c.rollout.slots = 32
    c.rollout.page_size = 32
    c.rollout.prefill_rows = 0  # a CPU pays for every row, filled or not
    c.rollout.decode_steps = 16
    c.rollout.draft_tokens = 7
    c.rollout.temperature = 0.8
    c.executor.timeout_s = 2.0
    c.learner.lora.rank = 32
    c.learner.lr = 2e-4
    c.learner.warmup = 3
    c.learner.share_prompts = True
    c.learner.row_tokens = 1024
    c.learner.chunk = 128
    c.learner.row_lengths = 1  # compiling takes longer than padding
    c.checkpoint.every = 5
    c.checkpoint.keep = 1
    c.eval.every = 0  # no hub: CRUXEval would be fetched
    return c
