"""Qwen2.5-Coder-7B at the paper's settings: the paper's best 7B run.

    python -m azr_jax.main --config=configs/qwen7b_coder.py --workdir=/mnt/shared/qwen7b_coder

Paper: code 61.6, math 39.1, average 50.4 (base 40.2). Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-Coder-7B"
    return c
