"""Before a run trusts a kernel: on its own device and at its own sizes, does it see what XLA sees? Asked once.

A kernel that reads one page too few trains on, a little worse, for days. So both look at the same random pages:
decoding slots of all lengths from one token to the longest, and the last piece of a long prompt, beside the first one
of another where calls read several. Slots decode twice: a kernel that writes the cache itself may see what it never
wrote, but not a step later. Where paged_xla.py attends, as on a CPU, there is nothing to compare.

Left out: the learner's attention, and what the exchange between devices could spoil. That the learner finds other
log-probabilities than the sampler did is measured in every iteration.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout.attention import BACKENDS, Backend, Cache, decode_slots
from azr_jax.rollout.pieces import Call, by_row, nothing
from azr_jax.rollout.programs import Programs
from azr_jax.rollout.requests import TILE, EngineSettings

# Of the norm of what one head sees: two roundings to bfloat16 make about 0.01 of it, and one token too many or too few
# in a short context a multiple.
TOLERANCE = 0.05
LAYERS = 2  # of the cache, so that looking at another one is seen


class AttentionDiffers(RuntimeError):
    """The kernel does not see what XLA sees."""


def check_attention(programs: Programs) -> None:
    """Raises AttentionDiffers, in one line. Waits for this process's own device alone."""
    if programs.backend is BACKENDS["xla"]:
        return
    spec, settings, tensor = programs.spec, programs.settings, programs.mesh.shape["tensor"]
    mine = (device for device in programs.mesh.devices.flat if device.process_index == jax.process_index())
    one = make_mesh(1, 1, [device := next(mine)])
    numbers = _random(spec, settings, tensor, max(programs.tile, TILE))
    kernel, xla = (_seen(backend, settings, one, numbers) for backend in (programs.backend, BACKENDS["xla"]))
    for what, found, wanted in zip(("decoding slots", "pieces of prompts"), kernel, xla):
        norms = np.linalg.norm(wanted, axis=-1)
        worst = float(np.max(np.linalg.norm(found - wanted, axis=-1) / norms))
        if not worst <= TOLERANCE:  # NaN neither
            raise AttentionDiffers(
                f"attention={settings.attention}: over random pages, the kernel's attention of {what} is off XLA's by "
                f"{worst:.2g} of its norm on {device.device_kind} (jax {jax.__version__}); at most {TOLERANCE} is "
                "rounding. Should be xla here, or another version of jax"
            )


def _random(spec: ModelSpec, settings: EngineSettings, tensor: int, tile: int) -> dict[str, Any]:
    """What one device of a replica could be given: each slot ends in a page of its own, others may share theirs."""
    rng, S, P, M = np.random.default_rng(0), settings.rows, settings.page_size, settings.pages_per_slot
    heads, kv_heads, N = spec.heads // tensor, spec.kv_heads // tensor, M + S

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32).astype(jnp.dtype(settings.dtype))

    position_S = np.geomspace(max(settings.longest - 1, 1), 1, S).astype(np.int32)  # the longest first
    table_SxM = rng.permuted(np.tile(np.arange(M, dtype=np.int32), (S, 1)), axis=1)
    table_SxM[np.arange(S), position_S // P] = M + np.arange(S)
    guessed_S = np.zeros(S, np.int32)
    if settings.draft_tokens and S > 2 and position_S[0] > 0:  # the second row is the first one's slot, a token further
        position_S[1], guessed_S[1] = position_S[0], 1
        position_S[0] -= 1
        table_SxM[0, position_S[0] // P] = M + 1 if position_S[0] // P != position_S[1] // P else M
        table_SxM[1] = table_SxM[0]
    now = position_S, np.arange(S) < S - 1, guessed_S  # the last one is off
    one_before = (np.arange(S) < S - 1) & (guessed_S == 0) & (position_S % P > 0)  # in the page that nobody shares
    before = np.where(one_before, position_S - 1, 0), one_before, np.zeros_like(guessed_S)
    return {
        # Queries of twice the size, so that a few tokens matter more than the others.
        "q_Sx1xHxK": 2 * normal(S, 1, heads, spec.head_dim),
        "q_1xTxHxK": 2 * normal(1, settings.prefill_shapes[-1], heads, spec.head_dim),
        "pages_2xLxNPxGxK": normal(2, LAYERS, N * P, kv_heads, spec.head_dim),
        "new_2x2xSx1xGxK": normal(2, 2, S, 1, kv_heads, spec.head_dim),
        "steps_2xS": tuple(np.stack(both) for both in zip(before, now)),
        "table_SxM": table_SxM,
        "call": _call(settings, table_SxM, tile),
    }


def _call(settings: EngineSettings, table_SxM: np.ndarray, tile: int) -> Call:
    """The last piece of a long prompt, and behind it the first one of another where there is room for it."""
    last, T = max(1, settings.max_prompt_tokens - 1), settings.prefill_shapes[-1]
    call = jax.tree.map(lambda of_1: of_1[0], nothing(1, T, settings.prefill_pieces, settings.pages_per_slot))
    start = max(0, last - settings.chunk) // settings.page_size * settings.page_size
    length = min(last - start, settings.chunk, T)
    whole = length // tile * tile
    if whole and settings.prefill_pieces > 1 and whole < T:
        length = whole
        call.row[1], call.end[1], call.table[1] = whole, min(T - whole, last), table_SxM[1]
    call.start[0], call.end[0], call.table[0] = start, start + length, table_SxM[0]
    return call


def _seen(backend: Backend, settings: EngineSettings, mesh: Any, numbers: dict[str, Any]) -> list[np.ndarray]:
    """What the slots that are on see, and the tokens of the piece, in float32."""
    fill, look = _programs(backend, settings, mesh)
    with jax.set_mesh(mesh):
        _, *seen = look(fill(numbers), numbers)
        slots, piece = map(np.asarray, seen)
    _, (_, on_S), _ = numbers["steps_2xS"]
    return [slots[on_S], piece[0, np.asarray(by_row(numbers["call"]).live)]]


def _programs(backend: Backend, settings: EngineSettings, mesh: Any) -> list[jax.stages.Wrapped]:
    """One that makes the cache, and one that looks at it and gives it back, as in a run.

    A cache that is made where it is looked at would lie in a core's memory, if it is small enough, and there kernels
    copy in another way than they will.
    """
    P = settings.page_size

    def fill(n: dict[str, Any]) -> Cache:
        _, layers, tokens, kv_heads, head_dim = n["pages_2xLxNPxGxK"].shape
        cache = backend.empty_cache(layers, tokens // P, P, kv_heads, head_dim, jnp.dtype(settings.pool_dtype))
        for layer in range(layers):
            k, v = n["pages_2xLxNPxGxK"][:, layer, None]
            cache = backend.write_chunk(k, v, cache, layer, *jnp.divmod(jnp.arange(tokens), P), P)
        return cache

    def look(cache: Cache, n: dict[str, Any]) -> tuple[Cache, jax.Array, jax.Array]:
        def step(cache: Cache, of: Any) -> tuple[Cache, jax.Array]:
            (k, v), where = of
            slots, cache = decode_slots(backend, n["q_Sx1xHxK"], k, v, cache, 1, n["table_SxM"], *where)
            return cache, slots

        cache, (_, slots) = jax.lax.scan(step, cache, (n["new_2x2xSx1xGxK"], n["steps_2xS"]))
        tile = settings.tile(backend.tile_of(n["q_1xTxHxK"].shape[-1])) or settings.chunk
        piece = backend.attend_chunk(n["q_1xTxHxK"], cache, 1, n["call"], by_row(n["call"]), tile)
        return cache, slots.astype(jnp.float32), piece.astype(jnp.float32)

    here = PartitionSpec()
    on_mesh = (jax.shard_map(of, mesh=mesh, in_specs=here, out_specs=here, check_vma=False) for of in (fill, look))
    return [jax.jit(program, donate_argnums=donated) for program, donated in zip(on_mesh, ((), 0))]
