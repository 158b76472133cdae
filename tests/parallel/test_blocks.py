"""The order of a slice's chips: what follows each other is a block, a replica of four one host, and all lie alike."""

from types import SimpleNamespace

import pytest

from azr_jax.dryrun.topology import SLICES
from azr_jax.parallel.blocks import blocks, in_blocks
from azr_jax.parallel.mesh import in_order
from azr_jax.parallel.ring import ring

GRIDS = sorted({(*map(int, grid.split("x")), 1)[:3] for grids in SLICES.values() for grid in grids})


@pytest.mark.parametrize("grid", [*GRIDS, (2, 6, 1), (3, 4, 2), (1, 5, 1)], ids=str)
def test_every_chip_once_and_what_follows_each_other_is_a_block_like_all_others(grid):
    places = blocks(grid)
    assert sorted(places) == [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
    for size in (n for n in (2, 4, 8, 16, 32) if len(places) % n == 0):
        shapes = set()
        for n in range(0, len(places), size):
            first = places[n]
            shapes.add(tuple(tuple(a - b for a, b in zip(place, first)) for place in places[n : n + size]))
        assert len(shapes) == 1, f"replicas of {size} do not lie alike"
        x, y, z = (max(axis) + 1 for axis in zip(*shapes.pop()))
        assert x * y * z == size, f"replicas of {size} are no blocks"


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if min(grid[:2]) > 1], ids=str)
def test_four_are_the_square_of_one_host(grid):
    places = blocks(grid)
    for n in range(0, len(places), 4):
        assert len({(x // 2, y // 2, z) for x, y, z in places[n : n + 4]}) == 1


def test_a_slice_of_sixteen_by_hand():
    assert [(x, y) for x, y, _ in blocks((4, 4, 1))] == [
        *((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)),
        *((0, 2), (1, 2), (0, 3), (1, 3), (2, 2), (3, 2), (2, 3), (3, 3)),
    ]


def devices(places, kind="TPU v5 lite"):
    return [SimpleNamespace(coords=place, device_kind=kind) for place in places]


@pytest.mark.parametrize(
    ("kind", "grid", "ordered"),
    [
        ("TPU v5 lite", (4, 4, 1), ring),
        ("TPU v5 lite", (4, 8, 1), blocks),
        ("TPU v5 lite", (16, 16, 1), blocks),
        ("TPU v6 lite", (8, 8, 1), ring),
        ("TPU v5", (4, 4, 4), ring),
    ],
)
def test_a_slice_is_a_ring_where_its_compiler_takes_one(kind, grid, ordered):
    places = [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
    assert [device.coords for device in in_order(devices(places, kind))] == ordered(grid)


def test_devices_that_do_not_lie_at_the_origin_are_put_in_the_same_order():
    shifted = in_blocks(devices((x + 2, y + 4, z) for x in range(2) for y in range(4) for z in range(1)))
    assert shifted and [(d.coords[0] - 2, d.coords[1] - 4, d.coords[2]) for d in shifted] == blocks((2, 4, 1))


def test_what_is_no_grid_keeps_the_order_that_jax_gives():
    assert in_blocks([SimpleNamespace(id=0), SimpleNamespace(id=1)]) is None, "CPUs and GPUs have no places"
    assert in_blocks(devices([(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 2, 0)])) is None
    two_cores = devices([(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)])
    assert in_blocks(two_cores) is None, "two devices to a chip, as on v4 without megacore"
