"""Qwen2.5-Coder-1.5B-Instruct, as configs/qwen05b_coder.py.

    python -m azr_jax.main --config=configs/qwen15b_coder.py

Needs the Hugging Face hub or a folder of it. Not yet run on an accelerator by this project.
"""

from ml_collections import ConfigDict

from configs import qwen05b_coder


def get_config() -> ConfigDict:
    c = qwen05b_coder.get_config()
    c.model.name = "Qwen/Qwen2.5-Coder-1.5B-Instruct"
    return c
