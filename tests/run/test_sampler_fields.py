"""Fields of the sampler reach it, and what it cannot do is refused in one line before any weight is read."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from azr_jax.config.flags import load
from azr_jax.config.schema import ConfigError
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout import attention, paged_tpu
from azr_jax.rollout.cache import chunk_shapes
from azr_jax.rollout.requests import EngineSettings
from azr_jax.run import build
from azr_jax.run.settings import engine_settings

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=64, mlp=64, tied=True, max_positions=4096)


def config(**flags: str):
    found, problems = load(ROOT / "configs/tiny.py", {name.replace("__", "."): v for name, v in flags.items()})
    assert not problems
    return found


def test_a_prompt_is_read_in_pieces_of_the_tokens_asked_for():
    """The piece is whole pages, and shorter ends of prompts have shapes of their own, down to an eighth of it."""
    assert engine_settings(config(rollout__page_size="64"), 4).chunk == 128
    settings = engine_settings(config(rollout__page_size="64", rollout__prefill_tokens="512"), 4)
    assert chunk_shapes(settings.chunk, settings.page_size) == (64, 128, 256, 512)


def test_a_call_reads_one_piece_or_as_many_prompts_as_go_into_its_rows():
    assert engine_settings(config(rollout__page_size="64"), 4).prefill_shapes == (64, 128)
    assert engine_settings(config(rollout__prefill_rows="256"), 4).prefill_shapes == (256,)
    _, problems = load(ROOT / "configs/tiny.py", {"rollout.prefill_rows": "100"})
    assert problems == ["rollout.prefill_rows=100: should be 0 or a multiple of 16"]


def test_who_looks_at_the_pages_is_a_field():
    assert engine_settings(config(), 4).attention == "auto"
    assert engine_settings(config(rollout__attention="xla"), 4).attention == "xla"


def test_the_kernel_is_refused_where_there_is_no_tpu():
    for kernel in ("tpu", "tpu_fused"):
        with pytest.raises(ConfigError, match=rf"^rollout\.attention={kernel}: this is cpu; should be xla, or auto$"):
            build.check_fits(config(rollout__attention=kernel), SPEC)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({}, "it takes heads of 128 numbers, not 64"),
        ({"rollout__page_size": "1"}, "a page table of 33024 bytes .slots x pages of a slot. is more than 1024: take"),
    ],
)
def test_what_the_kernel_cannot_take_is_said_before_any_weight_is_read(monkeypatch, flags, reason):
    """It was said once the weights had been loaded, for the engine chooses who attends."""
    spec = replace(SPEC, head_dim=128) if flags else SPEC
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(attention, "TABLE_BYTES", 1024)
    with pytest.raises(ConfigError, match=rf"^rollout\.attention=tpu: {reason}"):
        build.check_fits(config(rollout__attention="tpu", **flags), spec)


@pytest.mark.parametrize(
    ("flags", "head_dim", "reason"),
    [({}, 96, "it takes heads of 64 or 128 numbers"), ({"rollout__page_size": "24"}, 128, "it takes pages of a power")],
)
def test_what_the_kernel_of_our_own_cannot_take_is_said_before_any_weight_is_read(monkeypatch, flags, head_dim, reason):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ConfigError, match=rf"^rollout\.attention=tpu_fused: {reason}.*; should be xla, or auto$"):
        build.check_fits(config(rollout__attention="tpu_fused", **flags), replace(SPEC, head_dim=head_dim))


@pytest.mark.parametrize("rollout__page_size", ["64", "128"])
def test_a_cache_of_eight_bits_is_not_left_to_xla_on_a_tpu(monkeypatch, rollout__page_size):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    c = config(rollout__kv_cache_dtype="int8", learner__importance="token", rollout__page_size=rollout__page_size)
    if rollout__page_size == "128":
        build.check_fits(c, SPEC)
        return
    said = r"^rollout\.kv_cache_dtype=int8: on TPU of eight bits it takes a page_size that is a multiple of 128, not 64"
    with pytest.raises(ConfigError, match=f"{said}; should be same, or what it takes$"):
        build.check_fits(c, SPEC)


def test_sizes_the_kernel_cannot_take_and_a_kernel_that_is_wrong_are_lines_of_the_field(monkeypatch):
    settings = EngineSettings(slots=2, max_prompt_tokens=40, max_new_tokens=24, attention="tpu")
    with pytest.raises(ConfigError, match=r"^rollout\.attention=tpu: it takes heads of 128 numbers, not 64; should be"):
        build._engine(None, SPEC, settings, seed=0)

    def differs(_):
        raise build.AttentionDiffers("attention=tpu: over random pages")

    monkeypatch.setattr(build, "check_attention", differs)
    monkeypatch.setattr(build, "Engine", lambda *_, **__: type("Stub", (), {"programs": paged_tpu}))
    with pytest.raises(ConfigError, match=r"^rollout\.attention=tpu: over random pages$"):
        build._engine(None, SPEC, settings, seed=0)
