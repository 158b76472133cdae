"""The arithmetic of a step, counted by hand for a model small enough."""

from types import SimpleNamespace

from azr_jax.learner.flops import peak_flops, step_flops
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
