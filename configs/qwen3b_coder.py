"""Qwen2.5-Coder-3B at the paper's settings.

    python -m azr_jax.main --config=configs/qwen3b_coder.py --workdir=/mnt/shared/qwen3b_coder

Paper: average 40.7 (base 35.0). Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-Coder-3B"
    return c
