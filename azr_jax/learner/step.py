"""The train step: one jitted function from (state, batch) to (state, metrics), with the old state's memory reused.

Gradients are summed in float32 over microbatches by one scan, and every mean divides by the tokens (or sequences) of
the whole step, so that the split into microbatches, rows and devices does not change the result. A gradient that is
not finite changes nothing but the counters; several in a row stop the run.

An iteration's update is one step on one batch, or several epochs over several minibatches for those who want them. Then
the log-probabilities that PPO compares with are those before the first, or, where asked for, the sampler's. With a
divergence from the start policy, its log-probabilities are computed here too; its weights are the caller's, and held
only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.learner import measures
from azr_jax.learner.lora import Base, Live, Trained, join, split
from azr_jax.learner.masters import stand_ins, with_masters
from azr_jax.learner.measures import Metrics
from azr_jax.learner.objective import Aux, policy_loss, token_logprobs_and_entropy
from azr_jax.learner.optimizer import OptimizerSettings, make_optimizer
from azr_jax.learner.packing import Batch
from azr_jax.learner.terms import Group, Objective, Tokens
from azr_jax.models.attention import segment_attention
from azr_jax.models.products import product_dtype
from azr_jax.parallel.mesh import place, row_axes

T = TypeVar("T")
LOSSES = ("token_mean", "sequence_mean")
OLD_LOGPROBS = ("learner", "sampler")


@dataclass(frozen=True)
class LearnerSettings:
    objective: Objective = field(default_factory=Objective)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    trained: Trained = field(default_factory=Trained)
    groups: tuple[Group, ...] = ()  # none: what is measured is measured of all completions together
    epochs: int = 1  # passes over an iteration's minibatches
    old_logprobs: str = "learner"  # what PPO compares with: the learner's before the first step | the sampler's
    loss: str = "token_mean"  # token_mean: every token counts the same | sequence_mean: every completion does
    oldest: int = 0  # updates that a token may be older than the one that uses it: what is measured by age
    longest: int = 0  # tokens of a completion at most: what dr_grpo divides by
    grad_clip: float = 1.0  # global norm
    temperature: float = 1.0  # of the sampling: log-probabilities are taken of the same distribution
    dtype: str = "float32"  # compute type
    matmul_dtype: str = "same"  # of the weights, and of what they multiply
    remat: str = "none"
    attention: str = "auto"
    chunk: int = 0  # completion tokens whose logits are held at a time; 0: as many as make 512 MiB
    max_bad_steps: int = 3  # steps in a row without a finite gradient, before the run stops

    def __post_init__(self) -> None:
        if self.old_logprobs not in OLD_LOGPROBS:
            raise ValueError(f"old_logprobs={self.old_logprobs!r}: should be one of {', '.join(OLD_LOGPROBS)}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r}: should be one of {', '.join(LOSSES)}")
        if self.objective.policy_loss == "dr_grpo" and self.longest < 1:
            raise ValueError(f"longest={self.longest}: policy_loss=dr_grpo divides by it; should be at least 1")

    @property
    def rounded_to(self) -> jnp.dtype:
        return product_dtype(self.dtype, self.matmul_dtype)

    @property
    def averaging(self) -> str:
        """What the loss is a mean over: gspo and dr_grpo say it themselves."""
        return {"gspo": "sequence_mean", "dr_grpo": "constant"}.get(self.objective.policy_loss, self.loss)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    params: Live  # float32
    base: Base  # frozen weights, or those under low-rank corrections; None where all are trained
    optimizer: optax.OptState
    step: jax.Array  # optimizer steps taken
    bad_in_row: jax.Array  # steps skipped since the last one taken
    bad_steps: jax.Array  # steps skipped in all


Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Update = Callable[[TrainState, Sequence[Batch]], tuple[TrainState, list[Metrics]]]
Score = Callable[[Live, Base, Batch], jax.Array]
Sums = tuple[jax.Array, Live]  # a loss, or the sum of several, and the gradient


class GradientsNotFinite(RuntimeError):
    """Several steps in a row had a gradient that is not finite."""


def init_state(params: nnx.State, settings: LearnerSettings) -> TrainState:
    """The state that training starts from. It holds `params` themselves, not a copy: the first step consumes them."""
    live, base = split(params, settings.trained)
    optimizer = jax.jit(make_optimizer(settings.optimizer).init)(live)
    zero = lambda: jnp.zeros((), jnp.int32)  # noqa: E731 - each its own buffer, or donation would meet it thrice
    return TrainState(live, base, optimizer, zero(), zero(), zero())


def make_step(graphdef: nnx.GraphDef[Any], settings: LearnerSettings) -> Step:
    """`step(state, batch) -> (state, metrics)`; `state` is consumed. Call under the mesh the parameters live on."""
    program = step_program(graphdef, settings)
    return lambda state, batch: program(state, place_rows(batch))


def make_update(
    graphdef: nnx.GraphDef[Any], settings: LearnerSettings, *, reference: nnx.State | None = None
) -> Update:
    """`update(state, minibatches) -> (state, metrics of each step)`; `state` is consumed.

    `reference` holds the start policy's parameters, for an objective with `kl`. With low-rank corrections the base is
    the start policy, and none is needed.
    """
    step, score = make_step(graphdef, settings), make_score(graphdef, settings)

    def start_policy(state: TrainState) -> nnx.State:
        if reference is not None:
            return reference
        if not isinstance(state.params, nnx.State) and state.base is not None:
            return state.base
        raise ValueError(f"kl={settings.objective.kl}: needs the start policy's parameters as `reference`")

    def update(state: TrainState, minibatches: Sequence[Batch]) -> tuple[TrainState, list[Metrics]]:
        batches = list(minibatches)
        if settings.objective.kl:
            start = start_policy(state)
            batches = [replace(batch, reference_logprobs=score(start, None, batch)) for batch in batches]
        if settings.old_logprobs == "sampler":
            batches = [replace(batch, old_logprobs=batch.sampler_logprobs) for batch in batches]
        elif len(batches) * settings.epochs > 1:
            batches = [replace(batch, old_logprobs=score(state.params, state.base, batch)) for batch in batches]
        metrics = []
        for _ in range(settings.epochs):
            for batch in batches:
                state, measured = step(state, batch)
                metrics.append(measured)
        return state, metrics

    return update


def step_program(graphdef: nnx.GraphDef[Any], settings: LearnerSettings) -> jax.stages.Wrapped:
    """The jitted step by itself: takes a placed batch, and can be lowered for shapes."""
    optimizer = make_optimizer(settings.optimizer)
    summed = _make_gradient(graphdef, settings)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        weights_MxRxT, shares_MxRxT = _weights_and_shares(settings, batch)
        loss, gradient, aux = summed(state.params, state.base, batch, weights_MxRxT)
        norms = measures.gradient_norms(gradient)
        norm = norms["gradient/norm"]
        good = jnp.isfinite(norm) & jnp.isfinite(loss)
        scale = jnp.minimum(1.0, settings.grad_clip / norm)
        updates, moments = optimizer.update(jax.tree.map(lambda g: g * scale, gradient), state.optimizer, state.params)

        def if_good(new: T, old: T) -> T:
            return jax.tree.map(lambda n, o: jnp.where(good, n, o), new, old)

        after = TrainState(
            params=if_good(cast("Live", optax.apply_updates(state.params, updates)), state.params),
            base=state.base,
            optimizer=if_good(moments, state.optimizer),
            step=state.step + good,
            bad_in_row=jnp.where(good, 0, state.bad_in_row + 1),
            bad_steps=state.bad_steps + ~good,
        )
        tokens = _tokens(settings.objective, batch, shares_MxRxT)
        metrics = measures.of_tokens(settings.objective, settings.groups, tokens, aux, batch, settings.oldest)
        metrics |= norms | {"loss": loss, "update/ratio": optax.tree.norm(updates) / optax.tree.norm(state.params)}
        metrics |= {"steps/taken": after.step, "steps/bad": after.bad_steps, "steps/bad_in_row": after.bad_in_row}
        return after, metrics

    return jax.jit(step, donate_argnums=0)


def _make_gradient(
    graphdef: nnx.GraphDef[Any], settings: LearnerSettings
) -> Callable[[Live, Base, Batch, jax.Array], tuple[jax.Array, Live, Aux]]:
    """(params, base, batch, weights) -> (loss, gradient, aux [M, R, T]), summed over the microbatches."""
    forward = _make_forward(graphdef, settings)

    def loss_of(params: Live, base: Base, batch: Batch, weights_RxT: jax.Array) -> tuple[jax.Array, Aux]:
        hidden_RxTxD, w_VxD = forward(params, base, batch)
        o = settings.objective
        tokens = _tokens(o, batch, weights_RxT)
        return policy_loss(o, settings.temperature, settings.chunk, hidden_RxTxD, w_VxD, tokens, batch.dropped)

    def summed(params: Live, base: Base, batch: Batch, weights_MxRxT: jax.Array) -> tuple[jax.Array, Live, Aux]:
        def one(part: tuple[Batch, jax.Array]) -> tuple[Sums, Aux]:
            def loss_by(live: Live) -> tuple[jax.Array, Aux]:
                return loss_of(with_masters(params, live), base, *part)

            (loss, aux), gradient = jax.value_and_grad(loss_by, has_aux=True)(stand_ins(params, settings.rounded_to))
            return (loss, gradient), aux

        def compute(total: Sums, part: tuple[Batch, jax.Array]) -> tuple[Sums, Aux]:
            some, aux = one(part)
            return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, some), aux

        def skip(total: Sums, part: tuple[Batch, jax.Array]) -> tuple[Sums, Aux]:
            shapes = jax.eval_shape(lambda: compute(total, part)[1])
            return total, jax.tree.map(lambda shape: jnp.zeros_like(part[1], shape.dtype), shapes)

        def microbatch(total: Sums, part: tuple[Batch, jax.Array]) -> tuple[Sums, Aux]:
            return lax.cond((part[1] > 0).any(), compute, skip, total, part)

        if len(weights_MxRxT) == 1:  # there is nothing to add: no float32 sum beside the gradient
            (loss, gradient), aux = one(jax.tree.map(lambda a: a[0], (batch, weights_MxRxT)))
            whole = jax.tree.map(lambda g: g.astype(jnp.float32), gradient)
            return loss, whole, jax.tree.map(lambda a: a[None], aux)
        zero = (jnp.float32(0.0), jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params))
        (loss, gradient), aux = lax.scan(microbatch, zero, (batch, weights_MxRxT))
        return loss, gradient, aux

    return summed


def make_score(graphdef: nnx.GraphDef[Any], settings: LearnerSettings) -> Score:
    """`score(params, base, batch)`: the completion tokens' log-probabilities [M, R, T], as old or reference ones."""
    forward = _make_forward(graphdef, settings)

    def score(params: Live, base: Base, batch: Batch) -> jax.Array:
        def compute(part: Batch) -> jax.Array:
            hidden_RxTxD, w_VxD = forward(params, base, part)
            tokens = _tokens(Objective(), part, (part.lengths > 0).astype(jnp.float32))
            rest = settings.temperature, settings.chunk, settings.objective.never, part.dropped
            return token_logprobs_and_entropy(hidden_RxTxD, w_VxD, tokens, *rest)[0]

        def microbatch(_: None, part: Batch) -> tuple[None, jax.Array]:
            return None, lax.cond((part.lengths > 0).any(), compute, lambda p: jnp.zeros_like(p.advantages), part)

        return lax.scan(microbatch, None, batch)[1]

    jitted = jax.jit(score)
    return lambda params, base, batch: jitted(params, base, place_rows(batch))


def stop_if_stuck(metrics: Metrics, batch: Batch, settings: LearnerSettings, folder: str | Path) -> None:
    """Raises after `max_bad_steps` skipped steps in a row, with the batch saved for study by the first process.

    Reading a metric waits for the step, so callers check one step late, while the next one runs.
    """
    bad = int(metrics["steps/bad_in_row"])
    if bad < settings.max_bad_steps:
        return
    path = Path(folder) / "bad_batch.npz"
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in vars(batch).items() if array is not None}
    if jax.process_index() == 0:
        Path(folder).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)
    raise GradientsNotFinite(
        f"{bad} steps in a row (max_bad_steps={settings.max_bad_steps}) had a gradient that is not finite: the weights "
        f"are those before them, loss {float(metrics['loss'])}, gradient norm {float(metrics['gradient/norm'])}; the "
        f"last batch is in {path}"
    )


def place_rows(batch: Batch) -> Batch:
    """The batch on the devices, rows split over the axes that weights are sharded over."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.tree.map(jnp.asarray, batch)
    dropped = None if batch.dropped is None else place(batch.dropped, NamedSharding(mesh, P()))
    rows = place(replace(batch, dropped=None), NamedSharding(mesh, P(None, row_axes(mesh), None)))
    return replace(rows, dropped=dropped)


def token_weights(averaging: str, lengths: jax.Array, longest: int = 0) -> jax.Array:
    """Each token's weight in the loss; they sum to 1 over the whole step, but for the constant ones.

    token_mean     1 / tokens
    sequence_mean  1 / (sequences x tokens of its sequence)
    constant       1 / (sequences x longest): neither its own length nor that of the others changes what a token counts
    """
    real = (lengths > 0).astype(jnp.float32)
    of_sequence = real / jnp.maximum(lengths, 1)  # whose sum is the number of sequences
    if averaging == "constant":
        return real / (of_sequence.sum() * longest)
    weights = real if averaging == "token_mean" else of_sequence
    return weights / weights.sum()


def _weights_and_shares(settings: LearnerSettings, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """What each token counts in the loss, and in what is measured: there the shares of what is trained sum to 1."""
    weights = shares = token_weights(settings.averaging, batch.lengths, settings.longest)
    if settings.averaging == "constant":
        shares = token_weights("token_mean", batch.lengths)
    if any(group.weight != 1.0 for group in settings.groups):
        of_group = sum(group.weight * (batch.groups == number) for number, group in enumerate(settings.groups))
        weights = weights * of_group
        shares = jnp.where(weights > 0, shares, 0.0)
        shares = shares / jnp.maximum(shares.sum(), 1e-30)
    return weights, shares


def _tokens(objective: Objective, batch: Batch, weights: jax.Array) -> Tokens:
    return Tokens(
        batch.index,
        batch.targets,
        batch.owners,
        weights,
        batch.advantages,
        batch.sampler_logprobs,
        batch.old_logprobs,
        batch.reference_logprobs,
        groups=None if objective.kl_groups is None else batch.groups,
        limited=batch.limited,
    )


def _make_forward(
    graphdef: nnx.GraphDef[Any], settings: LearnerSettings
) -> Callable[[Live, Base, Batch], tuple[jax.Array, jax.Array]]:
    """(params, base, batch) -> (hidden states, unembedding) of one microbatch."""
    dtype = jnp.dtype(settings.dtype)

    def forward(params: Live, base: Base, batch: Batch) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, join(params, base))
        attend = segment_attention(settings.attention, batch.positions, batch.segments, batch.ends)
        types = {"dtype": dtype, "matmul_dtype": settings.rounded_to}
        hidden_RxTxD, _ = model.hidden(batch.tokens, batch.positions, attend, **types, remat=settings.remat)
        # The master weights as they lie: the loss casts and gathers them itself, and their gradient stays float32.
        return hidden_RxTxD.astype(settings.rounded_to), (model.embed if model.spec.tied else model.unembed)[...]

    return forward
