"""Qwen3-4B-Base at the paper's settings; a model the paper does not have.

    python -m azr_jax.main --config=configs/qwen3_4b.py --workdir=/mnt/shared/qwen3_4b

Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen3-4B-Base"
    return c
