"""Qwen2.5-7B at the paper's settings: the base model of the paper's ablations.

    python -m azr_jax.main --config=configs/qwen7b.py --workdir=/mnt/shared/qwen7b

Paper: code 55.2, math 38.4, average 46.8 after 500 iterations (base 39.8). Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-7B"
    return c
