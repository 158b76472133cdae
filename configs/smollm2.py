"""SmolLM2-135M-Instruct on a laptop's CPU: the whole loop with a real language model, no accelerator, no hub.

    python -m azr_jax.main --config=configs/smollm2.py

Two cores and 6 GB of memory. The model is far smaller than the paper's, so everything is: short prompts with the
references as earlier turns of a chat, short completions, temperature 0.7, four estimates.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.iterations = 30
    c.batch_size = 4
    c.model.name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    c.model.dtype = "float32"
    c.model.remat = "none"
    c.tasks.prompt_style = "chat"
    c.tasks.references = 2
    c.tasks.estimate_attempts = 4
    c.tasks.copies = "constants"  # it has few programs, and writes them again with other constants
    c.tasks.induction_inputs = 6
    c.tasks.induction_shown = 3
    c.seeding.factor = 2
    c.rollout.max_prompt_tokens = 512
    c.rollout.max_new_tokens = 128
    c.rollout.slots = 16
    c.rollout.page_size = 32
    c.rollout.prefill_rows = 0  # a CPU pays for every row, filled or not
    c.rollout.decode_steps = 16
    c.rollout.stop_at_answer = True  # a small model does not end by itself
    c.rollout.temperature = 0.7
    c.executor.timeout_s = 2.0
    c.learner.lr = 5e-6
    c.learner.row_lengths = 1  # compiling takes longer than padding
    c.checkpoint.every = 5
    c.eval.every = 0  # no hub: CRUXEval would be fetched
    return c
