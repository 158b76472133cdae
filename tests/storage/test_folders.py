"""A folder that travels whole: checked, fetched once, never half of one in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from azr_jax.models import hf
from azr_jax.models.source import in_bucket
from azr_jax.storage import bucket as module
from azr_jax.storage import folders
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import Changed, StorageError
from tests.storage.conftest import bucket_at
from tests.storage.proxy import Fault, Proxy


@pytest.fixture(autouse=True)
def of_the_test(monkeypatch: pytest.MonkeyPatch) -> dict[str, Bucket]:
    """Addresses are those of the buckets that a test made."""
    made: dict[str, Bucket] = {}
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(folders, "open_bucket", lambda url: made[url])
    return made


def every(name: str) -> bool:
    return True


def test_what_came_stays_and_what_changed_comes_again(proxy: Proxy, of_the_test, tmp_path: Path):
    bucket = bucket_at(proxy.url)
    of_the_test[bucket.url] = bucket
    bucket.write("config.json", b"{}")
    bucket.write("model.safetensors", b"x" * 1000)
    bucket.write("notes/else", b"")
    folder = folders.fetched(bucket.url, tmp_path, every)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", folders.STATE}
    assert (folder / "model.safetensors").read_bytes() == b"x" * 1000
    before = len(proxy.seen)
    assert folders.fetched(bucket.url, tmp_path, every) == folder
    assert not [each for each in proxy.seen[before:] if "alt=media" in each.path], "nothing came again"
    bucket.write("config.json", b'{"a": 1}')
    bucket.delete(["model.safetensors"])
    bucket.write("other.json", b"{}")
    folders.fetched(bucket.url, tmp_path, every)
    assert {path.name for path in folder.iterdir()} == {"config.json", "other.json", folders.STATE}
    assert (folder / "config.json").read_text() == '{"a": 1}'


def test_bytes_that_are_not_the_objects_own_are_not_taken(proxy: Proxy, of_the_test, tmp_path: Path, monkeypatch):
    bucket = bucket_at(proxy.url)
    of_the_test[bucket.url] = bucket
    bucket.write("model.safetensors", b"x" * 1000)
    spoiled = [2]
    fetch = bucket.fetch

    def fetches(name: str, file: Path) -> None:
        fetch(name, file)
        if spoiled[0]:
            spoiled[0] -= 1
            file.write_bytes(b"y" * 1000)

    monkeypatch.setattr(bucket, "fetch", fetches)
    folder = folders.fetched(bucket.url, tmp_path / "once", every)
    assert (folder / "model.safetensors").read_bytes() == b"x" * 1000
    spoiled[0] = 99
    with pytest.raises(StorageError, match="has not the checksum it should have") as told:
        folders.fetched(bucket.url, tmp_path / "never", every)
    assert told.value.passing
    assert not list((tmp_path / "never").rglob("model*"))


def test_what_came_before_it_broke_off_does_not_come_again(proxy: Proxy, of_the_test, tmp_path: Path):
    bucket = bucket_at(proxy.url)
    of_the_test[bucket.url] = bucket
    for name in ("model-1.safetensors", "model-2.safetensors", "tokenizer.json"):
        bucket.write(name, name.encode())
    proxy.spoil(Fault("status", 403), times=99, path="model-2.safetensors?")
    with pytest.raises(StorageError, match="not permitted"):
        folders.fetched(bucket.url, tmp_path, every)
    proxy.rules.clear()
    before = len(proxy.seen)
    folder = folders.fetched(bucket.url, tmp_path, every)
    assert ["model-2" in each.path for each in proxy.seen[before:] if "alt=media" in each.path] == [True]
    assert (folder / "model-2.safetensors").read_text() == "model-2.safetensors"


def test_what_a_copy_holds_and_the_bucket_does_not_goes(server: str, of_the_test, tmp_path: Path):
    """A copy that was broken off knew nothing of its files: model.safetensors stayed, and is read before any shards."""
    bucket = bucket_at(server)
    of_the_test[bucket.url] = bucket
    bucket.write("model-1.safetensors", b"new")
    folder = folders.fetched(bucket.url, tmp_path, every)
    (folder / folders.STATE).unlink()
    for name in ("model.safetensors", ".model.safetensors.part"):
        (folder / name).write_text("of the model before")
    folders.fetched(bucket.url, tmp_path, every)
    assert {path.name for path in folder.iterdir()} == {"model-1.safetensors", folders.STATE}


def test_weights_that_stay_in_the_bucket_are_not_newer_than_the_small_files(
    fake_gcs: str, of_the_test, tmp_path, monkeypatch
):
    """A model that was replaced between two looks at its folder had the old config.json and the new numbers."""
    bucket = bucket_at(fake_gcs)
    of_the_test[bucket.url] = bucket
    monkeypatch.setattr(module, "open_bucket", lambda url: bucket)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        bucket.write(name, b"old")
    fetched = folders.fetched

    def replaced_meanwhile(*asked) -> Path:
        folder = fetched(*asked)
        bucket.write("model.safetensors", b"new")
        return folder

    monkeypatch.setattr(folders, "fetched", replaced_meanwhile)
    folder, weights = in_bucket(bucket.url, tmp_path)
    assert (folder / "config.json").read_bytes() == b"old"
    with pytest.raises(Changed, match=r"model\.safetensors: was replaced or deleted"):
        weights["model.safetensors"].read(0, 3)


def test_two_addresses_that_look_alike_have_a_copy_each(server: str, of_the_test, tmp_path: Path):
    """The second was written over the first, whose evaluation went on with its weights."""
    first = bucket_at(server)
    others = [Bucket(first.url + end, first._client) for end in ("/models/a", "/models_a", "/models a")]
    for number, bucket in enumerate(others):
        of_the_test[bucket.url] = bucket
        bucket.write("config.json", str(number).encode())
    copies = [folders.fetched(bucket.url, tmp_path, every) for bucket in others]
    assert [(copy / "config.json").read_text() for copy in copies] == ["0", "1", "2"]


def test_a_folder_of_nothing_is_told(server: str, of_the_test, tmp_path: Path):
    bucket = bucket_at(server)
    of_the_test[bucket.url] = bucket
    with pytest.raises(StorageError, match="holds no files of a model"):
        folders.fetched(bucket.url, tmp_path, every)


def test_the_mark_of_a_model_comes_last_and_goes_first(proxy: Proxy, of_the_test, tmp_path: Path):
    """Who reads it meanwhile, or after the sender was killed, finds no model."""
    bucket = bucket_at(proxy.url)
    of_the_test[bucket.url] = bucket
    bucket.write("config.json", b"old")
    bucket.write("old.safetensors", b"old")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    with pytest.raises(StorageError, match="is not empty: give another folder, or --overwrite"):
        folders.check_free(bucket.url, "config.json", overwrite=False)
    assert folders.check_free(bucket.url, "config.json", overwrite=True) is bucket
    before = len(proxy.seen)
    folders.send(tmp_path, bucket, "config.json")
    did = [(each.method, each.path) for each in proxy.seen[before:] if each.method in ("DELETE", "POST")]
    assert "config.json" in did[0][1] and did[0][0] == "DELETE"
    assert did[-1][0] == "POST"
    assert [each.name for each in bucket.list()[0]] == ["config.json", "model.safetensors", "tokenizer.json"]
    bucket.delete(["config.json"])
    with pytest.raises(StorageError, match=r"holds no config\.json, so it is no model to overwrite"):
        folders.check_free(bucket.url, "config.json", overwrite=True)


def test_a_sender_that_fails_half_way_leaves_no_model(proxy: Proxy, of_the_test, tmp_path: Path):
    bucket = bucket_at(proxy.url, patience_s=0.1)
    bucket.write("config.json", b"old")
    (tmp_path / "config.json").write_text("new")
    (tmp_path / "model.safetensors").write_text("new")
    proxy.spoil(Fault("status", 403), times=99, method="POST")
    with pytest.raises(StorageError, match="not permitted"):
        folders.send(tmp_path, bucket, "config.json")
    assert bucket.list() == ([], [])


@pytest.mark.parametrize("mark", ["owner.json", "checkpoints/3/commit_success.txt"])
def test_a_run_is_no_model_to_overwrite(fake_gcs: str, of_the_test, tmp_path: Path, mark: str):
    """It has a config.json, too: an export with --overwrite took the run's own away."""
    bucket = bucket_at(fake_gcs)
    of_the_test[bucket.url] = bucket
    for name in ("config.json", mark):
        bucket.write(name, b"{}")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(StorageError, match="which no export does, a run may: give another folder"):
        folders.check_free(bucket.url, "config.json", True)
    with pytest.raises(FileExistsError, match="which no export does, a run may: give another folder"):
        hf.check_free(tmp_path, True)
