"""Any mesh gives what one device gives, and what the rules call sharded is sharded."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from azr_jax.models.attention import segment_attention
from azr_jax.models.sharding import LearnerRules, RolloutRules, check_divides, random_model, shardings
from azr_jax.models.spec import PRESETS
from azr_jax.parallel.mesh import in_order, make_mesh, mover, regrouped, reshard, targets

SPEC = replace(PRESETS["tiny"], heads=8, kv_heads=4, depth=2, tied=False)
LAYOUTS = {
    "fsdp8": (8, 1, LearnerRules()),
    "fsdp4 tensor2": (4, 2, LearnerRules()),
    "data2 tensor4": (2, 4, RolloutRules()),
}
TOKENS = np.random.default_rng(0).integers(0, SPEC.vocab, (8, 24)).astype(np.int32)
POSITIONS = np.broadcast_to(np.arange(24, dtype=np.int32), TOKENS.shape)


def logits(model, tokens, positions):
    attend = segment_attention("xla", positions, jnp.ones_like(positions))
    return model.logits(model.hidden(tokens, positions, attend, dtype=jnp.float32)[0])


def loss(params, graphdef, tokens, positions):
    return jnp.mean(jnp.square(logits(nnx.merge(graphdef, params), tokens, positions)))


@pytest.fixture(scope="module")
def one_device():
    graphdef, params = nnx.split(random_model(SPEC, seed=3))
    expected = np.asarray(jax.jit(logits)(nnx.merge(graphdef, params), TOKENS, POSITIONS))
    gradient = jax.jit(jax.grad(loss), static_argnums=1)(params, graphdef, TOKENS, POSITIONS)
    return graphdef, params, expected, gradient


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_and_gradients_equal_one_device(name, one_device, eight_devices):
    fsdp, tensor, rules = LAYOUTS[name]
    graphdef, params, expected, gradient = one_device
    mesh = make_mesh(fsdp, tensor, eight_devices)
    with jax.set_mesh(mesh):
        spread = reshard(params, shardings(SPEC, mesh, rules))
        rows = NamedSharding(mesh, P("fsdp", None))
        tokens, positions = jax.device_put(TOKENS, rows), jax.device_put(POSITIONS, rows)
        ours = jax.jit(logits)(nnx.merge(graphdef, spread), tokens, positions)
        ours_gradient = jax.jit(jax.grad(loss), static_argnums=1)(spread, graphdef, tokens, positions)
    assert np.abs(np.asarray(ours) - expected).max() <= 1e-5
    for a, b, param in zip(*map(jax.tree.leaves, (ours_gradient, gradient, spread)), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-6)
        assert a.sharding.spec == param.sharding.spec  # a gradient lies where its weight lies


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_weight_is_replicated_that_the_rules_shard(name, eight_devices):
    """Counted on the arrays: what a device holds is the whole over the product of the axes the rules name."""
    fsdp, tensor, rules = LAYOUTS[name]
    mesh = make_mesh(fsdp, tensor, eight_devices)
    params = nnx.to_flat_state(nnx.state(random_model(SPEC, seed=3, mesh=mesh, rules=rules)))
    arrays = {path: param.get_value() for path, param in params}
    parts = {"embed": fsdp if name != "data2 tensor4" else 1, "vocab": tensor, "heads": tensor, "kv_heads": tensor}
    parts |= {"mlp": tensor, "head": 1, "norm": 1}
    for weight in SPEC.weights():
        array = arrays[weight.path]
        assert {shard.device for shard in array.addressable_shards} == set(eight_devices)
        expected = array.size // int(np.prod([parts[axis] for axis in weight.axes]))
        assert {shard.data.size for shard in array.addressable_shards} == {expected}, weight.name


def test_random_weights_do_not_depend_on_the_mesh(one_device, eight_devices):
    spread = random_model(SPEC, seed=3, mesh=make_mesh(4, 2, eight_devices))
    for a, b in zip(jax.tree.leaves(nnx.state(spread)), jax.tree.leaves(one_device[1]), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-7)


def test_arrays_go_over_to_a_regrouped_mesh_whatever_the_order_of_its_devices(eight_devices):
    """`make_mesh` orders a slice's chips as suits its wiring; a mesh of them in another order could not be reached."""
    snake = [eight_devices[n] for n in (0, 1, 3, 2, 6, 7, 5, 4)]
    learner = Mesh(np.array(snake).reshape(8, 1), ("fsdp", "tensor"), axis_types=(AxisType.Explicit,) * 2)
    sampler = regrouped(learner, 2)
    assert dict(sampler.shape) == {"fsdp": 4, "tensor": 2} and list(sampler.devices.flat) == snake
    params = nnx.split(random_model(SPEC, seed=3, mesh=learner))[1]
    with jax.set_mesh(learner):  # as in a run
        there = reshard(params, shardings(SPEC, sampler, RolloutRules()))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), params, there))


def test_reshard_from_learner_to_rollout_and_back_is_exact(eight_devices):
    mesh = make_mesh(2, 4, eight_devices)
    learner, rollout = (shardings(SPEC, mesh, rules) for rules in (LearnerRules(), RolloutRules()))
    params = nnx.state(random_model(SPEC, seed=3, mesh=mesh))
    there = reshard(params, rollout)
    half = reshard(params, rollout, jnp.bfloat16)
    back = reshard(there, learner)
    for before, away, small, after in zip(*map(jax.tree.leaves, (params, there, half, back)), strict=True):
        assert "fsdp" not in away.sharding.spec and after.sharding == before.sharding
        assert small.dtype == jnp.bfloat16 and small.sharding == away.sharding
        np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(np.asarray(before).astype(jnp.bfloat16), np.asarray(small))


@pytest.mark.parametrize(("data", "fsdp", "tensor"), [(2, 4, 1), (4, 2, 1), (2, 2, 2)])
def test_each_copy_of_the_learners_weights_goes_over_to_its_own_replicas(data, fsdp, tensor, eight_devices):
    learner = make_mesh(fsdp, tensor, eight_devices, data=data)
    sampler = regrouped(learner, 2)
    params = nnx.split(random_model(SPEC, seed=3, mesh=learner))[1]
    layout = shardings(SPEC, sampler, RolloutRules())
    with jax.set_mesh(learner):  # as in a run
        there = reshard(params, layout, jnp.bfloat16)
    for before, after, to in zip(*map(jax.tree.leaves, (params, there, layout)), strict=True):
        assert after.sharding == to
        np.testing.assert_array_equal(np.asarray(before).astype(jnp.bfloat16), np.asarray(after))
    # Not left to the compiler, which would gather each whole on every device: in names of copies, replicas and tensor.
    leaves = jax.tree.leaves(params)
    _, names, mesh = mover(leaves, targets(leaves, layout, jnp.dtype(jnp.bfloat16)))
    assert mesh is not None and dict(mesh.shape) == {"data": data, "fsdp": 4 // data, "tensor": 2}
    assert all("data" not in name.spec for name in names)


def test_what_already_lies_right_is_not_copied():
    mesh = make_mesh(1, 1, jax.devices()[:1])
    params = nnx.state(random_model(SPEC, seed=3, mesh=mesh))
    same = reshard(params, shardings(SPEC, mesh, RolloutRules()), jnp.float32)
    # One device: the two layouts name other axes, and yet nothing has to move.
    pointers = [[leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)] for tree in (params, same)]
    assert pointers[0] == pointers[1]


@pytest.mark.parametrize(
    ("fsdp", "tensor", "message"),
    [
        (3, 1, "mesh.fsdp=3 x mesh.tensor=1 is not 8 devices: mesh.fsdp should be -1 or 8"),
        (-1, 3, "mesh.tensor=3 does not divide 8 devices: it should be one of 1, 2, 4, 8"),
        (-1, 0, "mesh.tensor=0 does not divide 8 devices"),
        (0, 1, "mesh.fsdp=0 x mesh.tensor=1 is not 8 devices"),
    ],
)
def test_meshes_that_the_devices_do_not_make(fsdp, tensor, message, eight_devices):
    with pytest.raises(ValueError, match=message):
        make_mesh(fsdp, tensor, eight_devices)


@pytest.mark.parametrize(
    ("data", "fsdp", "message"),
    [
        (3, -1, "mesh.data=3 does not divide 8 devices: it should be one of 1, 2, 4, 8"),
        (0, -1, "mesh.data=0 does not divide 8 devices"),
        (2, 8, "mesh.data=2 x mesh.fsdp=8 x mesh.tensor=1 is not 8 devices: mesh.fsdp should be -1 or 4"),
    ],
)
def test_copies_that_the_devices_do_not_make(data, fsdp, message, eight_devices):
    with pytest.raises(ValueError, match=message):
        make_mesh(fsdp, 1, eight_devices, data=data)


class OfSlice(SimpleNamespace):
    """A device of one of several slices, as far as a mesh looks at it."""

    __hash__ = object.__hash__


def test_copies_are_slices_or_parts_of_them():
    devices = [
        OfSlice(id=n, slice_index=n % 2, coords=(n // 4, n // 2 % 2, 0), device_kind="", platform="tpu")
        for n in range(8)
    ]
    slices = [in_order(of_slice) for of_slice in ([d for d in devices if d.slice_index == n] for n in (0, 1))]
    assert in_order(devices) == [*slices[0], *slices[1]]
    of_one = [OfSlice(slice_index=n, coords=(0, 0, 0), device_kind="", platform="tpu") for n in (1, 0)]
    assert make_mesh(-1, 1, of_one, data=2).devices.tolist() == [
        [[of_one[1]]],
        [[of_one[0]]],
    ]  # JAX would not order them
    with pytest.raises(ValueError, match=r"mesh\.data=1, and there are 2 slices: it should be 2 or a multiple of it"):
        make_mesh(-1, 1, devices)


def test_a_mesh_that_does_not_divide_the_model_is_told_what_would(eight_devices):
    mesh = make_mesh(1, 8, eight_devices)
    with pytest.raises(ValueError, match=r"mesh\.tensor=8 does not divide kv_heads=4 .*should be one of 1, 2, 4$"):
        check_divides(SPEC, mesh, LearnerRules())
    smol = replace(SPEC, width=60, heads=6, kv_heads=3, head_dim=10)
    with pytest.raises(ValueError, match=r"mesh\.fsdp=8 does not divide embed=60 .*1, 2, 3, 4, 5, 6, 10, 12"):
        check_divides(smol, make_mesh(8, 1, eight_devices), LearnerRules())
