"""The decode kernel over a cache of eight bits, compiled for shapes at its edge: it fits a core, and copies no pool."""

import importlib.util

import pytest

from azr_jax.dryrun import topology

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason='needs the TPU compiler: pip install "jax[tpu]"'
    ),
]
LAYERS, PAGES, WIDTH = 2, 256, 8  # pages of all, and of a slot


def compiled(slice_name: str, program, *shapes):
    topology.prepare()
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from azr_jax.parallel import flags
    from azr_jax.parallel.mesh import make_mesh

    one, everywhere = make_mesh(1, 1, topology.devices(topology.find(slice_name))[:1]), PartitionSpec()
    at = NamedSharding(one, everywhere)
    args = jax.tree.map(lambda of: jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=at), shapes)
    alone = jax.shard_map(program, mesh=one, in_specs=everywhere, out_specs=everywhere, check_vma=False)
    with jax.set_mesh(one):
        lowered = jax.jit(alone, donate_argnums=0).lower(*args)
        return lowered.compile(compiler_options=flags.of_chip(slice_name.partition(":")[0]) or None)


def shape(dtype: str, *sizes: int):
    import jax

    return jax.ShapeDtypeStruct(sizes, dtype)


def empty(page: int, kv_heads: int, head_dim: int):
    import jax

    from azr_jax.rollout import paged_steps

    return jax.eval_shape(lambda: paged_steps.empty_cache(LAYERS, PAGES, page, kv_heads, head_dim, "int8"))


def bytes_of(pools) -> int:
    return sum(pool.size * pool.dtype.itemsize for pool in pools)


@pytest.mark.parametrize(
    ("slice_name", "heads", "kv_heads", "head_dim", "page", "slots"),
    [
        ("v5e:2x2", 16, 16, 128, 128, 128),
        ("v5e:2x2", 32, 32, 128, 128, 64),
        ("v5e:2x2", 32, 32, 64, 256, 128),
        ("v5e:2x2", 64, 8, 128, 128, 256),
        ("v5p:2x2x1", 8, 8, 128, 512, 512),
        ("v6e:2x2", 8, 8, 128, 512, 512),
    ],
)
def test_what_belongs_to_a_steps_slots_fits_a_core(slice_name, heads, kv_heads, head_dim, page, slots):
    """With guesses, which take most. What goes back of a slot had not been counted."""
    from azr_jax.rollout import paged_steps

    cache = empty(page, kv_heads, head_dim)
    rows = (shape("bfloat16", slots, 1, count, head_dim) for count in (heads, kv_heads, kv_heads))
    words = shape("int32", slots)
    found = compiled(
        slice_name,
        lambda cache, q, k, v, *where: paged_steps.write_and_attend_slots(q, k, v, cache, 1, *where),
        cache, *rows, shape("int32", slots, WIDTH), words, shape("bool", slots), words,
    )  # fmt: skip
    assert found.memory_analysis().temp_size_in_bytes < bytes_of(cache) / LAYERS


@pytest.mark.parametrize(("kv_heads", "head_dim"), [(8, 128), (16, 64)])
def test_large_pages_are_read_by_prompts_without_a_copy_of_the_pool(kv_heads, head_dim):
    topology.prepare()
    import jax

    from azr_jax.rollout import paged_steps
    from azr_jax.rollout.pieces import by_row, nothing

    rows, tile = 512, 16
    call = jax.tree.map(lambda x: x[0], nothing(1, rows, rows // tile, WIDTH))
    cache = empty(256, kv_heads, head_dim)

    def program(cache, q, k, v, call, page, row):
        def layer(number, carried):
            cache, q = carried
            cache = paged_steps.write_chunk(k, v, cache, number, page, row, tile)
            return cache, paged_steps.attend_chunk(q, cache, number, call, by_row(call), tile)

        return jax.lax.fori_loop(0, LAYERS, layer, (cache, q))

    new = (shape("bfloat16", 1, rows, count, head_dim) for count in (32, kv_heads, kv_heads))
    found = compiled("v5e:2x2", program, cache, *new, call, shape("int32", rows), shape("int32", rows))
    assert found.memory_analysis().temp_size_in_bytes < bytes_of(cache) / 2
