"""Qwen2.5-Coder-14B at the paper's settings.

    python -m azr_jax.main --config=configs/qwen14b_coder.py --workdir=/mnt/shared/qwen14b_coder

Paper: average 53.3 (base 40.1). Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-Coder-14B"
    return c
