"""The check of a kernel at start (rollout/attention_check.py), compiled for TPU: it asks what a run will do."""

import importlib.util
import re

import pytest

from azr_jax.dryrun import topology
from azr_jax.models.spec import ModelSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason='needs the TPU compiler: pip install "jax[tpu]"'
    ),
]
SPEC = ModelSpec("qwen2", 256, 64, 2, 4, 2, head_dim=128, mlp=64, tied=True)


@pytest.mark.parametrize(
    ("name", "changes", "pool"),
    [
        ("tpu", {}, r"bf16\[(?:2,68|136),16,4,128\]"),
        ("tpu_fused", {}, r"bf16\[(?:2,68|136),16,4,128\]"),
        ("tpu_fused", {"kv_cache_dtype": "int8", "page_size": 128}, r"s8\[2,65,4,128,128\]"),
    ],
    ids=["shipped", "our own", "our own, eight bits"],
)
def test_kernels_are_compared_on_a_cache_in_the_chips_memory_as_in_a_run(name, changes, pool):
    """A small one that the program makes itself would be put into a core's memory, S(1), where copies are others."""
    topology.prepare()
    import jax

    from azr_jax.parallel.mesh import make_mesh
    from azr_jax.rollout.attention import choose
    from azr_jax.rollout.attention_check import _programs, _random
    from azr_jax.rollout.requests import TILE, EngineSettings

    one = make_mesh(1, 1, topology.devices(topology.find("v5e:2x2"))[:1])
    sizes = {"max_prompt_tokens": 40, "max_new_tokens": 24, "page_size": 16, "prefill_tokens": 16} | changes
    settings = EngineSettings(slots=64, dtype="bfloat16", attention=name, **sizes)
    numbers = _random(SPEC, settings, 1, TILE)
    fill, look = _programs(choose(SPEC, settings, one), settings, one)
    with jax.set_mesh(one):
        text = look.lower(jax.eval_shape(fill, numbers), numbers).compile().as_text() or ""
    assert "tpu_custom_call" in text
    pools = re.findall(rf"= ({pool}\S*)", text)
    assert pools and not [pool for pool in pools if "S(1)" in pool]
