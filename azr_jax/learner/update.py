"""One iteration's update: one step on one batch, or several epochs over several minibatches for those who want them.

With more than one step, the log-probabilities that PPO compares with are those before the first. With a divergence
from the start policy, its log-probabilities are computed here too; its weights are the caller's, and held only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from azr_jax.learner.lora import is_low_rank
from azr_jax.learner.packing import Batch
from azr_jax.learner.step import LearnerSettings, TrainState, make_score, make_step
from azr_jax.parallel.trees import PyTree

Metrics = dict[str, jax.Array]
Update = Callable[[TrainState, Sequence[Batch]], tuple[TrainState, list[Metrics]]]


class GradientsNotFinite(RuntimeError):
    """Several steps in a row had a gradient that is not finite."""


def make_update(graphdef: nnx.GraphDef[Any], settings: LearnerSettings, *, reference: PyTree = None) -> Update:
    """`update(state, minibatches) -> (state, metrics of each step)`; `state` is consumed.

    `reference` holds the start policy's parameters, for an objective with `kl`. With low-rank corrections the base is
    the start policy, and none is needed.
    """
    step, score = make_step(graphdef, settings), make_score(graphdef, settings)

    def start_policy(state: TrainState) -> tuple[Any, Any]:
        if reference is not None:
            return reference, None
        if is_low_rank(state.params):
            return state.base, None
        raise ValueError(f"kl={settings.objective.kl}: needs the start policy's parameters as `reference`")

    def update(state: TrainState, minibatches: Sequence[Batch]) -> tuple[TrainState, list[Metrics]]:
        batches = list(minibatches)
        if settings.objective.kl:
            start = start_policy(state)
            batches = [replace(batch, reference_logprobs=score(*start, batch)) for batch in batches]
        if len(batches) * settings.epochs > 1:
            batches = [replace(batch, old_logprobs=score(state.params, state.base, batch)) for batch in batches]
        metrics = []
        for _ in range(settings.epochs):
            for batch in batches:
                state, measured = step(state, batch)
                metrics.append(measured)
        return state, metrics

    return update


def over_steps(metrics: Sequence[Metrics]) -> dict[str, float]:
    """An iteration's numbers from those of its steps: counters as the last step left them, otherwise means.

    Of a `max` the largest, of tokens the sum. What is measured of a group counts by the group's share in each step; of
    a group that is in none of them there are no numbers. Waits for the steps.
    """
    values = {name: np.array([float(step[name]) for step in jax.device_get(list(metrics))]) for name in metrics[0]}

    def one(name: str, value: np.ndarray) -> float | None:
        share = values.get(f"{name.rpartition('/')[0]}/share")
        if name.startswith("steps/"):
            return float(value[-1])
        if name.startswith(("tokens/trained", "tokens/read")):
            return float(value.sum())
        if share is not None and not share.any():
            return None
        if share is not None and not name.endswith("/share"):
            return float(np.average(value, weights=share))
        return float(value.max() if name.endswith("/max") else value.mean())

    found = {name: one(name, value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


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
