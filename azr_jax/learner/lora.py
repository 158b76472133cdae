"""Which weights are trained: all, all but the frozen ones, or low-rank corrections beside frozen ones (LoRA).

`split` takes the model's parameters apart into what is trained and the base that is not; `join` puts them together for
the learner's forward, where a corrected weight is made layer by layer as it is used; `merged` makes ordinary weights,
for the rollout layout and for export. There is no `alpha`: with Adam it only scales the learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from azr_jax.models.corrected import Corrected, correction
from azr_jax.models.spec import OUTPUTS
from azr_jax.parallel.mesh import by_axis

Corrections = dict[str, dict[str, jax.Array]]  # target -> a [L, r, in...] and b [L, out..., r]
Live: TypeAlias = nnx.State | Corrections  # what is trained
Base: TypeAlias = nnx.State | None  # what is not
Path = tuple[Any, ...]  # of names, to a parameter


@dataclass(frozen=True)
class Trained:
    """The default trains everything."""

    rank: int = 0  # of the corrections; 0: the weights themselves are trained
    targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")  # with rank: the weights that are corrected
    seed: int = 0  # of the corrections' random half
    freeze: tuple[str, ...] = ()  # without rank: parameters whose path starts so are not trained ("embed", "layers.q")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.targets) - OUTPUTS.keys())
        if self.rank < 0 or unknown or (self.rank and not self.targets):
            raise ValueError(
                f"lora rank={self.rank}, targets={self.targets}: the rank should be from 0 up, the targets at least "
                f"one of {', '.join(OUTPUTS)}"
            )
        if self.rank and self.freeze:
            raise ValueError(f"freeze={self.freeze}: with a lora rank of {self.rank} every weight is frozen already")

    def trains(self, name: str) -> bool:
        """Whether the parameter of this path is itself trained."""
        return not self.rank and not (self.freeze and name.startswith(self.freeze))


def split(params: nnx.State, trained: Trained) -> tuple[Live, Base]:
    """(what is trained, the rest or None)."""
    if trained.rank:
        return _corrections(params, trained), params
    if not trained.freeze:
        return params, None
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    for prefix in trained.freeze:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"freeze={prefix!r}: no parameter starts so; there are {', '.join(sorted(names))}")

    def frozen(path: Path, _: object) -> bool:
        return not trained.trains(".".join(map(str, path)))

    base, live = nnx.split_state(params, frozen, ...)
    if not jax.tree.leaves(live):
        raise ValueError(f"freeze={trained.freeze}: nothing is left to train")
    return live, base


def join(live: Live, base: Base) -> nnx.State:
    """Parameters for the forward pass; gradients reach what is in `live` and nothing else."""
    if isinstance(live, nnx.State):
        return live if base is None else nnx.merge_state(live, base)
    assert base is not None

    def correct(path: Path, leaf: nnx.Variable) -> nnx.Variable:
        pair = live.get(path[-1]) if path[0] == "layers" else None
        return leaf if pair is None else leaf.replace(Corrected(leaf[...], pair["a"], pair["b"]))

    return nnx.map_state(correct, base)


def merged(live: Live, base: Base) -> nnx.State:
    """Ordinary parameters: those of the base with the corrections added. Without corrections, nothing is copied."""
    if isinstance(live, nnx.State):
        return join(live, base)
    assert base is not None

    def merge(path: Path, leaf: nnx.Variable) -> nnx.Variable:
        pair = live.get(path[-1]) if path[0] == "layers" else None
        if pair is None:
            return leaf
        w = leaf[...]
        return leaf.replace(w + correction(pair["a"], pair["b"], w).astype(w.dtype))

    return nnx.map_state(merge, base)


def _corrections(params: nnx.State, trained: Trained) -> Corrections:
    """A is random and b is zero, so that training starts from the model as it is. Laid out like their weight."""
    pairs, weights = Corrections(), dict(nnx.to_flat_state(params))
    for number, name in enumerate(sorted(trained.targets)):
        w = weights["layers", name][...]
        outs = 1 + OUTPUTS[name]
        spec, mesh = by_axis(jax.typeof(w).sharding, w.ndim), jax.typeof(w).sharding.mesh
        a_shape, b_shape = (w.shape[0], trained.rank, *w.shape[outs:]), (*w.shape[:outs], trained.rank)
        a = jax.random.normal(jax.random.fold_in(jax.random.key(trained.seed), number), a_shape) / math.sqrt(
            math.prod(w.shape[outs:])
        )
        b = jnp.zeros(b_shape)
        if not mesh.empty:
            a, b = jax.reshard(a, P(None, None, *spec[outs:])), jax.reshard(b, P(*spec[:outs], None))
        pairs[name] = {"a": a, "b": b}
    return pairs
