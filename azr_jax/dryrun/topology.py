"""TPU slices by name: what their chips are, and devices to compile for that need not be there.

Chip figures are the makers' peaks; memory is what the compiler leaves to a program. Left out: v4 and the seventh
generation, whose names libtpu takes only with more arguments, and slices above 256 chips.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INSTALL = 'pip install "jax[tpu]"'


@dataclass(frozen=True)
class Chip:
    """One chip: GiB a program may use, bfloat16 operations, and bytes a second from memory and to other chips."""

    memory_gib: float
    flops: float
    memory_bytes_s: float
    links_bytes_s: float  # all links of a chip together, one direction
    hbm_name: str  # how Google Cloud names slices of it


CHIPS = {
    "v5e": Chip(15.75, 197e12, 819e9, 200e9, "v5litepod"),
    "v5p": Chip(95.74, 459e12, 2765e9, 600e9, "v5p"),
    "v6e": Chip(31.25, 918e12, 1640e9, 448e9, "v6e"),
}
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
    grid: tuple[int, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.grid)

    @property
    def accelerator_type(self) -> str:
        """Google Cloud's name of the slice; v5p counts cores, two a chip."""
        return f"{self.chip.hbm_name}-{self.chips * (2 if self.chip.hbm_name == 'v5p' else 1)}"


def find(name: str) -> Topology:
    kind, _, grid = name.partition(":")
    if grid not in SLICES.get(kind, ()):
        known = "; ".join(f"{kind}: {', '.join(grids)}" for kind, grids in SLICES.items())
        raise UnknownTopology(f"--topology={name}: should be a chip and a grid, as v5e:4x4. Known are {known}")
    return Topology(name, CHIPS[kind], tuple(int(n) for n in grid.split("x")))


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
    """The slice's devices, to compile for only."""
    if importlib.util.find_spec("libtpu") is None:
        raise LibtpuMissing(f"libtpu is not installed: {INSTALL}")
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices
