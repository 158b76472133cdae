"""Where a ring (ring.py) does not compile: halves of halves, so that chips that follow each other are a block.

A replica of the sampler is some chips that follow each other: two neighbours, one host's square, two squares or four.
Replicas exchange weights and counts chip by chip, each with those of its own place in the others, and these lie at
equal distances because every block is ordered alike. On a ring they do not, and on 32 chips of v5e and more libtpu
0.0.50.1 ends at such an exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azr_jax.parallel.ring import Place, placed


def in_blocks(devices: Sequence[Any]) -> list[Any] | None:
    """None where the devices have no places, or do not fill a grid."""
    return placed(devices, blocks)


def blocks(grid: Place) -> list[Place]:
    """All places of a grid: a step along x, along y, along z, then the same steps with blocks in place of chips."""
    places: list[Place] = [(0, 0, 0)]
    size, left = [1, 1, 1], list(grid)
    while any(n > 1 for n in left):
        even = any(n % 2 == 0 for n in left)  # what cannot be halved comes last
        for axis in range(3):
            times = left[axis] if not even else 2 if left[axis] % 2 == 0 else 1
            places = [_moved(place, axis, n * size[axis]) for n in range(times) for place in places]
            size[axis] *= times
            left[axis] //= times
    return places


def _moved(place: Place, axis: int, by: int) -> Place:
    x, y, z = (at + by * (axis == n) for n, at in enumerate(place))
    return x, y, z
