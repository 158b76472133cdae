"""Qwen2.5-14B at the paper's settings.

    python -m azr_jax.main --config=configs/qwen14b.py --workdir=/mnt/shared/qwen14b

Paper: average of code and math in its table 1; HumanEval+ falls under AZR. Not yet run on a pod by this project.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    c = base.get_config()
    c.model.name = "Qwen/Qwen2.5-14B"
    return c
