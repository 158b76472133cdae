"""What an overlapped run writes down and what holds it back: its schedule.jsonl, and the bound on stale tokens.

schedule.jsonl says after which round of sampling which verdicts were handed over.

Which weights draw which token depends on when a verdict let something new be asked, and on nothing else that the seed
does not say. So a run that is told the same (`pipeline.follow`) comes out the same, to the bit. Verdicts are counted
from where the run was started: one that went on from a checkpoint played again what had been in flight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from azr_jax.config.schema import ConfigError, PipelineConfig
from azr_jax.monitor import jsonl
from azr_jax.parallel.hosts import Hosts

FILE = "schedule.jsonl"
GAP = re.compile(r"learner/staleness/[1-9]\d*/gap")  # of tokens that are stale


class Bound:
    """Whether the tokens of the last update were near enough to its weights for more to be begun before their turn.

    An update for which nothing was begun early is within it again. The checkpoint has the word: a run that goes on from
    there has it too.
    """

    def __init__(self, settings: PipelineConfig, kept: Mapping[str, Any]):
        self.settings, self.on = settings, bool(settings.ahead and (settings.least_ess or settings.most_gap))
        self.within = kept.get("within_bound", True) or not self.on

    def note(self, numbers: Mapping[str, float], hosts: Hosts) -> dict[str, float]:
        """An update's numbers; gives what is to be shown of it, the first process's word in all of them."""
        if not self.on:
            return {}
        s, gap = self.settings, max((value for name, value in numbers.items() if GAP.fullmatch(name)), default=0.0)
        fresh = not numbers.get("learner/staleness/mean")  # whatever its weights are, they make up for no age
        within = fresh or (numbers.get("learner/importance/ess", 1.0) >= s.least_ess and gap <= (s.most_gap or gap))
        self.within = hosts.from_first(lambda: within)
        return {"pipeline/within_bound": float(self.within)}

    def to_keep(self) -> dict[str, Any]:
        return {"within_bound": self.within} if self.on else {}


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
    raise ConfigError(
        [f"pipeline.follow={path}: no run in it was started after iteration {begun_after}; leave it out to go on"]
    )
