"""The order of a slice's chips: a ring of neighbours in which every four that follow each other are a host's square.

The learner's gradients go round the ring, chip to neighbour, in the order that the mesh has; a replica of the sampler
is two or four that follow each other. Rows of a grid, which is what JAX gives for large slices, are neither: a replica
of four is then a line through two hosts or four, and the last chip of a row is far from the first of the next. Every
square is walked from another corner, which not every compiler takes: see blocks.py.

Hosts are visited in a round trip. Each is entered at a chip, walked round, and left from a chip beside that one, which
can always be one on the side of the next host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Place = tuple[int, int, int]
Chip = tuple[int, int]  # in its host's square
SQUARE: tuple[Chip, ...] = ((0, 0), (0, 1), (1, 1), (1, 0))  # going round


def in_a_ring(devices: Sequence[Any]) -> list[Any] | None:
    """None where the devices have no places, or do not fill a grid of squares."""
    return placed(devices, lambda grid: None if grid[0] % 2 or grid[1] % 2 else ring(grid))


def placed(devices: Sequence[Any], order: Callable[[Place], list[Place] | None]) -> list[Any] | None:
    """In the order of the places of the grid that they fill; None where they have none, fill none, or there is none."""
    at = {tuple(device.coords): device for device in devices if hasattr(device, "coords")}
    if not at or len(at) != len(devices) or any(len(place) != 3 for place in at):
        return None
    low, high = tuple(map(min, zip(*at))), tuple(map(max, zip(*at)))
    x, y, z = (last - first + 1 for first, last in zip(low, high))
    places = order((x, y, z)) if len(at) == x * y * z else None
    if places is None:
        return None
    return [at[place[0] + low[0], place[1] + low[1], place[2] + low[2]] for place in places]


def ring(grid: Place) -> list[Place]:
    """All places of a grid, x and y even. The last is beside the first where the hosts have a round trip."""
    hosts = _round_trip(grid[0] // 2, grid[1] // 2, grid[2])
    walks = [walk for start in SQUARE for walk in _walks(hosts, start)]
    return next((walk for walk in walks if beside(walk[-1], walk[0])), walks[0])


def beside(one: Place, other: Place) -> bool:
    return sum(abs(a - b) for a, b in zip(one, other)) == 1


def _walks(hosts: Sequence[Place], start: Chip) -> list[list[Place]]:
    """Through all hosts from a chip of the first one: for each chip where the last can be entered, both ways round."""
    ways: dict[Chip, list[Place]] = {start: []}  # by the chip where the next host is entered
    for host, following in pairwise(hosts):
        step, onward = tuple(b - a for a, b in zip(host, following)), dict[Chip, list[Place]]()
        for enter, way in ways.items():
            for chips in _rounds(enter):
                x, y = chips[-1]
                if _side(x, step[0]) and _side(y, step[1]):
                    onward.setdefault(((x + step[0]) % 2, (y + step[1]) % 2), [*way, *_places(host, chips)])
        ways = onward
    return [[*way, *_places(hosts[-1], chips)] for enter, way in ways.items() for chips in _rounds(enter)]


def _side(at: int, step: int) -> bool:
    """Whether a chip at 0 or 1 of a square is at the side of a step of -1 or 1 from it; any is where there is none."""
    return step == 0 or at == (step > 0)


def _rounds(enter: Chip) -> tuple[list[Chip], list[Chip]]:
    """A square from this chip on, both ways round."""
    n = SQUARE.index(enter)
    way = [*SQUARE[n:], *SQUARE[:n]]
    return way, [way[0], *way[:0:-1]]


def _places(host: Place, chips: Sequence[Chip]) -> list[Place]:
    return [(2 * host[0] + x, 2 * host[1] + y, host[2]) for x, y in chips]


def _round_trip(x: int, y: int, z: int) -> list[Place]:
    """Through a grid of hosts, from neighbour to neighbour, and back where that can be."""
    if z == 1:
        return [(i, j, 0) for i, j in _trip(x, y)]
    layer = _to_and_fro(x, 0, y)
    return [(*layer[i], k) for i, k in _trip(len(layer), z)]


def _trip(rows: int, columns: int) -> list[tuple[int, int]]:
    """With an even number of rows: through all columns but the first, to and fro, and back through that one."""
    if rows % 2 and columns % 2 == 0:
        return [(i, j) for j, i in _trip(columns, rows)]
    if rows % 2 or columns == 1:
        return _to_and_fro(rows, 0, columns)
    return [(0, 0), *_to_and_fro(rows, 1, columns), *((i, 0) for i in reversed(range(1, rows)))]


def _to_and_fro(rows: int, first: int, columns: int) -> list[tuple[int, int]]:
    """Through the columns from the first on, row by row, every other one backwards."""
    there = range(first, columns)
    return [(i, j) for i in range(rows) for j in (there if i % 2 == 0 else reversed(there))]
