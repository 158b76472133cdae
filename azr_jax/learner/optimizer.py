"""The optimizer: AdamW by Optax, its two smaller relatives by name, and learning rates by name.

Clipping by the global norm is the step's work, which needs the norm anyway to see whether it is finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

NAMES = ("adamw", "adamw_bf16", "adamw_factored")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class OptimizerSettings:
    name: str = "adamw"  # adamw | adamw_bf16 (first moment in bfloat16) | adamw_factored (and second moment factored)
    lr: float = 1e-6
    schedule: str = "constant"  # constant | linear | cosine: after the warm-up; the latter two fall to 0 at `steps`
    warmup: int = 0  # steps of linear warm-up
    steps: int = 0  # when linear and cosine reach 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01  # of matrices; norms and biases do not decay

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"optimizer={self.name!r}: should be one of {', '.join(NAMES)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: should be one of {', '.join(SCHEDULES)}")
        if self.schedule != "constant" and self.steps <= self.warmup:
            raise ValueError(f"steps={self.steps}: should be above warmup={self.warmup} for schedule={self.schedule}")


def learning_rate(settings: OptimizerSettings) -> optax.Schedule:
    """Step (from 0) -> learning rate. The first step of a warm-up is not wasted on a rate of 0."""
    s = settings
    after = {
        "constant": lambda: optax.constant_schedule(s.lr),
        "linear": lambda: optax.linear_schedule(s.lr, 0.0, s.steps - s.warmup),
        "cosine": lambda: optax.cosine_decay_schedule(s.lr, s.steps - s.warmup),
    }[s.schedule]()
    if not s.warmup:
        return after
    rise = optax.linear_schedule(s.lr / s.warmup, s.lr, max(1, s.warmup - 1))
    return optax.join_schedules([rise, after], [s.warmup])


def make_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    s = settings
    if s.name == "adamw_factored":
        # Rows and columns of the squared gradients in place of all of them; Adam's momentum follows the scaling.
        moments = optax.chain(
            optax.scale_by_factored_rms(epsilon=s.eps**2),
            optax.ema(s.b1, debias=True, accumulator_dtype=jnp.bfloat16),
        )
    else:
        first = jnp.bfloat16 if s.name == "adamw_bf16" else jnp.float32
        moments = optax.scale_by_adam(s.b1, s.b2, s.eps, mu_dtype=first)
    return optax.chain(
        moments,
        optax.add_decayed_weights(s.weight_decay, mask=decays),
        optax.scale_by_learning_rate(learning_rate(s)),
    )


def decays(params: optax.Params) -> optax.Params:
    """True for matrices. Stacked layers give biases and norms two dimensions, so names decide, not ranks."""

    def is_matrix(path: tuple[object, ...], _: object) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return "norm" not in name and "bias" not in name

    return jax.tree_util.tree_map_with_path(is_matrix, params)
