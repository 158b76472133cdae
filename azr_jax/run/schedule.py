"""schedule.jsonl of an overlapped run: after which round of sampling which verdicts were handed over.

Which weights draw which token depends on when a verdict let something new be asked, and on nothing else that the seed
does not say. So a run that is told the same (`pipeline.follow`) comes out the same, to the bit. Verdicts are counted
from where the run was started: one that went on from a checkpoint played again what had been in flight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from azr_jax.config.schema import ConfigError
from azr_jax.monitor import jsonl

FILE = "schedule.jsonl"


class Schedule:
    def __init__(self, workdir: Path, begun_after: int, cursor: int):
        self._file, self._begun_after = jsonl.JsonLines(workdir / FILE), begun_after
        self._file.cut(cursor)

    def write(self, iteration: int, rounds: Sequence[Sequence[int]]) -> None:
        self._file.append({"iteration": iteration, "begun_after": self._begun_after, "rounds": rounds})

    def cursor(self) -> int:
        return self._file.position()


def followed(path: str, begun_after: int) -> list[list[int]]:
    """The rounds of a run that was started after this iteration, as this one is."""
    if not path:
        return []
    try:
        lines = [line for line in jsonl.read(Path(path)) if line["begun_after"] == begun_after]
        if lines:
            return [verdicts for line in lines for verdicts in line["rounds"]]
    except (jsonl.Damaged, KeyError) as error:
        raise ConfigError([f"pipeline.follow={path}: is no schedule: {error}"]) from error
    raise ConfigError([f"pipeline.follow={path}: no run in it was started after iteration {begun_after}"])
