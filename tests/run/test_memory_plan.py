"""Where a run lies on its devices and how large its cache is: sums that can be checked, and that a run does them."""

from dataclasses import replace

import jax
import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import ConfigError
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import find
from azr_jax.models.slice_layout import Layout
from azr_jax.parallel.mesh import make_mesh
from azr_jax.rollout.engine import Engine
from azr_jax.rollout.requests import EngineSettings
from azr_jax.run import build, memory_plan
from azr_jax.run.memory_plan import lay_out, page_bytes, with_pages
from azr_jax.run.train import train
from tests.run.test_whole_loop import ROOT, SEEDS

GIB = 2**30
QWEN7B = spec_of("Qwen/Qwen2.5-7B")  # 15.2 GB of weights in bfloat16
PAPER = EngineSettings(slots=64, max_prompt_tokens=6144, max_new_tokens=8096, page_size=64, dtype="bfloat16")
STATE = 5.3 * GIB  # of float32 weights and moments on 16 chips


@pytest.fixture(autouse=True)
def later_jax(monkeypatch):
    """The sampler's programs need no room of their own beyond the spared share."""
    monkeypatch.setattr(memory_plan, "GATHERS_UNEMBEDDING", False)


def test_the_cache_takes_what_state_and_weights_leave_but_for_a_spared_share():
    pages = with_pages(PAPER, QWEN7B, 4, 15.75 * GIB, STATE).pages
    page = page_bytes(PAPER, QWEN7B, 4)
    assert page == 2 * 28 * 128 * 64 * 2  # one key/value head of four
    taken = STATE + 2 * QWEN7B.parameters() / 4 + pages * page
    assert 15.75 * GIB * 15 / 16 - page < taken <= 15.75 * GIB * 15 / 16


def test_a_jax_that_gathers_the_unembedding_is_left_room_for_it(monkeypatch):
    """With JAX 0.10.2 decode of Qwen2.5-7B took 15.79 GiB beside the state on v5e:4x4, of 15.75: 1.02 are gathered."""
    usual = with_pages(PAPER, QWEN7B, 4, 15.75 * GIB, STATE).pages
    monkeypatch.setattr(memory_plan, "GATHERS_UNEMBEDDING", True)
    fewer = with_pages(PAPER, QWEN7B, 4, 15.75 * GIB, STATE).pages
    gathered = 152_064 * 3584 * 2
    page = page_bytes(PAPER, QWEN7B, 4)
    assert gathered - page < (usual - fewer) * page < gathered + page
    # A replica of one device has all of it anyway.
    one = with_pages(PAPER, QWEN7B, 1, 40 * GIB, STATE)
    monkeypatch.setattr(memory_plan, "GATHERS_UNEMBEDDING", False)
    assert one == with_pages(PAPER, QWEN7B, 1, 40 * GIB, STATE)


def test_a_cache_that_stays_during_the_update_leaves_room_for_the_gradient():
    """On 16 chips that is less than the sampler's weights, which are gone by then; on 4 it is twice as much."""
    kept, page = replace(PAPER, kv_cache="keep"), page_bytes(PAPER, QWEN7B, 4)
    usual = {memory: with_pages(PAPER, QWEN7B, 4, memory * GIB, STATE).pages for memory in (15.75, 20)}
    assert with_pages(kept, QWEN7B, 4, 15.75 * GIB, STATE, 16).pages == usual[15.75]
    missing = usual[20] - with_pages(kept, QWEN7B, 4, 20 * GIB, STATE, 4).pages
    assert missing * page == pytest.approx(4 * QWEN7B.parameters() / 4 - 2 * QWEN7B.parameters() / 4, rel=1e-3)
    again = replace(PAPER, kv_cache="recompute")
    assert with_pages(again, QWEN7B, 4, 20 * GIB, STATE, 4).pages == usual[20]


def test_it_is_never_larger_than_all_slots_fill_nor_smaller_than_one_completion():
    assert with_pages(PAPER, QWEN7B, 1, 1000 * GIB, STATE).pool == PAPER.pool == 64 * 223 + 1
    assert with_pages(PAPER, QWEN7B, 4, 8 * GIB, STATE).pages == 223 + 1


def test_what_is_said_stays_and_a_device_that_does_not_say_gets_all():
    assert with_pages(replace(PAPER, pages=500), QWEN7B, 4, 1000 * GIB, STATE).pages == 500
    assert with_pages(PAPER, QWEN7B, 4, None, STATE) == PAPER


def test_a_run_gives_its_engine_what_memory_leaves(tmp_path, monkeypatch):
    """A device of 4.4 MB: 1.3 hold the state, 0.4 the sampler's weights; 4 slots at their longest would fill 4.2."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(build, "memory_of_one", lambda: 4.4e6)
    made, init = [], Engine.__init__
    monkeypatch.setattr(
        Engine, "__init__", lambda self, *args, **kwargs: (init(self, *args, **kwargs), made.append(self))[0]
    )
    config, problems = configs.load("configs/tiny.py", {"seeding.import_from": str(SEEDS), "iterations": "1"})
    assert not problems
    train(config, str(tmp_path / "run"), recipe="tiny", again="the same")
    (engine,) = made
    assert 2064 // 16 + 1 <= engine.settings.pages < 4 * 2064 // 16


def test_a_layout_the_sampler_cannot_have_is_refused_before_a_weight_is_read():
    config, _ = configs.load(ROOT / "configs/tiny.py", {"mesh.rollout_tensor": "3"})
    with pytest.raises(ConfigError, match=r"mesh.rollout_tensor=3 for this model on \d chips: should be one of 1"):
        build.check_fits(config, spec_of("random:tiny"))


def test_an_attention_that_knows_no_windows_is_refused_before_a_weight_is_read():
    config, _ = configs.load(ROOT / "configs/tiny.py", {"model.attention": "splash"})
    with pytest.raises(ConfigError, match=r"model.attention=splash: a model with windows needs xla, or auto"):
        build.check_fits(config, spec_of("google/gemma-3-1b-it"))


def test_microbatches_that_the_devices_do_not_divide_are_refused_before_a_weight_is_read(monkeypatch):
    mesh = make_mesh(1, 1, jax.devices()[:1])
    monkeypatch.setattr(
        build, "layout_here", lambda *_: Layout(fsdp=4, tensor=1, replicas=8, rollout_tensor=1, slots=4, data=2)
    )
    monkeypatch.setattr(build, "mesh_of", lambda _: mesh)
    config, _ = configs.load(ROOT / "configs/tiny.py", {"learner.microbatch": "12"})
    with pytest.raises(ConfigError, match=r"learner.microbatch=12: should be 0 \(a row on each\) or a multiple of 8"):
        build.check_fits(config, spec_of("random:tiny"))


def test_several_rows_a_chip_get_the_room_that_more_copies_of_the_weights_would_take():
    def copies(**fields):
        config, _ = configs.load(ROOT / "configs/qwen7b.py", fields)
        topology = find("v5e:8x8")
        return lay_out(config, QWEN7B, topology.chips, 15.75 * GIB, topology.chip).data

    assert (copies(), copies(**{"learner.microbatch": "64"}), copies(**{"learner.microbatch": "128"})) == (2, 2, 1)
