"""Going back to the last good checkpoint after updates that were not finite, a limited number of times.

The run goes on from there as after a resume, but with other random draws: the same ones would lead to the same
updates. How often it went back is kept in returns.json, so that a later resume draws the same. Of several processes
the first one looks and decides.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from azr_jax.config.schema import Config
from azr_jax.learner.checkpoint import iterations_in, remove
from azr_jax.parallel.hosts import Hosts

APART = 1_000_003  # between the seeds of a run before and after a return


class Returns:
    def __init__(self, workdir: Path, most: int, hosts: Hosts | None = None, home: str = ""):
        """`home` is where the checkpoints are, where that is not the folder."""
        self._file, self._home, self._most = workdir / "returns.json", home or workdir, most
        self._hosts = hosts or Hosts()
        self._made: list[dict[str, int]] = self._hosts.from_first(self._written)

    @property
    def target(self) -> int:
        """The iteration it went back to, the last time."""
        return self._made[-1]["to"]

    def reseeded(self, config: Config) -> Config:
        """The config with the seed of what is drawn from now on."""
        return replace(config, seed=(config.seed + APART * len(self._made)) % 2**31)

    def go_back(self, first_bad: int) -> bool:
        """Drops the checkpoints from `first_bad` on; False if none is left to go back to, or it went back enough."""
        before = len(self._made)
        self._made = self._hosts.from_first(lambda: self._gone_back(first_bad))
        return len(self._made) > before

    def _written(self) -> list[dict[str, int]]:
        return json.loads(self._file.read_text()) if self._file.exists() else []

    def _gone_back(self, first_bad: int) -> list[dict[str, int]]:
        kept = iterations_in(self._home)
        good = [iteration for iteration in kept if iteration < first_bad]
        if not good or len(self._made) >= self._most:
            return self._made
        for iteration in kept[len(good) :]:
            remove(self._home, iteration)
        made = [*self._made, {"from": first_bad, "to": max(good)}]
        self._file.write_text(json.dumps(made))
        return made
