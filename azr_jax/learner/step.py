"""The train step: one jitted function from (state, batch) to (state, metrics), with the old state's memory reused.

Gradients are summed in float32 over microbatches by one scan, and every mean divides by the tokens (or sequences) of
the whole step, so that the split into microbatches, rows and devices does not change the result. A gradient that is
not finite changes nothing but the counters; `guard.py` stops the run after several in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.learner import measures
from azr_jax.learner.objective import policy_loss, token_logprobs_and_entropy
from azr_jax.learner.optimizer import OptimizerSettings, make_optimizer
from azr_jax.learner.packing import Batch
from azr_jax.learner.terms import Objective, Tokens
from azr_jax.models.attention import segment_attention

LOSSES = ("token_mean", "sequence_mean")


@dataclass(frozen=True)
class LearnerSettings:
    objective: Objective = field(default_factory=Objective)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: str = "token_mean"  # token_mean: every token counts the same | sequence_mean: every completion does
    grad_clip: float = 1.0  # global norm
    temperature: float = 1.0  # of the sampling: log-probabilities are taken of the same distribution
    dtype: str = "float32"  # compute type
    remat: str = "none"
    attention: str = "auto"
    chunk: int = 0  # completion tokens whose logits are held at a time; 0: as many as make 512 MiB
    max_bad_steps: int = 3  # steps in a row without a finite gradient, before the run stops

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r}: should be one of {', '.join(LOSSES)}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    params: Any  # what is trained, float32
    optimizer: Any
    step: jax.Array  # optimizer steps taken
    bad_in_row: jax.Array  # steps skipped since the last one taken
    bad_steps: jax.Array  # steps skipped in all


Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
Score = Callable[[Any, Batch], jax.Array]


def init_state(params: Any, settings: LearnerSettings) -> TrainState:
    optimizer = jax.jit(make_optimizer(settings.optimizer).init)(params)
    zero = lambda: jnp.zeros((), jnp.int32)  # noqa: E731 - each its own buffer, or donation would meet it thrice
    return TrainState(params, optimizer, zero(), zero(), zero())


def make_step(graphdef: Any, settings: LearnerSettings) -> Step:
    """`step(state, batch) -> (state, metrics)`; `state` is consumed. Call under the mesh the parameters live on."""
    optimizer = make_optimizer(settings.optimizer)
    forward = _make_forward(graphdef, settings)

    def loss_of(params: Any, batch: Batch, weights_RxT: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        hidden_RxTxD, w_VxD = forward(params, batch)
        return policy_loss(
            settings.objective, settings.temperature, settings.chunk, hidden_RxTxD, w_VxD, _tokens(batch, weights_RxT)
        )

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        weights_MxRxT = token_weights(settings.loss, batch.lengths)

        def compute(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, Any]:
            (loss, aux), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params, *part)
            return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, (loss, gradient)), aux

        def skip(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, Any]:
            shapes = jax.eval_shape(lambda: compute(total, part)[1])
            return total, jax.tree.map(lambda s: jnp.zeros_like(part[1], s.dtype), shapes)

        zero = (jnp.float32(0.0), jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), state.params))
        (loss, gradient), aux = lax.scan(
            lambda total, part: lax.cond((part[1] > 0).any(), compute, skip, total, part),
            zero,
            (batch, weights_MxRxT),
        )
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(norm) & jnp.isfinite(loss)
        scale = jnp.minimum(1.0, settings.grad_clip / norm)
        updates, moments = optimizer.update(jax.tree.map(lambda g: g * scale, gradient), state.optimizer, state.params)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)  # noqa: E731
        after = TrainState(
            keep(optax.apply_updates(state.params, updates), state.params),
            keep(moments, state.optimizer),
            state.step + good,
            jnp.where(good, 0, state.bad_in_row + 1),
            state.bad_steps + ~good,
        )
        metrics = measures.of_tokens(settings.objective, _tokens(batch, weights_MxRxT), aux, batch.segments)
        metrics |= measures.of_update(gradient, updates, state.params)
        metrics |= {
            "loss": loss,
            "gradient/norm": norm,
            "steps/bad_in_row": after.bad_in_row,
            "steps/bad": after.bad_steps,
            "steps/taken": after.step,
        }
        return after, metrics

    jitted = jax.jit(step, donate_argnums=0)
    return lambda state, batch: jitted(state, place(batch))


def make_score(graphdef: Any, settings: LearnerSettings) -> Score:
    """`score(params, batch)`: log-probabilities [M, R, T] of the completion tokens, for old_ and reference_logprobs."""
    forward = _make_forward(graphdef, settings)

    def score(params: Any, batch: Batch) -> jax.Array:
        def one(_: None, part: Batch) -> tuple[None, jax.Array]:
            def compute(part: Batch) -> jax.Array:
                tokens = _tokens(part, (part.lengths > 0).astype(jnp.float32))
                return token_logprobs_and_entropy(*forward(params, part), tokens, settings.temperature, settings.chunk)[
                    0
                ]

            return None, lax.cond((part.lengths > 0).any(), compute, lambda p: jnp.zeros_like(p.advantages), part)

        return lax.scan(one, None, batch)[1]

    jitted = jax.jit(score)
    return lambda params, batch: jitted(params, place(batch))


def place(batch: Batch) -> Batch:
    """The batch on the devices, rows split over the axes that weights are sharded over."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.tree.map(jnp.asarray, batch)
    return jax.device_put(batch, NamedSharding(mesh, P(None, "fsdp", None)))


def token_weights(loss: str, lengths: jax.Array) -> jax.Array:
    """Each token's share in the loss; they sum to 1 over the whole step.

    token_mean     1 / tokens
    sequence_mean  1 / (sequences x tokens of its sequence)
    """
    real = (lengths > 0).astype(jnp.float32)
    weights = real if loss == "token_mean" else real / jnp.maximum(lengths, 1)
    return weights / weights.sum()


def _tokens(batch: Batch, weights: jax.Array) -> Tokens:
    return Tokens(
        batch.index,
        batch.targets,
        batch.owners,
        weights,
        batch.advantages,
        batch.sampler_logprobs,
        batch.old_logprobs,
        batch.reference_logprobs,
    )


def _make_forward(graphdef: Any, settings: LearnerSettings) -> Callable[[Any, Batch], tuple[jax.Array, jax.Array]]:
    dtype = jnp.dtype(settings.dtype)

    def forward(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, params)
        attend = segment_attention(settings.attention, batch.positions, batch.segments)
        hidden_RxTxD, _ = model.hidden(batch.tokens, batch.positions, attend, dtype=dtype, remat=settings.remat)
        # The master weights as they lie: the loss casts and gathers them itself, and its gradient stays float32.
        return hidden_RxTxD, (model.embed if model.spec.tied else model.unembed)[...]

    return forward
