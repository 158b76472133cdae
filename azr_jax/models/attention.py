"""Attention over rows of packed segments: one signature, one function per backend, no kernel of our own.

`segment_attention(backend, positions, segments)` gives the `attend` that `Transformer.hidden` calls in every layer.
A token sees the tokens of its own segment at its own position and before. Within a row, the tokens of a segment stand
together in order of position (as packing leaves them); padding is segment 0 and sees only padding, if not all of it.

Where samples share the beginning of their prompts, it stands in the segment of the first of them, and `ends` says for
each token up to which segment it is seen. That is for xla alone.

xla     any device; blocks of queries, no [T, T] scores in memory at one time
cudnn   NVIDIA, bfloat16 or float16, heads of at most 128 numbers (jax.nn.dot_product_attention); packing costs it a
        [T, T] mask per row
splash  TPU, rows of a multiple of 128 tokens, only what the packing needs of them (packed_splash.py)

Windows (Gemma 3: how far back a query sees differs between layers) are for xla alone.

No cache here: the engine's paged attention is its own `attend`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from azr_jax.models import packed_splash
from azr_jax.models.products import layout_of
from azr_jax.models.transformer import Attend
from azr_jax.parallel.trees import PyTree

log = logging.getLogger(__name__)

Kernel = Callable[..., jax.Array]

QUERY_BLOCK = 128  # xla: queries whose scores exist at one time
FAR_BELOW = -1e30  # a masked score: finite, so that no row of scores can turn to NaN


def segment_attention(
    backend: str, positions_BxT: jax.Array, segments_BxT: jax.Array, ends_BxT: jax.Array | None = None
) -> Attend:
    """An `attend` for these rows. `auto` picks by platform and shape, and logs what it picked."""
    if backend != "auto" and backend not in KERNELS:
        raise ValueError(f"attention={backend!r}: should be one of auto, {', '.join(KERNELS)}")

    def attend(
        q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, cache: PyTree, layer: jax.Array, window: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        del layer
        if window is not None or ends_BxT is not None:
            if backend not in ("auto", "xla"):
                raise ValueError(f"attention={backend!r}: windows and shared prompts need 'xla' or 'auto'")
            return _xla(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT, window, ends_BxT), cache
        name = pick(_platform(q_BxTxHxK), q_BxTxHxK) if backend == "auto" else backend
        return KERNELS[name](q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT), cache

    return attend


def pick(platform: str, q_BxTxHxK: jax.Array) -> str:
    """The fastest backend that can compute this shape on this platform."""
    _, length, _, head_dim = q_BxTxHxK.shape
    name = "xla"
    if platform == "tpu" and length % packed_splash.SIZES[-1] == 0:
        name = "splash"
    elif platform in ("gpu", "cuda") and q_BxTxHxK.dtype in (jnp.bfloat16, jnp.float16) and head_dim <= 128:
        name = "cudnn"
    log.info("attention=auto: %s on %s for %s of %s", name, platform, q_BxTxHxK.dtype, q_BxTxHxK.shape)
    return name


def _platform(x: jax.Array) -> str:
    """Of the mesh that x lies on, which need not be this machine's when compiling for another one."""
    device = getattr(jax.typeof(x).sharding.mesh, "abstract_device", None)
    return getattr(device, "platform", None) or jax.default_backend()


def _xla(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT, window=None, ends_BxT=None) -> jax.Array:
    """Blocks of queries against all keys up to the block's end; the backward pass computes a block's scores again."""
    block = jax.checkpoint(_query_block)
    length, out = q_BxTxHxK.shape[1], []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        queries, keys = slice(start, end), slice(0, end)
        if ends_BxT is None:
            mask = segments_BxT[:, queries, None] == segments_BxT[:, None, keys]
        else:
            mask = segments_BxT[:, queries, None] >= segments_BxT[:, None, keys]
            mask &= segments_BxT[:, queries, None] <= ends_BxT[:, None, keys]
        back_BxTxS = positions_BxT[:, queries, None] - positions_BxT[:, None, keys]
        mask &= back_BxTxS >= 0
        if window is not None:
            mask &= back_BxTxS < window
        out.append(block(q_BxTxHxK[:, queries], k_BxTxGxK[:, keys], v_BxTxGxK[:, keys], mask))
    return jnp.concatenate(out, axis=1)


def _query_block(q_BxTxHxK, k_BxSxGxK, v_BxSxGxK, mask_BxTxS) -> jax.Array:
    """Softmax attention as two plain matrix products per key/value head, with its R queries as rows.

    So keys are never repeated, and the division waits until after the second product: K numbers a row, not S.
    """
    b, t, h, k = q_BxTxHxK.shape
    s, g = k_BxSxGxK.shape[1:3]
    dtype, rows = q_BxTxHxK.dtype, (b, g, h // g * t)
    q_BxGxNxK = (q_BxTxHxK * k**-0.5).reshape(b, t, g, h // g, k).transpose(0, 2, 3, 1, 4).reshape(*rows, k)
    k_BxGxKxS, v_BxGxSxK = k_BxSxGxK.transpose(0, 2, 3, 1), v_BxSxGxK.transpose(0, 2, 1, 3)
    scores = jnp.einsum("bgnk,bgks->bgns", q_BxGxNxK, k_BxGxKxS, preferred_element_type=jnp.float32)
    scores = jnp.where(mask_BxTxS[:, None, None], scores.reshape(b, g, h // g, t, s), FAR_BELOW).reshape(*rows, s)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    o_BxGxNxK = jnp.einsum("bgns,bgsk->bgnk", weights.astype(dtype), v_BxGxSxK, preferred_element_type=jnp.float32)
    o_BxGxNxK = (o_BxGxNxK / total).astype(dtype)
    return o_BxGxNxK.reshape(b, g, h // g, t, k).transpose(0, 3, 1, 2, 4).reshape(b, t, h, k)


def _per_device(kernel: Kernel) -> Kernel:
    """Run a kernel that knows no meshes on each device's rows and heads."""

    @functools.wraps(kernel)
    def sharded(q, k, v, positions, segments) -> jax.Array:
        layout = layout_of(q)
        if layout is None:
            return kernel(q, k, v, positions, segments)
        rows = P(layout[0], None)
        return jax.shard_map(kernel, in_specs=(layout, layout, layout, rows, rows), out_specs=layout, check_vma=False)(
            q, k, v, positions, segments
        )

    return sharded


@_per_device
def _cudnn(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT) -> jax.Array:
    del positions_BxT  # as the rows' order
    mask_Bx1xTxT = (segments_BxT[:, :, None] == segments_BxT[:, None, :])[:, None]
    return jax.nn.dot_product_attention(
        q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, mask=mask_Bx1xTxT, is_causal=True, implementation="cudnn"
    )


@_per_device
def _splash(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, positions_BxT, segments_BxT) -> jax.Array:
    del positions_BxT  # as the rows' order
    q_BxTxHxK = q_BxTxHxK * q_BxTxHxK.shape[-1] ** -0.5
    row = functools.partial(packed_splash.attend_row, interpret=_platform(q_BxTxHxK) == "cpu")
    return jax.vmap(row)(q_BxTxHxK, k_BxTxGxK, v_BxTxGxK, segments_BxT)


KERNELS: dict[str, Kernel] = {"xla": _xla, "cudnn": _cudnn, "splash": _splash}
