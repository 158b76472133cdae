"""One writer of numbers, many sinks: metrics.jsonl and timings.jsonl always, TensorBoard and others by name.

metrics.jsonl holds what a run computed: it is the same, byte for byte, however often the run was killed and resumed.
What depends on the clock or the machine goes to timings.jsonl. One line per iteration in each, names are paths like
`solve/deduction/reward/mean`. The files are the truth; a sink that fails is told about once and then left alone.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from azr_jax.monitor.jsonl import JsonLines

LOG = logging.getLogger(__name__)


class Sink(Protocol):
    def write(self, iteration: int, numbers: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Events from `first` on replace those an earlier start of the same run wrote: TensorBoard purges by step."""

    def __init__(self, workdir: Path, first: int):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=first)

    def write(self, iteration: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, iteration)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Hosted:
    """W&B, and trackio, which copies its interface.

    The run's id follows from the workdir's path, so that a resumed run goes on in the same curves. Both services keep
    the first value of a step they already have; a resumed run repeats its values exactly, so nothing differs.
    """

    def __init__(self, package: str, workdir: Path):
        try:
            self._service = importlib.import_module(package)
        except ImportError as error:
            raise ValueError(f"monitor.sinks={package}: not installed; `pip install {package}` or drop it") from error
        path = str(workdir.resolve())
        name = f"{workdir.name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        # wandb finds a run by its id, trackio by its name.
        extra = {"id": name} if package == "wandb" else {}
        self._service.init(project="azr_jax", name=name, resume="allow", **extra)

    def write(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self._service.log(dict(numbers), step=iteration)

    def close(self) -> None:
        self._service.finish()


SINKS: dict[str, Callable[[Path, int], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda workdir, first: Hosted("wandb", workdir),
    "trackio": lambda workdir, first: Hosted("trackio", workdir),
}


class MetricsWriter:
    """Opening it cuts the files back to `cursor` (without one: to nothing) and tells the sinks what comes next."""

    def __init__(self, workdir: Path, sinks: Iterable[str] = (), cursor: Mapping[str, Any] | None = None):
        self._metrics, self._timings = JsonLines(workdir / "metrics.jsonl"), JsonLines(workdir / "timings.jsonl")
        cursor = cursor or {"metrics": 0, "timings": 0, "iteration": -1}  # 0 is what was measured before training
        self._metrics.cut(cursor["metrics"])
        self._timings.cut(cursor["timings"])
        self._iteration = cursor["iteration"]
        for name in (sinks := tuple(sinks)):
            if name not in SINKS:
                raise ValueError(f"monitor.sinks={name}: should be one of {', '.join(SINKS)}")
        self._sinks = {name: SINKS[name](workdir, self._iteration + 1) for name in sinks}

    def write(self, iteration: int, numbers: Mapping[str, float], timings: Mapping[str, float]) -> None:
        if iteration <= self._iteration:
            raise ValueError(f"iteration {iteration} is written already, up to {self._iteration}: steps never repeat")
        # NaN is what could not be measured, and is not JSON: it is left out.
        known = {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
        clock = {name: float(value) for name, value in timings.items() if math.isfinite(value)}
        self._metrics.append({"iteration": iteration} | known)
        self._timings.append({"iteration": iteration} | clock)
        self._iteration = iteration
        for name, sink in list(self._sinks.items()):
            self._try(name, lambda sink=sink: sink.write(iteration, known | clock))

    def cursor(self) -> dict[str, int]:
        """What a checkpoint needs to cut the files back to this moment."""
        return {
            "metrics": self._metrics.position(),
            "timings": self._timings.position(),
            "iteration": self._iteration,
        }

    def close(self) -> None:
        for name, sink in list(self._sinks.items()):
            self._try(name, sink.close)

    def _try(self, name: str, work: Callable[[], None]) -> None:
        """A service that is down must not end a run of days: it is dropped, the files go on."""
        try:
            work()
        except Exception:
            LOG.exception("sink %s failed and is not written to any more; metrics.jsonl has everything", name)
            self._sinks.pop(name, None)
