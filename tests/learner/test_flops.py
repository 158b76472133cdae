"""The arithmetic of a step, counted by hand for a model small enough."""

from types import SimpleNamespace

from azr_jax.learner.flops import peak_flops, step_flops, throughput
from azr_jax.learner.packing import TrainingSample
from azr_jax.models.spec import ModelSpec


def test_products_are_counted_once_forward_and_twice_backward():
    spec = ModelSpec("llama", 10, 4, 1, heads=2, kv_heads=1, head_dim=2, mlp=8, tied=True)
    # q 4x4, k and v 2x4 each, o 4x4, gate, up and down 8x4 each, three norms of 4.
    body = 16 + 8 + 8 + 16 + 3 * 32 + 3 * 4
    assert spec.parameters() == 40 + body
    # Two tokens of prompt and two of completion: 3 are read, 2 pass the unembedding, 3^2 / 2 pairs attend.
    sample = TrainingSample([1, 2], [3, 4], [-1.0, -1.0], 1.0)
    assert step_flops(spec, [sample]) == 6 * (3 * body + 2 * 40) + 12 * 1 * 2 * 2 * 4.5


def test_peaks_are_found_by_the_longest_name_that_fits():
    assert peak_flops(SimpleNamespace(device_kind="TPU v5 lite")) == 197e12
    assert peak_flops(SimpleNamespace(device_kind="TPU v5")) == 459e12
    assert peak_flops(SimpleNamespace(device_kind="cpu")) is None


def test_an_update_says_what_each_device_did_in_a_second():
    """`learner/flops.py` was there and nobody asked it: no run reported its MFU."""
    spec = ModelSpec("llama", 10, 4, 1, heads=2, kv_heads=1, head_dim=2, mlp=8, tied=True)
    samples = [TrainingSample([1, 2], [3, 4], [-1.0, -1.0], 1.0)] * 4  # 3 tokens read of each
    known, unknown = (SimpleNamespace(device_kind=kind) for kind in ("NVIDIA H100", "cpu"))
    found = throughput(spec, samples, 2, 0.5, [known] * 4)  # two epochs in half a second, four devices
    assert found["learner/tokens_per_s_per_device"] == 2 * 4 * 3 / (0.5 * 4)
    flops_s = 2 * 4 * step_flops(spec, samples[:1]) / (0.5 * 4)
    assert found["learner/model_tflops_per_s_per_device"] == flops_s / 1e12
    assert found["learner/mfu"] == flops_s / 989e12
    assert "learner/mfu" not in throughput(spec, samples, 1, 1.0, [unknown])
