"""What the tests of models/ share: golden folders, a plain sequence's logits, and the simplest cache there is."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from azr_jax.models.attention import segment_attention

GOLDEN = np.load(Path(__file__).parent / "golden.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})
TOKENS = np.random.default_rng(0).integers(0, 96, (1, 40))  # those of make_golden.py


def golden_logits(case: str) -> np.ndarray:
    return GOLDEN[f"{case}/logits"]


def golden_folder(case: str, folder: Path, dtype=ml_dtypes.bfloat16) -> Path:
    """The case as a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(str(GOLDEN[f"{case}/config"]))
    save_file(golden_tensors(case, dtype), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def golden_tensors(case: str, dtype=ml_dtypes.bfloat16) -> dict[str, np.ndarray]:
    prefix = f"{case}/w/"
    keys = [key for key in GOLDEN.files if key.startswith(prefix)]
    return {key.removeprefix(prefix): GOLDEN[key].view(ml_dtypes.bfloat16).astype(dtype) for key in keys}


def golden_config(case: str) -> dict:
    return json.loads(str(GOLDEN[f"{case}/config"]))


def plain(tokens_BxT) -> tuple[jax.Array, jax.Array]:
    """Positions and segments of rows that are one sequence each."""
    positions = jnp.broadcast_to(jnp.arange(tokens_BxT.shape[1], dtype=jnp.int32), tokens_BxT.shape)
    return positions, jnp.ones_like(positions)


def logits(model, tokens_BxT, positions_BxT=None, segments_BxT=None, *, backend="xla", dtype=jnp.float32, remat="none"):
    tokens_BxT = jnp.asarray(tokens_BxT, jnp.int32)
    if positions_BxT is None:
        positions_BxT, segments_BxT = plain(tokens_BxT)
    attend = segment_attention(backend, positions_BxT, segments_BxT)
    return model.logits(model.hidden(tokens_BxT, positions_BxT, attend, dtype=dtype, remat=remat)[0])


def empty_cache(spec, rows: int, length: int) -> tuple[jax.Array, jax.Array]:
    shape = (spec.depth, rows, length, spec.kv_heads, spec.head_dim)
    return jnp.zeros(shape), jnp.zeros(shape)


def cached_attend(positions_BxT):
    """Writes the new keys and values at their positions, attends to all up to each query's own."""
    rows = jnp.arange(positions_BxT.shape[0])[:, None]

    def attend(q, k, v, cache, layer, window=None):
        keys, values = (c.at[layer, rows, positions_BxT].set(x) for c, x in zip(cache, (k, v)))
        groups = q.shape[2] // k.shape[2]
        k_all, v_all = (jnp.repeat(c[layer], groups, axis=2) for c in (keys, values))
        scores = jnp.einsum("bthk,bshk->bhts", q, k_all) * q.shape[-1] ** -0.5
        back = positions_BxT[:, None, :, None] - jnp.arange(k_all.shape[1])
        seen = back >= 0 if window is None else (back >= 0) & (back < window)
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.einsum("bhts,bshk->bthk", weights, v_all), (keys, values)

    return attend
