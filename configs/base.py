"""The settings of the Absolute Zero paper. Each field, its value, what it may be and one line of meaning: schema.py.

Recipes beside this file state only what differs. Any field can be changed on the command line:

    python -m azr_jax.main --config=configs/qwen7b.py --config.learner.lr=5e-7 --config.tasks.kinds=deduction,abduction

A field that is None takes its value from the preset: `paper` is what the paper says, `reference` is what its public
code does. All of it is written in azr_jax/config/schema.py, once.
"""

from ml_collections import ConfigDict

from azr_jax.config.flags import as_config_dict
from azr_jax.config.schema import Config


def get_config() -> ConfigDict:
    return as_config_dict(Config())
