"""Parts of an object that stays in its bucket."""

from __future__ import annotations

import pytest

from azr_jax.storage import bucket as module
from azr_jax.storage import ranges
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import Changed
from azr_jax.storage.ranges import RemoteFile
from tests.storage.conftest import bucket_at
from tests.storage.proxy import Fault, Proxy

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(ranges, "PART", 1000)


def remote(bucket: Bucket) -> RemoteFile:
    bucket.write("model.safetensors", CONTENT)
    there = bucket.stat("model.safetensors")
    assert there is not None
    return RemoteFile(bucket, there)


def test_what_is_asked_for_comes_and_nothing_else(server: str):
    file = remote(bucket_at(server))
    assert (file.name, file.size()) == ("model.safetensors", len(CONTENT))
    for start, end in ((0, 8), (17, 4_321), (9_000, 99_999), (5, 5), (0, len(CONTENT))):
        assert file.read(start, end) == CONTENT[start:end]


def test_parts_are_asked_for_side_by_side_and_again_where_one_breaks_off(proxy: Proxy):
    file = remote(bucket_at(proxy.url))
    proxy.spoil(Fault("cut"), path="alt=media")
    proxy.spoil(Fault("status", 503), path="alt=media")
    before = len(proxy.seen)
    assert file.read(500, 3_500) == CONTENT[500:3_500]
    assert [one.received for one in proxy.seen[before:] if one.status in (200, 206)].count(1000) >= 3


def test_parts_of_two_objects_are_never_mixed(proxy: Proxy):
    bucket = bucket_at(proxy.url)
    file = remote(bucket)
    bucket.write("model.safetensors", b"another model")
    with pytest.raises(Changed, match="was replaced or deleted while it was read"):
        file.read(0, 10)
    bucket.delete(["model.safetensors"])
    with pytest.raises(Changed):
        file.read(0, 10)
