"""A model of a few thousand weights and samples for it, for the tests beside this file."""

import numpy as np

from azr_jax.learner.packing import TrainingSample
from azr_jax.models.spec import ModelSpec

SPEC = ModelSpec("qwen2", 64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=True, max_positions=256)


def make_samples(count: int, *, seed: int = 0, longest: int = 24) -> list[TrainingSample]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        prompt, completion = random.integers(1, longest // 2), random.integers(1, longest // 2)
        made.append(
            TrainingSample(
                random.integers(0, SPEC.vocab, prompt).tolist(),
                random.integers(0, SPEC.vocab, completion).tolist(),
                (-4.2 + 0.1 * random.normal(size=completion)).tolist(),
                float(random.normal()),
            )
        )
    return made
