"""Weights cast layer by layer behind stand-ins: the same gradients as of a smaller copy, in the smaller type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_learner import SPEC

from azr_jax.learner.lora import Trained, join, split
from azr_jax.learner.masters import Master, stand_ins, with_masters
from azr_jax.models.attention import segment_attention

TOKENS = jnp.arange(24, dtype=jnp.int32).reshape(2, 12) % SPEC.vocab
PLACES = jnp.broadcast_to(jnp.arange(12, dtype=jnp.int32), (2, 12))


def loss(graphdef, params, dtype):
    model = nnx.merge(graphdef, params)
    attend = segment_attention("xla", PLACES, jnp.ones_like(PLACES))
    hidden_BxTxD, _ = model.hidden(TOKENS, PLACES, attend, dtype=dtype, remat="full")
    return jnp.square(hidden_BxTxD.astype(jnp.float32)).sum()


def multiplied(path):
    return path[0] == "layers" and not path[-1].endswith("norm")


@pytest.mark.parametrize("freeze", [(), ("embed", "layers.q")])
def test_gradients_are_those_of_a_smaller_copy_of_the_layers(parted, freeze):
    graphdef, whole = parted
    live, base = split(whole, Trained(freeze=freeze))
    dtype = jnp.dtype(jnp.bfloat16)

    @jax.jit
    def behind(live):
        def of(some):
            return loss(graphdef, join(with_masters(live, some), base), dtype)

        return jax.grad(of)(stand_ins(live, dtype))

    @jax.jit
    def of_copy(live):
        def cast(path, leaf):
            return leaf.replace(leaf[...].astype(dtype)) if multiplied(path) else leaf

        return jax.grad(lambda some: loss(graphdef, join(some, base), dtype))(nnx.map_state(cast, live))

    found, wanted = (dict(nnx.to_flat_state(make(live))) for make in (behind, of_copy))
    assert found.keys() == wanted.keys() == dict(nnx.to_flat_state(live)).keys()
    for path, leaf in found.items():
        assert leaf.dtype == wanted[path].dtype == (dtype if multiplied(path) else jnp.float32), path
        np.testing.assert_array_equal(leaf[...], wanted[path][...], err_msg=str(path))
    assert any(np.asarray(leaf[...], np.float32).any() for leaf in found.values())


def test_weights_of_the_type_they_are_multiplied_in_stay_as_they_are(parted):
    _, params = parted
    live = stand_ins(params, jnp.dtype(jnp.float32))
    same = jax.tree.map(lambda a, b: a is b, live, params)
    assert all(jax.tree.leaves(same))
    leaves = jax.tree.leaves(with_masters(params, live), is_leaf=lambda leaf: isinstance(leaf, Master))
    assert not any(isinstance(leaf, Master) for leaf in leaves)


def test_low_rank_corrections_are_their_own_stand_ins(parted):
    live, _ = split(parted[1], Trained(rank=2))
    assert stand_ins(live, jnp.dtype(jnp.bfloat16)) is live
    assert with_masters(live, live) is live
