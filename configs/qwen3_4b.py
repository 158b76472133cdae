"""Qwen3-4B-Base at the paper's settings; a model the paper does not have.

    python -m azr_jax.main --config=configs/qwen3_4b.py --workdir=/mnt/shared/qwen3_4b

Its tokenizer knows <think> and </think> as tokens of their own, for the chat models of the family; the base never saw
them and writes nonsense behind them. So they are spelled out (azr_jax/models/spelling.py): prompts hold `<`, `think`,
`>`, and the two tokens are never sampled. Weights and tokenizer are exported as they are; `evaluate` reads from the
export that they are spelled out, and other software is given `spell_out(tokenizer, ["<think>", "</think>"])`.

Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen3-4B-Base"
    c.model.spell_out = ("<think>", "</think>")
    return c
