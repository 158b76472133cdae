"""TPU slices by name, and devices to compile for that need not be there. What their chips are says parallel/chips.py.

Left out: v4 and the seventh generation, whose names libtpu takes only with more arguments, and slices above 256 chips.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azr_jax.parallel.chips import CHIPS, Chip

INSTALL = 'pip install "jax[tpu]"'
SLICES = {
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}


class UnknownTopology(ValueError):
    """A name that is no slice."""


class LibtpuMissing(RuntimeError):
    """The compiler for TPU is not installed."""


@dataclass(frozen=True)
class Topology:
    name: str
    chip: Chip
    grid: tuple[int, ...]  # of a slice
    slices: int = 1

    @property
    def chips(self) -> int:
        """Of all slices."""
        return math.prod(self.grid) * self.slices

    @property
    def hosts(self) -> int:
        """Machines: up to eight chips of v5e and v6e are on one, four of v5p; those of larger slices have four."""
        chips = math.prod(self.grid)
        return self.slices * (1 if self.chip.hbm_name != "v5p" and chips <= 8 else -(-chips // 4))

    @property
    def accelerator_type(self) -> str:
        """Google Cloud's name of a slice; v5p counts cores, two a chip."""
        return f"{self.chip.hbm_name}-{math.prod(self.grid) * (2 if self.chip.hbm_name == 'v5p' else 1)}"


def find(name: str) -> Topology:
    said = re.fullmatch("([a-z0-9]+):([0-9x]+)(?::([1-9][0-9]?))?", name)
    if said is None or said[2] not in SLICES.get(said[1], ()):
        known = "; ".join(f"{kind}: {', '.join(grids)}" for kind, grids in SLICES.items())
        right = "should be a chip and a grid, as v5e:4x4, or with a number of slices, as v5e:4x4:2"
        raise UnknownTopology(f"--topology={name}: {right}. Known are {known}")
    return Topology(name, CHIPS[said[1]], tuple(int(n) for n in said[2].split("x")), int(said[3] or 1))


def prepare() -> None:
    """Before JAX is imported: compile for TPU here, look for none. Other processes may do the same at one time."""
    quiet = {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # of a host that is not there; libtpu complains without
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def devices(topology: Topology) -> Sequence[Any]:
    """The devices of the slice, or of several, to compile for only."""
    if importlib.util.find_spec("libtpu") is None:
        raise LibtpuMissing(f"libtpu is not installed: {INSTALL}")
    from jax.experimental import topologies

    # A machine with one chip is none of those that libtpu takes for granted, which have four.
    more: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if math.prod(topology.grid) == 1 else {}
    if topology.slices > 1:
        more["num_slices"] = topology.slices
    one = ":".join(topology.name.split(":")[:2])
    return topologies.get_topology_desc(platform="tpu", topology_name=one, **more).devices
