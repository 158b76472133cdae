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
from azr_jax.storage.errors import StorageError, tell_of_arrays
from tests.storage.proxy import Fault, Proxy

# What Orbax had begun to read of other arrays than a damaged one ends unheard.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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


def test_an_array_that_may_not_be_read_just_now_is_not_damaged(bucket: Bucket, proxy: Proxy):
    """The checkpoint was passed over for the one before, and went at the next save."""
    made = saved(bucket)
    proxy.spoil(Fault("status", 403, "x@y.com lost its token"), method="GET", path="/params/layers.q.value/0")
    with pytest.raises(StorageError, match=r"read checkpoint 1: not permitted \(.*x@y.com lost its token\); the acc"):
        Checkpointer(bucket.url).restore(jax.eval_shape(state))
    gc.collect()
    assert_restored(bucket, made)
    gc.collect()


@pytest.mark.parametrize("end", ["wait", "close"])
def test_a_checkpoint_that_may_not_be_written_is_one_line_for_the_user(bucket: Bucket, proxy: Proxy, end: str):
    """It was TensorStore's ValueError: a traceback, and the exit code of a mistake in the program."""
    saved(bucket)
    proxy.spoil(Fault("status", 403, "x@y.com has no access"), times=1000, method="POST", path="uploadType=media&name=")
    checkpointer = Checkpointer(bucket.url)
    checkpointer.save(2, state(), {})
    with pytest.raises(StorageError, match=r"write a checkpoint: not permitted \(.*x@y.com has no acc") as raised:
        getattr(checkpointer, end)()
    assert not raised.value.passing and "\n" not in str(raised.value)
    assert Checkpointer(bucket.url).iterations() == [1]


def test_a_checkpoint_that_came_to_nothing_for_want_of_an_answer_may_be_tried_again():
    with pytest.raises(StorageError, match=r"gs://b: write a checkpoint: .*; start again when") as raised:
        tell_of_arrays("gs://b", "write a checkpoint", ValueError("UNAVAILABLE: Error writing gs://b/x: 503"))
    assert raised.value.passing


def test_the_process_that_could_not_write_says_why_and_not_that_the_others_kept_it_waiting():
    """Both said that a barrier had timed out, and were to be started again."""
    with pytest.raises(StorageError, match=r"write a checkpoint: not permitted \(PERMISSION_DENIED: ") as raised:
        try:
            raise ValueError("PERMISSION_DENIED: Error writing gs://b/x")
        except ValueError:
            try:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out")
            except jax.errors.JaxRuntimeError as error:
                tell_of_arrays("gs://b", "write a checkpoint", error)
    assert not raised.value.passing
    tell_of_arrays("gs://b", "write a checkpoint", jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out"))


def test_what_is_wrong_with_an_array_is_no_word_of_the_bucket():
    tell_of_arrays("gs://b", "read checkpoint 1", ValueError("NOT_FOUND: chunk 0.0 of gs://b/x is missing"))
    tell_of_arrays("gs://b", "read checkpoint 1", ValueError("FAILED_PRECONDITION: gs://b/x: Truncated stream"))
