"""Every backend gives what plain softmax attention gives, forward and backward, on packed rows."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.models.attention import pick, segment_attention
from azr_jax.models.packed_splash import Tiles, first_and_last, tiles_of
from azr_jax.parallel.mesh import make_mesh

B, T, H, G, K = 2, 256, 8, 4, 64
RNG = np.random.default_rng(0)
Q, KEYS, V, WEIGHTS = (RNG.standard_normal((B, T, n, K)).astype(np.float32) for n in (H, G, G, H))
# Row 0: segments of 100, 90 and 40 tokens, 26 of padding. Row 1: one segment.
LENGTHS = ((100, 90, 40, 26), (256,))
POSITIONS = np.stack([np.concatenate([np.arange(n) for n in row]) for row in LENGTHS]).astype(np.int32)
SEGMENTS = np.stack([np.repeat(ids, row) for ids, row in zip(([1, 2, 3, 0], [1]), LENGTHS)]).astype(np.int32)


def plain(q, k, v, positions=POSITIONS, segments=SEGMENTS):
    scores = jnp.einsum("bthk,bshk->bhts", q, jnp.repeat(k, H // G, 2)) / np.sqrt(K)
    seen = (segments[:, :, None] == segments[:, None]) & (positions[:, :, None] >= positions[:, None])
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhts,bshk->bthk", weights, jnp.repeat(v, H // G, 2))


def with_gradients(attention, q, k, v, weights):
    def total(q, k, v):
        return jnp.sum(attention(q, k, v) * weights)

    return attention(q, k, v), *jax.grad(total, (0, 1, 2))(q, k, v)


@pytest.fixture(scope="module")
def expected():
    return [np.asarray(x) for x in jax.jit(lambda *a: with_gradients(plain, *a))(Q, KEYS, V, WEIGHTS)]


def backend_results(backend, q, k, v, weights, positions, segments):
    attend = segment_attention(backend, positions, segments)
    return with_gradients(lambda q, k, v: attend(q, k, v, None, jnp.int32(0))[0], q, k, v, weights)


@pytest.mark.parametrize("backend", ["xla", "splash", "auto"])
def test_backend_equals_plain_attention(backend, expected):
    ours = jax.jit(backend_results, static_argnums=0)(backend, Q, KEYS, V, WEIGHTS, POSITIONS, SEGMENTS)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("backend", ["xla", "splash"])
def test_backend_on_a_mesh_keeps_rows_and_heads_apart(backend, expected, eight_devices):
    mesh = make_mesh(2, 4, eight_devices)
    with jax.set_mesh(mesh):
        heads, rows = NamedSharding(mesh, P("fsdp", None, "tensor", None)), NamedSharding(mesh, P("fsdp", None))
        arrays = [jax.device_put(x, heads) for x in (Q, KEYS, V, WEIGHTS)]
        ids = [jax.device_put(x, rows) for x in (POSITIONS, SEGMENTS)]
        ours = jax.jit(backend_results, static_argnums=0)(backend, *arrays, *ids)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
        assert a.sharding == heads


def test_scores_of_the_whole_row_never_exist():
    """1,024 tokens, forward and backward: less than half of what plain attention takes."""
    shapes = [jax.ShapeDtypeStruct((1, 1024, n, K), jnp.float32) for n in (H, G, G, H)]
    ids = [jax.ShapeDtypeStruct((1, 1024), jnp.int32)] * 2
    ours = jax.jit(backend_results, static_argnums=0).lower("xla", *shapes, *ids).compile()

    def whole(q, k, v, weights, positions, segments):
        return with_gradients(lambda q, k, v: plain(q, k, v, positions, segments), q, k, v, weights)

    theirs = jax.jit(whole).lower(*shapes, *ids).compile()
    assert ours.memory_analysis().temp_size_in_bytes < theirs.memory_analysis().temp_size_in_bytes / 2


@pytest.mark.parametrize(
    ("platform", "length", "head_dim", "dtype", "backend"),
    [
        ("cpu", 256, 64, jnp.bfloat16, "xla"),
        ("tpu", 256, 64, jnp.bfloat16, "splash"),
        ("tpu", 200, 64, jnp.bfloat16, "xla"),
        ("gpu", 200, 64, jnp.bfloat16, "cudnn"),
        ("cuda", 256, 64, jnp.float32, "xla"),
        ("gpu", 256, 256, jnp.bfloat16, "xla"),
    ],
)
def test_auto_picks_by_platform_and_shape_and_says_so(platform, length, head_dim, dtype, backend, caplog):
    with caplog.at_level("INFO"):
        assert pick(platform, SimpleNamespace(shape=(1, length, 8, head_dim), dtype=dtype)) == backend
    assert f"attention=auto: {backend} on {platform}" in caplog.text


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="attention='flash': should be one of auto, xla, cudnn, splash"):
        segment_attention("flash", POSITIONS, SEGMENTS)
    short = [x[:, :100] for x in (Q, KEYS, V)]
    with pytest.raises(ValueError, match="rows of 100 tokens: it should be a multiple of 128"):
        segment_attention("splash", POSITIONS[:, :100], SEGMENTS[:, :100])(*short, None, 0)


# Rows of 768 tokens: samples that begin and end inside tiles, one longer than a tile, and padding that fills some.
PACKED = ((300, 20, 330, 118), (1, 255, 128, 384))
PACKED_IDS = ((1, 2, 3, 0), (1, 2, 3, 0))
PACKED_SEGMENTS = np.stack([np.repeat(ids, row) for ids, row in zip(PACKED_IDS, PACKED)]).astype(np.int32)
PACKED_POSITIONS = np.stack([np.concatenate([np.arange(n) for n in row]) for row in PACKED]).astype(np.int32)


@pytest.mark.parametrize(("heads", "kv_heads"), [(7, 1), (4, 2)])
def test_splash_over_tiles_of_the_packing_equals_the_dense_mask(heads, kv_heads):
    rng, shape = np.random.default_rng(1), PACKED_SEGMENTS.shape
    q, k, v, weights = (
        rng.standard_normal((*shape, n, 32)).astype(np.float32) for n in (heads, kv_heads, kv_heads, heads)
    )
    real = (PACKED_SEGMENTS > 0)[..., None, None]

    def dense(q, k, v):
        scores = jnp.einsum("bthk,bshk->bhts", q, jnp.repeat(k, heads // kv_heads, 2)) / np.sqrt(32)
        seen = PACKED_SEGMENTS[:, :, None] == PACKED_SEGMENTS[:, None]
        seen &= PACKED_POSITIONS[:, :, None] >= PACKED_POSITIONS[:, None]
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
        return jnp.einsum("bhts,bshk->bthk", weights, jnp.repeat(v, heads // kv_heads, 2))

    expected = jax.jit(lambda *a: with_gradients(dense, *a))(q, k, v, weights * real)
    ours = jax.jit(backend_results, static_argnums=0)(
        "splash", q, k, v, weights * real, PACKED_POSITIONS, PACKED_SEGMENTS
    )
    assert all(np.isfinite(x).all() for x in ours)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(np.where(real, a, 0), np.where(real, b, 0), atol=3e-5)


def test_splash_does_not_look_at_tiles_of_other_samples():
    """The first 512 tokens are a sample of their own: whatever their values are, nobody behind them multiplies it."""
    segments = np.repeat([1, 2, 3], [512, 300, 212])[None].astype(np.int32)
    q, k, v, weights = (np.ones((1, 1024, n, 32), np.float32) for n in (2, 1, 1, 2))
    v[:, :512], weights[:, :512] = np.nan, 0
    out, *_ = jax.jit(backend_results, static_argnums=0)("splash", q, k, v, weights, segments * 0, segments)
    assert np.isfinite(out[:, 512:]).all()


@pytest.mark.parametrize("heads", [1, 4, 7])
def test_tiles_hold_every_pair_that_is_needed(heads):
    tiles = Tiles(256 if heads < 7 else 128, heads, 256)
    for segments, positions in zip(PACKED_SEGMENTS, PACKED_POSITIONS):
        first, last = (np.asarray(x) for x in first_and_last(jnp.asarray(segments), tiles))
        assert (np.diff(first) >= 0).all()  # what the way through the queries of a tile of keys takes for granted
        needed = (segments[:, None] == segments) & (positions[:, None] >= positions) & (segments > 0)
        query, key = np.nonzero(needed)
        query, key = query // tiles.tokens, key // tiles.keys
        assert (first[query] <= key).all() and (key <= last[query]).all()


def test_heads_of_a_key_go_together_as_far_as_a_tile_holds_them():
    assert tiles_of(14336, 7) == Tiles(tokens=128, heads=7, keys=512)
    assert tiles_of(14336, 4) == Tiles(tokens=256, heads=4, keys=512)
    assert tiles_of(14336, 1) == Tiles(tokens=256, heads=1, keys=512)
    assert tiles_of(14336, 12) == Tiles(tokens=128, heads=6, keys=512)  # in two parts
    assert tiles_of(14336 + 128, 8) == Tiles(tokens=128, heads=8, keys=128)
    assert tiles_of(2048, 7) == Tiles(tokens=128, heads=7, keys=256)  # short rows hold short samples
