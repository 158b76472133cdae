"""One writer of numbers, many sinks: metrics.jsonl and timings.jsonl always, TensorBoard and others by name.

metrics.jsonl holds what a run computed: it is the same, byte for byte, however often the run was killed and resumed.
What depends on the clock or the machine goes to timings.jsonl. One line per iteration in each, names are paths like
`solve/deduction/reward/mean`. The files are the truth; a sink that fails is told about once and then left alone.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from azr_jax.monitor.jsonl import JsonLines

LOG = logging.getLogger(__name__)
FAILED = "sink %s failed and is not written to any more; metrics.jsonl has everything"


class SinkProblem(ValueError):
    """One line for a user: there is no such sink, or it does not start."""


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

    The run's id follows from where the workdir is, a path or a bucket's address, so that a resumed run goes on in the
    same curves. Both services keep the first value of a step they already have; a resumed run repeats its values
    exactly, so nothing differs.
    """

    def __init__(self, package: str, home: str):
        self._service = importlib.import_module(package)
        # W&B refuses these signs in an id, and long ones.
        last = re.sub(r"[\\#?%:]", "_", home.rpartition("/")[2])[:100]
        name = f"{last}-{hashlib.sha256(home.encode()).hexdigest()[:8]}"
        # wandb finds a run by its id, trackio by its name.
        extra = {"id": name} if package == "wandb" else {}
        self._service.init(project="azr_jax", name=name, resume="allow", **extra)

    def write(self, iteration: int, numbers: Mapping[str, float]) -> None:
        self._service.log(dict(numbers), step=iteration)

    def close(self) -> None:
        self._service.finish()


SINKS: dict[str, Callable[[Path, str, int], Sink]] = {
    "tensorboard": lambda workdir, home, first: TensorBoard(workdir, first),
    "wandb": lambda workdir, home, first: Hosted("wandb", home),
    "trackio": lambda workdir, home, first: Hosted("trackio", home),
}


def check_sinks(names: Iterable[str]) -> None:
    """Raises SinkProblem; starts and imports nothing."""
    for name in names:
        if name not in SINKS:
            raise SinkProblem(f"monitor.sinks={name}: should be one of {', '.join(SINKS)}")
        package = "tensorboardX" if name == "tensorboard" else name
        if not _installed(package):
            raise SinkProblem(f"monitor.sinks={name}: not installed; `pip install {package}` or drop it")


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None  # a folder ./wandb, which W&B makes, is no package


class MetricsWriter:
    """Opening it cuts the files back to `cursor` (without one: to nothing) and tells the sinks what comes next."""

    def __init__(
        self, workdir: Path, sinks: Iterable[str] = (), cursor: Mapping[str, Any] | None = None, home: str = ""
    ):
        """`home` is where the run lives, where that is not the folder: by that it is known to others."""
        self._metrics, self._timings = JsonLines(workdir / "metrics.jsonl"), JsonLines(workdir / "timings.jsonl")
        cursor = cursor or {"metrics": 0, "timings": 0, "iteration": -1}  # 0 is what was measured before training
        self._metrics.cut(cursor["metrics"])
        self._timings.cut(cursor["timings"])
        self._iteration = cursor["iteration"]
        check_sinks(sinks := tuple(sinks))
        home = home or str(workdir.resolve())
        self._sinks: dict[str, Sink] = {}
        for name in sinks:
            try:
                self._sinks[name] = SINKS[name](workdir, home, self._iteration + 1)
            except Exception as error:  # each has exceptions of its own
                if self._iteration < 0:  # of a run that begins, somebody sees it
                    said = next(iter(str(error).splitlines()), "") or type(error).__name__
                    raise SinkProblem(f"monitor.sinks={name}: does not start: {said}; mend it or drop it") from error
                LOG.exception(FAILED, name)

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
            LOG.exception(FAILED, name)
            self._sinks.pop(name, None)
