"""Several processes load one model: each byte of it is read or downloaded once, and all hold what one would.

Real processes with gloo between them, each with a way of its own to the bucket or the hub, where bytes are counted.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from azr_jax.models import hf, tensors
from azr_jax.models.random_folder import write_random_folder
from azr_jax.models.spec import PRESETS
from azr_jax.models.tensors import INDEX, SINGLE
from azr_jax.run.find_model import PLACE_BYTES, PLACES
from azr_jax.storage.bucket import Bucket
from tests.run.hub import Hub
from tests.run.test_whole_loop import ROOT
from tests.storage.conftest import client, fake_gcs, gcp_emulator, new_bucket, server
from tests.storage.proxy import Fault, Proxy

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]
FIXTURES = fake_gcs, gcp_emulator, server  # of tests/storage
SCRIPT = Path(__file__).with_name("shared_model.py")
HEADERS = 2**15  # bytes that may be read beside the numbers


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_folder(PRESETS["tiny"], tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def in_parts(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as an indexed set of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "SHARD_BYTES", 100_000)
        return hf.save(hf.load(plain), tmp_path_factory.mktemp("models") / "parts", source=plain)


def weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def loaded(tmp: Path, name: str, where: Sequence[dict[str, str]]) -> list[tuple[int, str]]:
    """One process for each of these environments."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    (tmp / "out").mkdir(exist_ok=True)
    started = []
    for process, own in enumerate(where):
        home = tmp / f"home{process}"
        home.mkdir(exist_ok=True)
        homes = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "HF_HOME": str(home / "hf")}
        command = [sys.executable, str(SCRIPT), str(len(where)), str(process), port, name, str(tmp / "out")]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""} | homes | own,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    try:
        return [(each.wait(timeout=120), each.communicate()[0]) for each in started]
    finally:
        for each in started:
            each.kill()


def check_holds(tmp: Path, count: int, folder: Path) -> None:
    """Bit for bit what one process reads of that folder."""
    _, params = nnx.split(hf.load(folder))
    alone = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    seen = set()
    for process in range(count):
        for key, shard in np.load(tmp / f"out/{process}.npz").items():
            path, _, index = key.partition("@")
            seen.add(path)
            part = alone[path][tuple(slice(*each) for each in ast.literal_eval(index))]
            assert shard.dtype == part.dtype and shard.tobytes() == part.tobytes(), key
    assert seen == alone.keys()


def no_weights_below(folder: Path) -> bool:
    return not list(folder.rglob("*.safetensors"))


class Ways:
    """A proxy of its own for each process, to one bucket with a model in it."""

    def __init__(self, upstream: str, folder: Path, count: int, held: ExitStack):
        self.proxies = [held.enter_context(Proxy(upstream)) for _ in range(count)]
        name = new_bucket(upstream)
        self.url = f"gs://{name}/models/tiny"
        self.bucket = Bucket(self.url, client(upstream))
        for path in folder.iterdir():
            self.bucket.send(path, path.name)

    @property
    def where(self) -> list[dict[str, str]]:
        return [{"STORAGE_EMULATOR_HOST": proxy.url, "PATIENCE_S": "2"} for proxy in self.proxies]

    def came(self, process: int, suffix: str) -> int:
        """Bytes of such files that this process was given."""
        seen = self.proxies[process].seen
        return sum(one.received for one in seen if "alt=media" in one.path and suffix in one.path.partition("?")[0])


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("count", [2, 4])
def test_of_a_bucket_each_reads_its_share_and_no_disk_holds_it(server: str, in_parts: Path, tmp_path, held, count):
    ways = Ways(server, in_parts, count, held)
    done = loaded(tmp_path, ways.url, ways.where)
    assert [code for code, _ in done] == [0] * count, done
    check_holds(tmp_path, count, in_parts)
    total = weights_bytes(in_parts)
    came = [ways.came(process, ".safetensors") for process in range(count)]
    print(f"{total} bytes of weights; of the bucket came {came}")
    assert total - HEADERS < sum(came) < total + HEADERS
    assert all(0.7 * total / count < each < 1.3 * total / count + HEADERS for each in came)
    assert ways.came(0, "tokenizer.json") and not any(ways.came(other, ".json") for other in range(1, count))
    assert all(no_weights_below(tmp_path / f"home{process}") for process in range(count))
    done = loaded(tmp_path, ways.url, ways.where)  # again, with what is small on every disk
    assert [code for code, _ in done] == [0] * count, done
    check_holds(tmp_path, count, in_parts)


def test_of_the_hub_the_first_downloads_and_the_others_get_it_from_there(plain: Path, tmp_path: Path, held: ExitStack):
    hubs = [held.enter_context(Hub(plain)) for _ in range(2)]
    where = [{"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"} for hub in hubs]
    done = loaded(tmp_path, "someone/model", where)
    assert [code for code, _ in done] == [0, 0], done
    check_holds(tmp_path, 2, plain)
    print("the hubs gave", [dict(hub.given) for hub in hubs])
    assert hubs[0].given[SINGLE] == weights_bytes(plain) and not hubs[1].given
    assert not no_weights_below(tmp_path / "home0") and no_weights_below(tmp_path / "home1")
    assert "readers (0,)" in done[0][1] and "; 0 bytes read" in done[1][1], done
    # What came stays: nobody is asked again, and a copy that is elsewhere already is read there, too.
    shutil.copytree(tmp_path / "home0/hf", tmp_path / "home1/hf", symlinks=True)
    done = loaded(tmp_path, "someone/model", [own | {"HF_HUB_OFFLINE": "1"} for own in where])
    assert [code for code, _ in done] == [0, 0], done
    assert all("readers (0, 1)" in text for _, text in done), done
    check_holds(tmp_path, 2, plain)


def test_a_folder_that_all_see_is_read_once_and_one_that_differs_is_not_read(plain: Path, tmp_path: Path):
    done = loaded(tmp_path, str(plain), [{}, {}])
    assert [code for code, _ in done] == [0, 0], done
    check_holds(tmp_path, 2, plain)
    read, total = [int(text.split("; ")[1].split()[0]) for _, text in done], weights_bytes(plain)
    print(f"{total} bytes of weights; read {read}")
    beside = HEADERS + 2 * PLACES * PLACE_BYTES * len(tensors.find_tensors(plain))  # by which they know it for the same
    assert total - HEADERS < sum(read) < total + beside and min(read) > 0.3 * total
    for process in range(2):  # two folders of one name with other numbers: one of them is the model
        shutil.copytree(plain, tmp_path / f"home{process}/mine")
    numbers = load_file(tmp_path / f"home1/mine/{SINGLE}")
    save_file({name: each * 2 for name, each in numbers.items()}, tmp_path / f"home1/mine/{SINGLE}")
    done = loaded(tmp_path, "~/mine", [{}, {}])
    assert [code for code, _ in done] == [0, 0] and "readers (0,)" in done[1][1], done
    check_holds(tmp_path, 2, plain)


def test_a_random_model_is_made_by_the_first_alone_whoever_has_one_already(plain: Path, tmp_path: Path):
    """The others looked for a file that the first one wrote, and waited for ever where it had nothing to write."""
    made = [tmp_path / f"home{process}/cache/azr_jax/models/random-tiny" for process in range(2)]
    for what in ("nobody has it", "the first has it"):
        done = loaded(tmp_path, "random:tiny", [{}, {}])
        assert [code for code, _ in done] == [0, 0], (what, done)
        check_holds(tmp_path, 2, plain)
        assert made[0].is_dir() and not made[1].exists(), what
    shutil.copytree(made[0], made[1])
    shutil.rmtree(made[0])
    done = loaded(tmp_path, "random:tiny", [{}, {}])
    assert [code for code, _ in done] == [0, 0] and "readers (0, 1)" in done[1][1], done


def spoiled_index(ways: Ways, folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "nowhere.safetensors"
    ways.bucket.write(INDEX, json.dumps(index).encode())


def without_a_file(ways: Ways, folder: Path) -> None:
    ways.bucket.delete([sorted(folder.glob("*.safetensors"))[1].name])


def cut_off(ways: Ways, folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    ways.bucket.write(path.name, path.read_bytes()[:-100])


def not_permitted(ways: Ways, folder: Path) -> None:
    """To the second process, once it reads numbers."""
    ways.proxies[1].spoil(Fault("status", 403, "no access"), times=10**6, path="alt=media")


def no_number(ways: Ways, folder: Path) -> None:
    path = sorted(folder.glob("*.safetensors"))[1]
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    ways.bucket.write(path.name, bytes(data))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoiled_index, "names nowhere.safetensors, which is not there"),
        (without_a_file, "names model-00002-of-"),
        (cut_off, "cut off or damaged"),
        (not_permitted, "not permitted (no access)"),
        (no_number, "holds NaN"),
    ],
)
def test_what_is_wrong_in_the_bucket_is_one_line_in_all(fake_gcs: str, in_parts: Path, tmp_path, held, spoil, says):
    ways = Ways(fake_gcs, in_parts, 2, held)
    spoil(ways, in_parts)
    for code, text in loaded(tmp_path, ways.url, ways.where):
        lines = [line for line in text.splitlines() if line.startswith("error:")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in text, text
        assert f"model.name={ways.url}: " in lines[0] and says in lines[0], text
    assert not list((tmp_path / "out").iterdir())
    assert all(no_weights_below(tmp_path / f"home{process}") for process in range(2))


def test_a_bucket_that_stops_answering_one_of_them_ends_both_with_the_code_that_starts_them_again(
    fake_gcs: str, in_parts: Path, tmp_path: Path, held: ExitStack
):
    ways = Ways(fake_gcs, in_parts, 2, held)
    ways.proxies[1].spoil(Fault("status", 503), times=10**6, path="alt=media")
    done = loaded(tmp_path, ways.url, ways.where)
    assert [code for code, _ in done] == [86, 86], done
    assert not list((tmp_path / "out").iterdir())
