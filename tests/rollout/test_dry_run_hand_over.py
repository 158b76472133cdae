"""What the dry run compiles for the weights' way from learner to sampler, on virtual devices."""

import re

import pytest

from azr_jax.config.flags import load
from azr_jax.dryrun.programs import abstract_state, other_jobs, shape_of
from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.mesh import bytes_per_device, make_mesh, regrouped

SPEC = ModelSpec("qwen2", 320, 32, 2, 4, 2, 8, 64, True)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_all_weights_go_over_also_where_corrections_alone_are_trained(rank, quantization):
    fields = {"learner.lora.rank": f"{rank}", "rollout.quantization": quantization, "learner.importance": "token"}
    c, problems = load("configs/tiny.py", fields)
    assert not problems
    learner = make_mesh(8, 1)
    (job,) = (
        job
        for job in other_jobs(c, shape_of(c, SPEC, learner), learner, regrouped(learner, 2))
        if job.name == "learner -> sampler"
    )
    (signature,) = re.findall(r"func.func public @main\((.*)\) -> ", job.lower().as_text())
    held = bytes_per_device(abstract_state(c, SPEC, learner))
    full, _ = load("configs/tiny.py", {})
    whole = bytes_per_device(abstract_state(full, SPEC, learner).params)
    matrices = 4 * SPEC.layer_matrices / learner.size
    # The learner's own go as they are; merged and quantised ones are other arrays, beside what they were made of.
    int8 = quantization == "int8"
    assert job.beside == held + (whole * int8 if rank else matrices * int8 - whole)
    types = re.findall(r"tensor<2x(?:4x8x32|2x8x32|32x4x8|64x32|32x64)x(\w+)>", signature)
    assert len(types) == 7 and set(types) == {"i8" if quantization == "int8" else "f32"}
    assert "tensor<320x32x" in signature  # the embedding
