"""Which chips hold what: chosen for a model and a slice, or checked where the config says.

Learner: `fsdp` over all chips, for nothing else keeps the optimizer as small; on 64 and more in copies of the weights
(`data`) over 32 chips or more each, where there is room, since what is exchanged for each token grows with the chips
that share a copy. A slice has a copy of its own. `tensor` only where asked for. Sampler:
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
COPY_CHIPS = 32  # that share a copy of the learner's weights, at least
COPY_SHARE = 1 / 5  # of a chip's memory, that a copy may take where there are several in a slice
SPARED = 1 / 16  # of a device's memory, that the cache leaves to what programs need while they run
SLOTS = (16, 32, 64, 128, 256)  # of a replica; where they are chosen
SLOTS_UNKNOWN = 64  # where nothing is known to choose by


class ImpossibleLayout(ValueError):
    """Sizes that the model or the slice does not divide by; the message lists those it does."""


@dataclass(frozen=True)
class Layout:
    """Learner: data x fsdp x tensor chips. Sampler: replicas x rollout_tensor, so many completions at once in each."""

    fsdp: int
    tensor: int
    replicas: int
    rollout_tensor: int
    slots: int
    data: int = 1

    def __str__(self) -> str:
        copies = f"{self.data} data x " if self.data > 1 else ""
        learner = f"learner {copies}{self.fsdp} fsdp" + (f" x {self.tensor} tensor" if self.tensor > 1 else "")
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
    slices: int = 1,
    data: int = 0,
    fsdp: int = -1,
    tensor: int = 1,
    rollout_tensor: int = 0,
    slots: int = 0,
    state_bytes: float = 16.0,
) -> Layout:
    """The layout asked for, with what is left open (data=0, fsdp=-1, rollout_tensor=0, slots=0) filled in.

    `memory_bytes`: of one chip; None where it does not say, and the sampler then lies as the learner does.
    `chip` and `demand`: what the sampler's time is estimated from. `state_bytes`: of the learner per parameter, which
    lie on the chips while tokens are sampled.
    """
    if not data:
        room = memory_bytes * COPY_SHARE if memory_bytes and chip and fsdp == -1 else 0.0
        data = slices * _copies(spec, chips // slices, tensor * max(rollout_tensor, 1), room / state_bytes)
    _one_of("mesh.data", data, [n for n in range(slices, chips + 1, slices) if chips % n == 0], f"{chips} chips")
    each = chips // data  # of a copy; a replica of the sampler lies inside one
    where = f"{each} chips" if data == 1 else f"{each} chips, for each of {data} copies (mesh.data)"
    tensors, fsdps = tensor_sizes(spec, each), fsdp_sizes(spec, each)
    _one_of("mesh.tensor", tensor, tensors, where)
    fsdp = each // tensor if fsdp == -1 else fsdp
    _one_of("mesh.fsdp", fsdp, [n for n in fsdps if each // n in tensors], where)
    if fsdp * tensor != each:
        both = ", ".join(f"{n} x {each // n}" for n in fsdps if each // n in tensors)
        whose = "the slice's" if data == 1 else "a copy's"
        raise ImpossibleLayout(
            f"mesh.fsdp={fsdp} x mesh.tensor={tensor} is not {whose} {each} chips: it should be one of {both}"
        )
    if rollout_tensor:
        _one_of("mesh.rollout_tensor", rollout_tensor, tensors, where)
    elif memory_bytes is None:
        rollout_tensor = tensor
    sizes = [rollout_tensor] if rollout_tensor else tensors
    held = spec.parameters() * state_bytes / each
    weights = weight_bytes(spec, 2, demand.matrix_bytes if demand else 2)
    if memory_bytes is not None and not rollout_tensor:
        roomy = [n for n in sizes if weights / n + held <= memory_bytes * (1 - CACHE_SHARE)]
        sizes = roomy or sizes[-1:]
    if chip is None or demand is None or memory_bytes is None:
        return Layout(fsdp, tensor, chips // sizes[0], sizes[0], slots or SLOTS_UNKNOWN, data)
    free = memory_bytes * (1 - SPARED) - held
    best = min(
        (sampling_seconds(spec, chip, demand, chips // n, n, s), n, s)
        for n in sizes
        for s in ([slots] if slots else _that_fit(spec, demand, free * n - weights))
    )
    _, rollout_tensor, slots = best
    return Layout(fsdp, tensor, chips // rollout_tensor, rollout_tensor, slots, data)


def _copies(spec: ModelSpec, chips: int, tensor: int, room: float) -> int:
    """Of the learner's weights in a slice, where a chip has room for so many parameters and what belongs to them."""
    parts = [n for n in range(2, chips // COPY_CHIPS + 1) if chips % n == 0 and chips // n % tensor == 0]
    fit = [n for n in parts if spec.parameters() * n / chips <= room and spec.width % (chips // n) == 0]
    return max(fit, default=1)


def _that_fit(spec: ModelSpec, demand: Demand, room: float) -> list[int]:
    """Slots whose completions fit a replica's cache at their typical lengths; one choice at the least."""
    return [n for n in SLOTS if n <= typical_rows(spec, demand, room)] or [SLOTS[0]]


def _one_of(field: str, value: int, good: list[int], where: str) -> None:
    if value not in good:
        what = f"should be one of {', '.join(map(str, good))}" if good else "no size divides both"
        raise ImpossibleLayout(f"{field}={value} for this model on {where}: {what}")
