"""How long the sampler takes for an iteration on chips of a kind, by arithmetic: what layouts are chosen by.

A step reads the weights and the cache once, its chips meet twice a layer, and what published steps take beyond that is
a part per step and a part per row (benchmarks/pod_costs.py has the figures and the fit). An iteration takes as many
steps as a chain of two completions at their limit, a proposal and an attempt at it; or, where there are few slots, as
all of them need for the work that they share, and one completion at its limit after it.

Left out: reading prompts, which costs a slice the same however it is cut, and the host. benchmarks/pod_model.py plays
an iteration event by event; this has to agree with it on which layout is best, not on seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.chips import Chip

MEMORY_SHARE = 0.7  # of peak bandwidth, while decoding
EXCHANGE_S = 10e-6  # until all chips of a replica have met, twice a layer
STEP_S, ROW_S = 0.65e-3, 57e-6  # of a step, and of each row in it, beyond bytes and exchanges
TYPICAL = 1 / 6  # of the limit: how long a completion is. Lengths are not known before a run


@dataclass(frozen=True)
class Demand:
    """What an iteration asks of the sampler, in completions, and their limits in tokens."""

    completions: int
    at_once: int  # that may be drawn side by side
    prompt: int
    longest: int
    matrix_bytes: int = 2  # of a number in the layers' matrices, as the sampler has them
    cache_bytes: int = 2  # of a number in its cache

    @property
    def typical(self) -> float:
        return TYPICAL * self.longest

    @property
    def context(self) -> float:
        """Of a row, half way through a typical completion."""
        return TYPICAL * self.prompt + self.typical / 2


def token_bytes(spec: ModelSpec, number_bytes: int = 2) -> int:
    """Of the cache, all heads. Numbers of one byte have a scale for each key and each value, a float32."""
    of_scale = 4 if number_bytes == 1 else 0
    return 2 * spec.depth * spec.kv_heads * (number_bytes * spec.head_dim + of_scale)


def step_seconds(
    spec: ModelSpec,
    chip: Chip,
    tensor: int,
    rows: float,
    context: float,
    *,
    matrix_bytes: int = 2,
    cache_bytes: int = 2,
    memory_share: float = MEMORY_SHARE,
    exchange_s: float = EXCHANGE_S,
    step_s: float = STEP_S,
    row_s: float = ROW_S,
) -> float:
    """Of a replica over `tensor` chips with so many rows, and so many tokens of context in all of them."""
    weights = matrix_bytes * spec.layer_matrices + 2 * spec.vocab * spec.width
    read = (weights + context * token_bytes(spec, cache_bytes)) / tensor
    met = 2 * spec.depth * exchange_s * (tensor > 1)
    return read / (chip.memory_bytes_s * memory_share) + met + step_s + rows * row_s


def sampling_seconds(spec: ModelSpec, chip: Chip, demand: Demand, replicas: int, tensor: int, slots: int) -> float:
    rows = min(slots, demand.at_once / replicas)  # at the most
    work = demand.completions * demand.typical / replicas
    steps = max(2 * demand.longest, work / rows + demand.longest)
    rows = work / steps  # on average
    sizes = {"matrix_bytes": demand.matrix_bytes, "cache_bytes": demand.cache_bytes}
    return steps * step_seconds(spec, chip, tensor, rows, rows * demand.context, **sizes)


def typical_rows(spec: ModelSpec, demand: Demand, room: float) -> int:
    """That fit a replica's cache, if all are of typical length and as many again are longer."""
    return int(room / 2 / (token_bytes(spec, demand.cache_bytes) * (TYPICAL * demand.prompt + demand.typical)))
