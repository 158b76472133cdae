"""How near the Transformer comes to transformers: every family, and odd configurations of each.

    python benchmarks/parity.py [--seeds=2]

Needs torch and transformers. Random float32 weights of small models, 40 tokens; the figure is the largest difference of
logits over the largest logit. Configurations: those of tests/models/make_golden.py, and all of tests/models/meanings.py
(each family with fields absent, null, odd or in an older place). What we refuse is counted and named, what transformers
itself refuses is left out. `0 wrong` means that no figure is above 1e-4.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "models"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import torch
from flax import nnx
from make_golden import build, cases, logits_of, tokens_of
from meanings import configs, gemma_configs
from tiny_models import logits

from azr_jax.models import hf
from azr_jax.models.fields import UnsupportedModel
from azr_jax.models.spec import spec_from_config

WRONG = 1e-4


@functools.partial(jax.jit, static_argnums=0)
def ours(graph: Any, params: Any, tokens: jax.Array) -> jax.Array:
    return logits(nnx.merge(graph, params), tokens)


def figure(model: Any, seed: int, config: dict[str, Any] | None = None) -> float:
    """Of one transformers model, which we read from the folder it writes, or from `config` as it was given."""
    tokens, expected = tokens_of(seed), logits_of(model, tokens_of(seed))
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        if config is not None:
            (Path(place) / "config.json").write_text(json.dumps(config))
        found = np.asarray(ours(*nnx.split(hf.load(Path(place))), tokens))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def odd(config: dict[str, Any]) -> tuple[str, float]:
    """`refused` and 0, `theirs` where transformers refuses, or `taken` and the figure."""
    try:
        spec_from_config(config)
    except UnsupportedModel:
        return "refused", 0.0
    try:
        model = build(config, seed=7, sizes={})
    except Exception:  # whatever an odd config runs into there
        return "theirs", 0.0
    return "taken", figure(model, 7, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(7, 7 + parser.parse_args().seeds)
    torch.set_num_threads(1)
    worst: dict[str, float] = {}
    for name, case in cases().items():
        worst[name] = max(figure(build(case, seed), seed) for seed in seeds)
        print(f"{name:26} {worst[name]:.1e}", flush=True)
    found, refused = collections.defaultdict(collections.Counter), collections.defaultdict(list)
    for name, config in (configs() | gemma_configs()).items():
        family, what = name.split(": ")
        outcome, value = odd(config)
        found[family][outcome] += 1
        if outcome == "taken":
            worst[name] = value
        elif outcome == "refused":
            refused[what].append(family)
    for family, counts in found.items():
        largest = max(value for name, value in worst.items() if name.startswith(f"{family}: "))
        print(f"{family:12} odd: {counts['taken']:3} taken, largest {largest:.1e}; {counts['refused']:3} refused")
    for what, families in refused.items():
        print(f"refused: {what} ({'all' if len(families) == len(found) else ', '.join(families)})")
    wrong = [name for name, value in worst.items() if not value <= WRONG]
    print(f"{len(worst)} compared, {len(wrong)} wrong{': ' if wrong else ''}{', '.join(wrong)}")
    taken, no = (sum(counts[outcome] for counts in found.values()) for outcome in ("taken", "refused"))
    print(json.dumps({"largest": max(worst.values()), "taken": taken, "refused": no, "wrong": wrong}))


if __name__ == "__main__":
    main()
