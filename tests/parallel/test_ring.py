"""The order of a slice's chips: neighbours follow each other, and a replica of the sampler is one host's square."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from azr_jax.dryrun.topology import SLICES
from azr_jax.parallel.ring import beside, in_a_ring, ring

GRIDS = sorted(
    {
        (*map(int, grid.split("x")), 1)[:3]
        for grids in SLICES.values()
        for grid in grids
        if not any(int(n) % 2 for n in grid.split("x")[:2])
    }
)
NO_WAY_BACK = {(2, 2, 4)}  # four hosts in a row, one above the other


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_chip_once_each_beside_the_one_before_and_four_to_a_host(grid):
    places = ring(grid)
    assert sorted(places) == [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
    assert all(beside(a, b) for a, b in pairwise(places))
    assert beside(places[-1], places[0]) == (grid not in NO_WAY_BACK)
    for n in range(0, len(places), 4):
        assert len({(x // 2, y // 2, z) for x, y, z in places[n : n + 4]}) == 1


def test_a_slice_of_sixteen_by_hand():
    """Its four hosts are visited once round; JAX's own order crosses from host to host in the middle of a replica."""
    hosts = [(x // 2, y // 2) for x, y, _ in ring((4, 4, 1))[::4]]
    assert hosts == [(0, 0), (0, 1), (1, 1), (1, 0)]


def devices(places):
    return [SimpleNamespace(coords=place) for place in places]


def test_devices_that_do_not_lie_at_the_origin_are_put_in_the_same_order():
    shifted = in_a_ring(devices((x + 2, y + 4, z) for x in range(2) for y in range(4) for z in range(1)))
    assert shifted and [(d.coords[0] - 2, d.coords[1] - 4, d.coords[2]) for d in shifted] == ring((2, 4, 1))


def test_what_is_no_grid_of_squares_keeps_the_order_that_jax_gives():
    assert in_a_ring([SimpleNamespace(id=0), SimpleNamespace(id=1)]) is None, "CPUs and GPUs have no places"
    assert in_a_ring(devices([(0, 0, 0)])) is None, "one chip"
    assert in_a_ring(devices([(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 2, 0)])) is None
    two_cores = devices([(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)])
    assert in_a_ring(two_cores) is None, "two devices to a chip, as on v4 without megacore"
