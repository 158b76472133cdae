"""A config.json means to us what it means to transformers, field by field, or is refused by name."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from meanings import FAMILIES, GOLDEN, ask, configs

from azr_jax.models.spec import ModelSpec, UnsupportedModel, spec_from_config
from azr_jax.models.transformer import rope_tables

THEIRS = json.loads(GOLDEN.read_text())


def facts(spec: ModelSpec) -> dict:
    cos, sin = (table[0, 0, 0] for table in rope_tables(jnp.ones((1, 1), jnp.int32), spec))
    return {
        "q": [spec.heads * spec.head_dim, spec.width],
        "k": [spec.kv_heads * spec.head_dim, spec.width],
        "qkv_bias": spec.qkv_bias,
        "o_bias": False,
        "mlp_bias": False,
        "qk_norm": spec.qk_norm,
        "activation": "SiLUActivation",
        "eps": spec.norm_eps,
        "tied": spec.tied,
        "positions": spec.max_positions,
        "rotated": spec.head_dim,
        "cos": np.asarray(cos),
        "sin": np.asarray(sin),
        "dynamic": False,
        "without_rope": list(spec.without_rope),
        "windows": [None] * spec.depth,
    }


def differing(ours: dict, theirs: dict) -> list[str]:
    return [
        f"{name}: {ours[name]}, transformers has {theirs[name]}"
        for name in ours
        if not (
            np.allclose(ours[name], theirs[name], atol=2e-5) if name in ("cos", "sin") else ours[name] == theirs[name]
        )
    ]


@pytest.mark.parametrize("name", configs())
def test_a_config_means_what_transformers_makes_of_it(name):
    """Among what was otherwise: a scaling beside rope_parameters, a window without a size, layer_types of null, groups
    that are not said (32 for a Qwen), an original context above the scaling.
    """
    theirs = THEIRS[name]
    try:
        spec = spec_from_config(configs()[name])
    except UnsupportedModel as error:
        assert "=" in str(error) or "lacks" in str(error) or "missing" in str(error)
        return
    if "refused" in theirs:  # a null or a width that it stumbles over, and that leaves nothing open
        assert name.split(": ")[1] in ("null heads", "null groups", "width that heads do not divide")
        return
    assert not differing(facts(spec), theirs)


def test_most_of_what_is_right_is_taken():
    """What is refused is what cannot be computed, and little else."""
    refused = set()
    for name, config in configs().items():
        try:
            spec_from_config(config)
        except UnsupportedModel:
            refused.add(name.split(": ")[1])
    always = {name for name in refused if all(f"{family}: {name}" in configs() for family in FAMILIES)}
    assert always - {"no window said"} <= {
        "gelu", "biases", "biases of the mlp", "linear", "dynamic", "yarn", "yarn beside parameters",
        "half of the heads", "half, new place", "llama3, two originals", "scaling beside parameters of another theta",
        "scaling beside parameters", "window, no size", "window of 8", "window, no layers", "window, null layers",
        "window alone", "window not used", "all full, window", "window, above all", "one sliding",
        "width that heads do not divide", "no groups", "no rope, fewer than layers",
    }  # fmt: skip


@pytest.mark.slow
def test_transformers_still_says_so():
    pytest.importorskip("torch")
    for name, config in configs().items():
        now = ask(config)
        assert now.keys() == THEIRS[name].keys(), name
        assert not differing(now, THEIRS[name]), name
