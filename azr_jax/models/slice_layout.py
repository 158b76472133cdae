"""Which chips hold what: chosen for a model and a slice, or checked where the config says.

Learner: `fsdp` over all chips, for nothing else keeps the optimizer as small; `tensor` only where asked for. Sampler:
as many chips per replica, and as many slots, as make an iteration's sampling shortest by the estimate of
sampling_time.py, of those whose weights leave a third of the memory to the cache. On a device whose speed is not known
it is the fewest chips that do, since every chip more in a layer waits for the others twice per layer and token.

Left out: rows split over chips (context parallel); the longest row of the recipes fits one chip.
"""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.models.int8 import weight_bytes
from azr_jax.models.sampling_time import Demand, sampling_seconds, typical_rows
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.chips import Chip

CACHE_SHARE = 1 / 3  # of a chip's memory, that the sampler's weights leave to the cache
SPARED = 1 / 16  # of a device's memory, that the cache leaves to what programs need while they run
SLOTS = (16, 32, 64, 128, 256)  # of a replica; where they are chosen
SLOTS_UNKNOWN = 64  # where nothing is known to choose by


class ImpossibleLayout(ValueError):
    """Sizes that the model or the slice does not divide by; the message lists those it does."""


@dataclass(frozen=True)
class Layout:
    """Learner: fsdp x tensor chips. Sampler: replicas x rollout_tensor chips, so many completions at once in each."""

    fsdp: int
    tensor: int
    replicas: int
    rollout_tensor: int
    slots: int

    def __str__(self) -> str:
        learner = f"learner {self.fsdp} fsdp" + (f" x {self.tensor} tensor" if self.tensor > 1 else "")
        return (
            f"{learner}, sampler {self.replicas} replicas x {self.rollout_tensor} tensor with {self.slots} slots each"
        )


def tensor_sizes(spec: ModelSpec, chips: int) -> list[int]:
    """Chips that a layer can be split over: each gets whole heads, key/value heads and an equal share of the rest."""
    return [
        n
        for n in range(1, chips + 1)
        if chips % n == 0 and all(size % n == 0 for size in (spec.heads, spec.kv_heads, spec.mlp, spec.vocab))
    ]


def fsdp_sizes(spec: ModelSpec, chips: int) -> list[int]:
    """Chips that the weights can be sharded over, by their width."""
    return [n for n in range(1, chips + 1) if chips % n == 0 and spec.width % n == 0]


def choose(
    spec: ModelSpec,
    chips: int,
    memory_bytes: float | None,
    *,
    chip: Chip | None = None,
    demand: Demand | None = None,
    fsdp: int = -1,
    tensor: int = 1,
    rollout_tensor: int = 0,
    slots: int = 0,
    state_bytes: float = 16.0,
) -> Layout:
    """The layout asked for, with what is left open (fsdp=-1, rollout_tensor=0, slots=0) filled in.

    `memory_bytes`: of one chip; None where it does not say, and the sampler then lies as the learner does.
    `chip` and `demand`: what the sampler's time is estimated from. `state_bytes`: of the learner per parameter, which
    lie on the chips while tokens are sampled.
    """
    tensors, fsdps = tensor_sizes(spec, chips), fsdp_sizes(spec, chips)
    _one_of("mesh.tensor", tensor, tensors, chips)
    fsdp = chips // tensor if fsdp == -1 else fsdp
    _one_of("mesh.fsdp", fsdp, [n for n in fsdps if chips // n in tensors], chips)
    if fsdp * tensor != chips:
        both = ", ".join(f"{n} x {chips // n}" for n in fsdps if chips // n in tensors)
        raise ImpossibleLayout(
            f"mesh.fsdp={fsdp} x mesh.tensor={tensor} is not the slice's {chips} chips: it should be one of {both}"
        )
    if rollout_tensor:
        _one_of("mesh.rollout_tensor", rollout_tensor, tensors, chips)
    elif memory_bytes is None:
        rollout_tensor = tensor
    sizes = [rollout_tensor] if rollout_tensor else tensors
    held = spec.parameters() * state_bytes / chips
    weights = weight_bytes(spec, 2, demand.matrix_bytes if demand else 2)
    if memory_bytes is not None and not rollout_tensor:
        roomy = [n for n in sizes if weights / n + held <= memory_bytes * (1 - CACHE_SHARE)]
        sizes = roomy or sizes[-1:]
    if chip is None or demand is None or memory_bytes is None:
        return Layout(fsdp, tensor, chips // sizes[0], sizes[0], slots or SLOTS_UNKNOWN)
    free = memory_bytes * (1 - SPARED) - held
    best = min(
        (sampling_seconds(spec, chip, demand, chips // n, n, s), n, s)
        for n in sizes
        for s in ([slots] if slots else _that_fit(spec, demand, free * n - weights))
    )
    _, rollout_tensor, slots = best
    return Layout(fsdp, tensor, chips // rollout_tensor, rollout_tensor, slots)


def _that_fit(spec: ModelSpec, demand: Demand, room: float) -> list[int]:
    """Slots whose completions fit a replica's cache at their typical lengths; one choice at the least."""
    return [n for n in SLOTS if n <= typical_rows(spec, demand, room)] or [SLOTS[0]]


def _one_of(field: str, value: int, good: list[int], chips: int) -> None:
    if value not in good:
        what = f"should be one of {', '.join(map(str, good))}" if good else "no size divides both"
        raise ImpossibleLayout(f"{field}={value} for this model on {chips} chips: {what}")
