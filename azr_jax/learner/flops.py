"""How much arithmetic a step needs, by the model's formula, and how much the devices could do.

Model FLOPs count each product of weights once forward and twice backward, attention causally inside each sample, and
the unembedding for completion tokens only: recomputation and padding are not counted, so the share of the peak they
give is the useful one.
"""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.learner.packing import TrainingSample
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.chips import Device, chip_of


def step_flops(spec: ModelSpec, samples: Sequence[TrainingSample]) -> float:
    """Of one forward and backward pass over the samples."""
    table = spec.vocab * spec.width
    body = spec.parameters() - table * (1 if spec.tied else 2)
    read = sum(sample.inputs for sample in samples)
    trained = sum(len(sample.completion) for sample in samples)
    # Scores and weighted sums: 2 products of 2 FLOPs per pair of tokens, half the pairs, forward and twice backward.
    pairs = sum(sample.inputs**2 for sample in samples) / 2
    return 6.0 * (body * read + table * trained) + 12.0 * spec.depth * spec.heads * spec.head_dim * pairs


def peak_flops(device: Device) -> float | None:
    """Of one device, or None where it is not in the table (CPUs, unknown kinds)."""
    chip = chip_of(device)
    return chip.flops if chip else None


def throughput(
    spec: ModelSpec, samples: Sequence[TrainingSample], epochs: int, seconds: float, devices: Sequence[Device]
) -> dict[str, float]:
    """Of an update: tokens and model FLOPs of each device and second, and the share of the peak where that is known."""
    spent = (seconds or float("inf")) * len(devices)
    flops_s = epochs * step_flops(spec, samples) / spent
    found = {
        "learner/tokens_per_s_per_device": epochs * sum(sample.inputs for sample in samples) / spent,
        "learner/model_tflops_per_s_per_device": flops_s / 1e12,
    }
    peak = peak_flops(devices[0])
    return found | ({"learner/mfu": flops_s / peak} if peak else {})
