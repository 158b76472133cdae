"""What processes tell each other of a model's folder, here threads; real processes: tests/run/test_shared_model.py."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, ConfigError
from azr_jax.models.folder import ModelFolder
from azr_jax.models.random_folder import write_random_folder
from azr_jax.models.spec import PRESETS
from azr_jax.models.tensors import SINGLE, LocalFile, read_header
from azr_jax.parallel.hosts import Hosts
from azr_jax.run import find_model as module
from azr_jax.run.find_model import find_model
from tests.parallel.one_store import in_each

pytestmark = pytest.mark.timeout(300)  # who is left alone waits for ever
ME = threading.local()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_folder(PRESETS["tiny"], tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def hosts_folders(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One name's folder on the first machine and on the second."""
    found = [shutil.copytree(plain, tmp_path / f"host{process}/model") for process in range(2)]
    monkeypatch.setattr(module.source, "here", lambda *_: found[1])  # which the first process never asks
    # JAX has one process here, so what travels is looked up.
    small = b"".join(path.read_bytes() for path in sorted(plain.iterdir()) if path.name != SINGLE)
    whole = np.frombuffer(small, np.uint8)
    monkeypatch.setattr(jax, "process_index", lambda: ME.number)
    monkeypatch.setattr(
        module,
        "exchanged",
        lambda parts, readers: [(part, whole[part.start : part.stop]) for part in parts if readers == (ME.first,)],
    )
    return found


def asked(folder: Path, cache: Path) -> Config:
    config, problems = configs.load("configs/tiny.py", {"model.name": str(folder), "model.cache_dir": str(cache)})
    assert not problems
    return config


def readers_of(folders: list[Path], cache: Path, numbers: tuple[int, int] = (0, 1)) -> list[tuple[int, ...]]:
    """`numbers`: by which JAX knows the first process and the second."""

    def work(hosts: Hosts) -> ModelFolder:
        ME.number, ME.first = numbers[hosts.index], numbers[0]
        return find_model(asked(folders[0], cache), hosts)

    return [getattr(each, "readers", each) for each in in_each(2, work)]


def test_two_copies_are_read_by_both_whatever_lies_beside_them(hosts_folders: list[Path], tmp_path: Path):
    """Links to what is gone, and names that are no text: passed over by one process, and of two a traceback."""
    (hosts_folders[0] / "old.safetensors").symlink_to("gone")
    for folder in hosts_folders:
        (folder / os.fsdecode(b"of a camera \xff.txt")).touch()
    assert readers_of(hosts_folders, tmp_path) == [(0, 1)] * 2


def test_readers_are_known_by_the_numbers_of_their_devices(hosts_folders: list[Path], tmp_path: Path):
    """A slice may number its machines otherwise than --process does."""
    assert readers_of(hosts_folders, tmp_path, (1, 0)) == [(0, 1)] * 2
    shutil.rmtree(hosts_folders[1])
    (hosts_folders[1] / "none").mkdir(parents=True)
    assert readers_of(hosts_folders, tmp_path, (1, 0)) == [(1,)] * 2


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.self_attn.k_proj.weight"])
def test_copies_that_differ_in_one_tensor_are_not_mixed(hosts_folders: list[Path], tmp_path: Path, name: str):
    """As of a model and what was trained of it with everything else frozen."""
    tensor = read_header(LocalFile(hosts_folders[1] / SINGLE))[name]
    with (hosts_folders[1] / SINGLE).open("r+b") as file:
        file.seek(tensor.start)
        file.write(np.full(tensor.shape, 2, tensor.dtype).tobytes())
    assert readers_of(hosts_folders, tmp_path) == [(0,)] * 2


def test_what_the_first_cannot_tell_of_its_folder_is_one_line_in_all(
    hosts_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notes, reads = hosts_folders[0] / "notes.txt", Path.read_bytes
    notes.write_text("")

    def read_bytes(path: Path) -> bytes:
        if path == notes:
            raise PermissionError(13, "Permission denied", str(path))
        return reads(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    found = readers_of(hosts_folders, tmp_path)
    assert all(isinstance(each, ConfigError) and str(notes) in str(each) for each in found), found
    assert str(found[0]) == str(found[1]) and "\n" not in str(found[0])


@pytest.mark.parametrize("spoiled", ["nothing", "left by a process of the same number", "damaged", "a part"])
def test_what_was_received_is_what_was_sent(hosts_folders: list[Path], tmp_path: Path, spoiled: str):
    """Pods have the same process numbers, and what is in their cache was never looked at again."""
    shutil.rmtree(hosts_folders[1])
    (hosts_folders[1] / "none").mkdir(parents=True)
    digest = module._digest(module._small(hosts_folders[0]))
    received = tmp_path / "received" / digest
    if spoiled == "left by a process of the same number":
        received.with_name(f".{digest}.writing-{os.getpid()}").mkdir(parents=True)
    elif spoiled != "nothing":
        shutil.copytree(hosts_folders[0], received, ignore=shutil.ignore_patterns(SINGLE))
        text = (received / "tokenizer.json").read_text()
        (received / "tokenizer.json").write_text(text.replace('"!"', '"?!"', 1) if spoiled == "damaged" else text[:100])
    assert readers_of(hosts_folders, tmp_path) == [(0,)] * 2
    assert sorted(path.name for path in received.iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for path in received.iterdir():
        assert path.read_bytes() == (hosts_folders[0] / path.name).read_bytes()
    assert not list(tmp_path.glob("received/.writing*"))
