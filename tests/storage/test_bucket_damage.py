"""A small checkpoint in a bucket: each of its objects damaged in turn, and a save that is killed at each request."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from azr_jax.learner.checkpoint import Checkpointer, CheckpointError
from azr_jax.learner.step import LearnerSettings, TrainState, init_state
from azr_jax.storage.bucket import Bucket
from tests.storage.conftest import client
from tests.storage.proxy import Proxy

# What Orbax had begun to read of other arrays than the damaged one ends unheard.
pytestmark = [
    pytest.mark.slow,  # two minutes, and one
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
UNREAD = ("commit_success.txt", "_CHECKPOINT_METADATA", "array_metadatas/process_0", "_sharding")  # by a restore


def state(seed: int) -> TrainState:
    """Of a matrix, a vector of ones and a number."""
    random = jax.random.normal(jax.random.key(seed), (4, 8))
    return init_state({"matrix": random, "norm": jnp.ones(32), "number": random[0, 0]}, LearnerSettings())


def same(one: TrainState, other: TrainState) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def objects(bucket: Bucket) -> dict[str, bytes]:
    return {each.name: bucket.read(each.name) or b"" for each in bucket.list("checkpoints/")[0]}


def damages(found: dict[str, bytes]) -> Iterator[tuple[str, str, bytes | None]]:
    for name in (name for name in found if name.startswith("checkpoints/2/")):
        data, before = found[name], found[name.replace("/2/", "/1/", 1)]
        middle = len(data) // 2
        yield name, "lost", None
        yield name, "cut", data[:middle]
        yield name, "a bit", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if before != data:
            yield name, "of the one before", before


def test_an_object_that_is_damaged_is_noticed_or_not_read(bucket: Bucket):
    made, checkpointer = [state(1), state(2)], Checkpointer(bucket.url)
    for number, each in enumerate(made, start=1):
        checkpointer.save(number, each, {"cursor": number})
    checkpointer.close()
    found, like, noticed = objects(bucket), jax.eval_shape(lambda: made[1]), 0
    for name, how, data in damages(found):
        bucket.delete([name]) if data is None else bucket.write(name, data)
        reader = Checkpointer(bucket.url)
        try:
            restored = reader.restore(like, 2)
        except CheckpointError as error:
            assert "\n" not in str(error), (name, how)
            noticed += 1
        else:
            assert same(restored.state, made[1]) and restored.extra == {"cursor": 2}, (name, how)
            assert name.endswith(UNREAD), (name, how)
        reader.close()
        bucket.write(name, found[name])
    assert noticed > 100
    gc.collect()  # and not in another test


def test_a_save_that_is_killed_at_any_request_leaves_a_whole_checkpoint(bucket: Bucket, proxy: Proxy):
    """Or while it deletes the one before. What it left is gone after the next save of the same iteration."""
    made, other, checkpointer = {1: state(1), 2: state(2)}, state(7), Checkpointer(bucket.url, keep=1)
    checkpointer.save(1, made[1], {"cursor": 1})
    checkpointer.wait()
    known, server, moments = objects(bucket), Bucket(bucket.url, client(proxy.upstream)), []

    def look(method: str, path: str) -> None:
        moments.append({each.name for each in server.list("checkpoints/")[0]})

    proxy.look = look
    checkpointer.save(2, made[2], {"cursor": 2})
    checkpointer.close()
    proxy.look = lambda method, path: None
    known |= objects(bucket)
    moments = [names for names, after in itertools.pairwise([*moments, None]) if names != after]
    assert len(moments) > 30
    like, reached = jax.eval_shape(lambda: made[1]), Counter[int]()
    for number, names in enumerate(moments):
        become(bucket, {name: known[name] for name in names})
        reader = Checkpointer(bucket.url, keep=1)
        restored = reader.restore(like)
        assert restored.extra == {"cursor": restored.iteration} and same(restored.state, made[restored.iteration])
        reached[restored.iteration] += 1
        if number % 10 == 0:
            reader.save(2, other, {"cursor": 7})
            reader.wait()
            assert same(Checkpointer(bucket.url).restore(like).state, other)
            assert {each.name for each in bucket.list("checkpoints/")[0]} == moments[-1]
        reader.close()
    assert restored.iteration == 2 and min(reached.values()) > 10


def become(bucket: Bucket, wanted: dict[str, bytes]) -> None:
    there = objects(bucket)
    bucket.delete([name for name in there if name not in wanted])
    for name, data in wanted.items():
        if there.get(name) != data:
            bucket.write(name, data)
