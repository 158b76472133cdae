"""Accelerators by the names that JAX has for them, with the peaks that their makers state.

Memory is what the TPU compiler leaves to a program; a GPU says itself how much it has. Left out: `links_bytes_s` and
Google Cloud's name of what no slice here is made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Device(Protocol):
    """As jax.Device, of which only the kind is asked."""

    @property
    def device_kind(self) -> str: ...


@dataclass(frozen=True)
class Chip:
    """One device: dense bfloat16 operations a second, and bytes a second from its memory and to other chips."""

    kinds: tuple[str, ...]  # how JAX's device_kind begins
    flops: float
    memory_bytes_s: float
    memory_gib: float = 0.0
    links_bytes_s: float = 0.0  # all links of a chip together, one direction
    hbm_name: str = ""  # how Google Cloud names slices of it
    ring: float = math.inf  # the most of them that can be ordered as a ring


CHIPS = {
    "v4": Chip(("TPU v4",), 275e12, 1228e9),
    "v5e": Chip(("TPU v5 lite", "TPU v5e"), 197e12, 819e9, 15.75, 200e9, "v5litepod", 16),
    "v5p": Chip(("TPU v5", "TPU v5p"), 459e12, 2765e9, 95.74, 600e9, "v5p"),
    "v6e": Chip(("TPU v6 lite", "TPU v6e"), 918e12, 1640e9, 31.25, 448e9, "v6e"),
    "A100": Chip(("NVIDIA A100",), 312e12, 2039e9),
    "H100": Chip(("NVIDIA H100",), 989e12, 3350e9),
    "H200": Chip(("NVIDIA H200",), 989e12, 4800e9),
}


def chip_of(device: Device) -> Chip | None:
    """None where it is not in the table (CPUs, unknown kinds)."""
    fits = [(len(kind), name) for name, chip in CHIPS.items() for kind in chip.kinds if _starts(device, kind)]
    return CHIPS[max(fits)[1]] if fits else None


def _starts(device: Device, kind: str) -> bool:
    return device.device_kind.startswith(kind)
