"""A kernel that does not see what XLA sees is refused before anything is sampled; what XLA does itself is not asked."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.pallas import tpu as pltpu

from azr_jax.models.spec import ModelSpec
from azr_jax.rollout import attention_check, paged_fused, paged_gpu, paged_tpu, paged_xla
from azr_jax.rollout.attention import decode_slots
from azr_jax.rollout.attention_check import AttentionDiffers, check_attention
from azr_jax.rollout.programs import Programs
from azr_jax.rollout.requests import EngineSettings

SPEC = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=128, mlp=64, tied=True)
SETTINGS = EngineSettings(
    slots=5, max_prompt_tokens=40, max_new_tokens=24, page_size=16, prefill_tokens=16, attention="tpu"
)


def programs(backend: Any = paged_tpu, spec: ModelSpec = SPEC, **changes) -> Programs:
    found = Programs(spec, dataclasses.replace(SETTINGS, **changes))
    found.backend = backend
    found.tile = found.settings.tile(backend.tile_of(spec.head_dim))
    return found


def broken(**parts):
    return SimpleNamespace(**{name: getattr(paged_xla, name) for name in dir(paged_xla)} | parts)


@pytest.mark.parametrize("rows", [0, 64])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_kernel_passes(dtype, rows, monkeypatch):
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)  # as in test_tpu_kernel.py
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        check_attention(programs(dtype=dtype, prefill_rows=rows))


@pytest.mark.parametrize("drafts", [0, 2])
def test_the_kernel_that_writes_itself_passes(drafts, monkeypatch):
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        check_attention(programs(paged_fused, attention="tpu_fused", prefill_rows=64, draft_tokens=drafts))


def test_tiles_longer_than_xlas_pass(monkeypatch):
    """Heads of 64: the second prompt begins where a tile of 32 does."""
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)
    changes = {"attention": "tpu_fused", "prefill_rows": 64, "prefill_tokens": 32}
    with pltpu.force_tpu_interpret_mode(True):  # type: ignore[arg-type]
        found = programs(paged_fused, dataclasses.replace(SPEC, head_dim=64), **changes)
        assert found.tile == 32
        check_attention(found)


def test_a_kernel_that_writes_itself_to_another_place_is_refused(monkeypatch):
    monkeypatch.setattr("jax._src.literals.TypedInt.shape", (), raising=False)
    rightly = paged_fused.write_and_attend_slots

    def one_place_early(q, k, v, cache, layer, table, position, *rest):
        return rightly(q, k, v, cache, layer, table, jnp.maximum(position - 1, 0), *rest)

    other = SimpleNamespace(**{name: getattr(paged_fused, name) for name in dir(paged_fused)})
    other.write_and_attend_slots = one_place_early
    with pltpu.force_tpu_interpret_mode(True), pytest.raises(AttentionDiffers, match="decoding slots"):  # type: ignore
        check_attention(programs(other, attention="tpu_fused", prefill_rows=64))


def test_a_kernel_that_sees_all_but_writes_nothing_is_refused():
    """What is new is laid over the copy of its page, so a step by itself does not show whether it ever arrived."""

    def nothing_written(q, k, v, cache, *rest):
        seen, _ = decode_slots(paged_xla, q, k, v, cache, *rest)
        return seen, cache

    with pytest.raises(AttentionDiffers, match="decoding slots"):
        check_attention(programs(broken(write_and_attend_slots=nothing_written), draft_tokens=2))


@pytest.mark.parametrize("rows", [0, 64])
def test_what_gpus_are_given_passes(rows):
    check_attention(programs(paged_gpu, attention="gpu", prefill_rows=rows))


def one_token_late(q, cache, layer, table, position_S, on_S, window=None):
    return paged_xla.attend_slots(q, cache, layer, table, jnp.maximum(position_S - 1, 0), on_S)


def another_layer(q, cache, layer, call, rows, tile, window=None):
    return paged_xla.attend_chunk(q, cache, layer - 1, call, rows, tile)


def the_first_prompt_alone(q, cache, layer, call, rows, tile, window=None):
    """Whichever prompt a row belongs to, it looks at the pages of the first."""
    call = call._replace(table=jnp.broadcast_to(call.table[:1], call.table.shape))
    return paged_xla.attend_chunk(q, cache, layer, call, rows, tile)


def nothing(q, *rest, window=None):
    return jnp.full_like(q, jnp.nan)


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"attend_slots": one_token_late}, "decoding slots"),
        ({"attend_chunk": another_layer}, "pieces of prompts"),
        ({"attend_chunk": nothing}, "pieces of prompts"),
        ({"attend_chunk": the_first_prompt_alone}, "pieces of prompts"),
    ],
)
def test_a_kernel_that_sees_something_else_is_refused_in_one_line(parts, where):
    with pytest.raises(AttentionDiffers) as refused:
        check_attention(programs(broken(**parts), prefill_rows=64))
    said = str(refused.value)
    assert said.startswith(f"attention=tpu: over random pages, the kernel's attention of {where} is off XLA's by")
    assert "at most 0.05" in said and "\n" not in said


def test_where_xla_attends_itself_nothing_is_computed(monkeypatch):
    monkeypatch.setattr(attention_check, "_random", None)
    check_attention(programs(paged_xla, attention="auto"))
    assert jax.default_backend() == "cpu"
