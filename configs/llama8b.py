"""Llama-3.1-8B at the paper's settings.

    python -m azr_jax.main --config=configs/llama8b.py --workdir=/mnt/shared/llama8b

Paper: average 19.2 (base 16.0). Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "meta-llama/Llama-3.1-8B"
    return c
