"""Checkpoints in a bucket: arrays as objects of their own, none written twice, and those of older runs read."""

import gc
import re
from collections import Counter

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError
from azr_jax.learner.step import LearnerSettings, TrainState, init_state
from azr_jax.models.sharding import abstract_params
from azr_jax.models.spec import PRESETS
from azr_jax.storage.bucket import Bucket
from tests.storage.proxy import Proxy


def state() -> TrainState:
    keys = iter(jax.random.split(jax.random.key(0), 100))
    shapes = abstract_params(PRESETS["tiny"])
    params = jax.tree.map(lambda a: jax.random.normal(next(keys), a.shape, a.dtype), shapes)
    return init_state(params, LearnerSettings())


def saved(bucket: Bucket) -> TrainState:
    checkpointer, made = Checkpointer(bucket.url), state()
    checkpointer.save(1, made, {"cursor": 7})
    checkpointer.close()
    return made


def assert_restored(bucket: Bucket, made: TrainState) -> None:
    restored = Checkpointer(bucket.url).restore(jax.eval_shape(state))
    assert restored.extra == {"cursor": 7}
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, restored.state, made)))


def test_no_object_of_an_array_is_written_twice(bucket: Bucket, proxy: Proxy):
    """Cloud Storage takes one write a second of one name, and answers 429 to more."""
    made = saved(bucket)
    names = (re.search(r"uploadType=media&name=([^&]+)", each.path) for each in proxy.seen if each.method == "POST")
    written = Counter(found[1] for found in names if found)
    assert len(written) > 50 and set(written.values()) == {1}
    assert_restored(bucket, made)


def test_a_checkpoint_with_a_manifest_is_read_as_well(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    """So were they written before."""
    standard = ocp.StandardCheckpointHandler
    with monkeypatch.context() as before:
        before.setattr(ocp, "StandardCheckpointHandler", lambda use_ocdbt: standard(use_ocdbt=True))
        made = saved(bucket)
    assert bucket.exists("checkpoints/1/params/manifest.ocdbt")
    assert_restored(bucket, made)


# What Orbax had begun to read of the other arrays ends unheard.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "lost", ["params/layers.q.value/0", "learner/optimizer.0.mu.embed.value/.zarray", "params/_METADATA"]
)
def test_a_lost_object_is_noticed(bucket: Bucket, lost: str):
    """TensorStore takes a part of an array that is not there for zeros."""
    saved(bucket)
    names = [each.name for each in bucket.list(f"checkpoints/1/{lost}")[0]]
    assert names
    bucket.delete(names)
    with pytest.raises(CheckpointError, match="every checkpoint asked for is damaged: 1 "):
        Checkpointer(bucket.url).restore(jax.eval_shape(state))
    gc.collect()  # and not in another test
