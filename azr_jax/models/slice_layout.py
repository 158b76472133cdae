"""Which chips hold what: chosen for a model and a slice, or checked where the config says.

Learner: `fsdp` over all chips, for nothing else keeps the optimizer as small; `tensor` only where asked for. Sampler:
the fewest chips per replica whose share of the weights leaves a third of the memory to the cache, since every chip
more in a layer waits for the others twice per layer and token.

Left out: rows split over chips (context parallel); the longest row of the recipes fits one chip.
"""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.models.spec import ModelSpec

CACHE_SHARE = 1 / 3  # of a chip's memory, that the sampler's weights leave to the cache


class ImpossibleLayout(ValueError):
    """Sizes that the model or the slice does not divide by; the message lists those it does."""


@dataclass(frozen=True)
class Layout:
    """Learner: fsdp x tensor chips. Sampler: replicas x rollout_tensor chips."""

    fsdp: int
    tensor: int
    replicas: int
    rollout_tensor: int

    def __str__(self) -> str:
        learner = f"learner {self.fsdp} fsdp" + (f" x {self.tensor} tensor" if self.tensor > 1 else "")
        return f"{learner}, sampler {self.replicas} replicas x {self.rollout_tensor} tensor"


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
    fsdp: int = -1,
    tensor: int = 1,
    rollout_tensor: int = 0,
    state_bytes: float = 16.0,
) -> Layout:
    """The layout asked for, with what is left open (fsdp=-1, rollout_tensor=0) filled in.

    `memory_bytes`: of one chip; None where it does not say, and the sampler then lies as the learner does.
    `state_bytes`: of the learner per parameter, which lie on the chips while tokens are sampled.
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
    else:
        rollout_tensor = _for_sampling(spec, tensors, memory_bytes, spec.parameters() * state_bytes / chips)
    return Layout(fsdp, tensor, chips // rollout_tensor, rollout_tensor)


def _one_of(field: str, value: int, good: list[int], chips: int) -> None:
    if value not in good:
        what = f"should be one of {', '.join(map(str, good))}" if good else "no size divides both"
        raise ImpossibleLayout(f"{field}={value} for this model on {chips} chips: {what}")


def _for_sampling(spec: ModelSpec, tensors: list[int], memory: float, state: float) -> int:
    for n in tensors:
        if 2 * spec.parameters() / n + state <= memory * (1 - CACHE_SHARE):
            return n
    return tensors[-1]
