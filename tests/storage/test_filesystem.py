"""gs:// paths of etils.epath, as Orbax and JAX's compilation cache use them, over the bucket's own client."""

import pytest
from etils import epath

from azr_jax.learner.checkpoint import iterations_in
from azr_jax.run.rollback import Returns
from azr_jax.storage import filesystem
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.errors import StorageError
from tests.storage.conftest import bucket_at, client
from tests.storage.proxy import Fault, Proxy


@pytest.fixture
def folder(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> epath.Path:
    bucket = bucket_at(proxy.url)
    root = Bucket(bucket.url.partition("/runs")[0], client(proxy.url))
    monkeypatch.setattr(filesystem, "_bucket", lambda name: root)
    filesystem.install()
    return epath.Path(bucket.url)


def test_paths_are_written_read_listed_and_removed(folder: epath.Path):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    assert not folder.exists(), "a bucket has no empty folders"
    (folder / "checkpoints" / "1" / "metadata").write_text('{"a": 1}')
    (folder / "checkpoints" / "12" / "array").write_bytes(b"x" * 100)
    assert folder.exists() and (folder / "checkpoints").is_dir()
    assert sorted(each.name for each in (folder / "checkpoints").iterdir()) == ["1", "12"]
    assert (folder / "checkpoints" / "1" / "metadata").read_text() == '{"a": 1}'
    assert (folder / "checkpoints" / "12" / "array").stat().length == 100
    (folder / "checkpoints" / "1").rmtree()
    assert [each.name for each in (folder / "checkpoints").iterdir()] == ["12"], "1 is not the beginning of 12"
    assert not (folder / "checkpoints" / "1").exists()
    with pytest.raises(FileNotFoundError):
        (folder / "checkpoints" / "1" / "metadata").read_text()


def test_what_another_process_wrote_is_seen_at_once(folder: epath.Path):
    other = filesystem._bucket("any")
    assert not (folder / "checkpoints").exists()
    other.write("runs/first/checkpoints/1/metadata", b"{}")
    assert [each.name for each in (folder / "checkpoints").iterdir()] == ["1"]


def test_what_says_that_a_checkpoint_is_whole_goes_first(folder: epath.Path, proxy: Proxy):
    for name in ("array", "commit_success.txt", "metadata"):
        (folder / "1" / name).write_text("x")
    (folder / "1").rmtree()
    gone = [one.path.rpartition("/")[2] for one in proxy.seen if one.method == "DELETE" and one.status < 300]
    assert gone[0].startswith("commit_success.txt")
    assert len(gone) == 3


def test_a_file_whose_writing_failed_is_not_there(folder: epath.Path):
    with pytest.raises(RuntimeError), (folder / "half").open("wb") as file:
        file.write(b"half")
        raise RuntimeError
    assert not (folder / "half").exists()


def test_a_busy_server_is_waited_for(folder: epath.Path, proxy: Proxy):
    proxy.spoil(Fault("status", 503), times=1, method="POST")
    (folder / "metadata").write_text("{}")
    proxy.spoil(Fault("cut"), times=1, method="GET")
    assert (folder / "metadata").read_text() == "{}"


def test_going_back_drops_later_checkpoints(folder: epath.Path, tmp_path):
    """After updates that went bad: what is not whole is not counted, and what is dropped is gone at once."""
    for iteration in (1, 2, 3):
        (folder / "checkpoints" / str(iteration) / "params" / "d" / "0").write_bytes(b"x")
        if iteration != 2:
            (folder / "checkpoints" / str(iteration) / "commit_success.txt").write_text("")
    returns = Returns(tmp_path, 2, home=str(folder))
    assert iterations_in(str(folder)) == [1, 3]
    assert returns.go_back(3) and returns.target == 1
    assert iterations_in(str(folder)) == [1]
    assert not (folder / "checkpoints" / "3").exists()
    assert not returns.go_back(1), "nothing is left before it"


def test_what_cannot_be_looked_up_is_not_taken_for_absent(folder: epath.Path, proxy: Proxy):
    """A run whose checkpoints could not be looked up began anew, and cut its metrics back to nothing."""
    (folder / "checkpoints" / "1" / "commit_success.txt").write_text("")
    rule = proxy.spoil(Fault("status", 403), times=1000)
    for ask in (folder.exists, folder.is_dir, (folder / "a").exists, lambda: iterations_in(str(folder))):
        with pytest.raises(StorageError, match="not permitted"):
            ask()
    with pytest.raises(StorageError, match="not permitted"):
        filesystem.BucketFiles().isfile(str(folder / "a"))
    rule.times = 0
    assert iterations_in(str(folder)) == [1] and not filesystem.BucketFiles().isfile(str(folder / "a"))
