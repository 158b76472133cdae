"""Folders in and out: exact where all is well, one clear line and nothing left behind where it is not."""

import json
import os
import resource
import socket
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import CASES, golden_folder, golden_tensors

from azr_jax.models import hf, tensors
from azr_jax.models.sharding import LearnerRules, RolloutRules
from azr_jax.models.tensors import BadWeights
from azr_jax.parallel.mesh import make_mesh


def all_tensors(folder) -> dict[str, np.ndarray]:
    return {name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        assert ours[name].tobytes() == array.tobytes(), name


@pytest.fixture
def folder(tmp_path):
    return golden_folder("qwen2_untied", tmp_path / "model")


def rewrite(folder, change) -> None:
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=["f32", "f16", "bf16"])
def test_round_trip_is_byte_identical(case, dtype, tmp_path):
    source = golden_folder(case, tmp_path / "source", dtype)
    hf.save(hf.load(source), tmp_path / "out", source=source)
    assert_same(all_tensors(tmp_path / "out"), all_tensors(source))
    assert (tmp_path / "out/config.json").read_bytes() == (source / "config.json").read_bytes()


def test_round_trip_of_several_files_with_an_index(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "SHARD_BYTES", 20_000)
    sharded = hf.save(hf.load(folder), tmp_path / "sharded", source=folder)
    files = sorted(sharded.glob("*.safetensors"))
    assert len(files) > 2 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert all(file.stat().st_size < 25_000 for file in files)
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in golden_tensors("qwen2_untied").values())
    assert_same(all_tensors(sharded), all_tensors(folder))
    monkeypatch.undo()
    again = hf.save(hf.load(sharded), tmp_path / "single", source=sharded)
    assert not (again / "model.safetensors.index.json").exists()
    assert_same(load_file(again / "model.safetensors"), all_tensors(folder))


def test_round_trip_through_eight_devices(folder, eight_devices, tmp_path):
    for rules, shape in ((LearnerRules(), (4, 2)), (RolloutRules(), (2, 4))):
        model = hf.load(folder, mesh=make_mesh(*shape, devices=eight_devices), rules=rules)
        out = hf.save(model, tmp_path / f"out{shape[0]}", source=folder)
        assert_same(all_tensors(out), all_tensors(folder))


def test_a_tied_model_that_stores_its_embedding_twice_keeps_both(tmp_path):
    source = golden_folder("llama_tied", tmp_path / "source")
    rewrite(source, lambda arrays: arrays.update({"lm_head.weight": arrays["model.embed_tokens.weight"].copy()}))
    assert_same(all_tensors(hf.save(hf.load(source), tmp_path / "out", source=source)), all_tensors(source))
    rewrite(source, lambda arrays: arrays["lm_head.weight"].__setitem__((0, 0), 5))
    with pytest.raises(BadWeights, match=r"lm_head\.weight differs from .*embed_tokens\.weight.*tie_word_embeddings"):
        hf.load(source)


def test_another_type_is_written_and_named_in_the_config(folder, tmp_path):
    out = hf.save(hf.load(folder), tmp_path / "out", source=folder, dtype=jnp.float16)
    assert {array.dtype for array in all_tensors(out).values()} == {np.dtype(np.float16)}
    config = json.loads((out / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "float16"


def test_every_file_but_weights_is_copied(folder, tmp_path):
    for name in ("tokenizer.model", "chat_template.jinja", "generation_config.json", "merges.txt", "LICENSE"):
        (folder / name).write_text(name)
    (folder / "pytorch_model.bin").write_text("old")
    out = hf.save(hf.load(folder), tmp_path / "out", source=folder)
    assert {file.name for file in out.iterdir()} == {f.name for f in folder.iterdir()} - {"pytorch_model.bin"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("model.layers.1.mlp.up_proj.weight"), "model.layers.1.mlp.up_proj.weight is missing"),
        (lambda a: a.pop("lm_head.weight"), "lm_head.weight is missing"),
        (lambda a: a.update(stray=np.zeros(3, np.float32)), "stray is not a tensor of this model"),
        (
            lambda a: a.update({"model.norm.weight": np.zeros(31, np.float32)}),
            r"model.norm.weight has shape \[31\].*32",
        ),
        (
            lambda a: a.update({"model.norm.weight": np.zeros(32, np.int8)}),
            "model.norm.weight has type I8.*F32, F16, BF16",
        ),
    ],
    ids=["missing", "missing head", "extra", "shape", "type"],
)
def test_tensors_that_are_not_the_models(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(BadWeights, match=message):
        hf.load(folder)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "written over"])
def test_two_models_that_lay_in_one_file_one_after_the_other_are_not_mixed(folder, replaced):
    """As where an export is made anew while a run reads it: the offsets are the same, the numbers are not."""
    path, found = folder / "model.safetensors", tensors.find_tensors(folder)
    first, before = next(iter(found.values())), path.stat()
    first.rows(0, 1)
    changed = path.read_bytes()[:-4] + np.float32(7).tobytes()
    if replaced:
        path.rename(folder / "old")
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    with pytest.raises(BadWeights, match=r"model\.safetensors: was changed while it was read"):
        first.rows(0, 1)
    assert hf.load(folder) is not None


def test_truncated_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadWeights, match="cut off or damaged"):
        hf.load(folder)


@pytest.mark.parametrize(
    "junk", [b"", b"\x01", b"not safetensors at all", struct.pack("<Q", 4) + b'{"a:', b"\x00" * 64]
)
def test_corrupt_file(folder, junk):
    (folder / "model.safetensors").write_bytes(junk)
    with pytest.raises(BadWeights, match=r"model\.safetensors"):
        hf.load(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"model.norm.weight": "gone.safetensors"}, "names gone.safetensors, which is not there"),
        ({"nothing": "one.safetensors"}, "says that one.safetensors holds nothing, which it does not"),
        ({"model.norm.weight": "one.safetensors"}, "does not name .* which is in the files"),
        (None, "weight_map=None: should be an object"),
    ],
)
def test_index_that_does_not_match_the_files(folder, weight_map, message):
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BadWeights, match=message):
        hf.load(folder)


def test_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadWeights, match="holds neither"):
        hf.load(folder)


def test_tokenizer_with_more_tokens_than_the_model(folder):
    tokenizer = {"model": {"vocab": {"a": 0, "b": 95}}, "added_tokens": [{"id": 95, "content": "<end>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    hf.load(folder)  # the largest id, 95, is the last of the model's 96 rows
    tokenizer["added_tokens"][0]["id"] = 96
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BadWeights, match="id 96, the model's vocabulary is 96"):
        hf.load(folder)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_what_is_no_number_is_refused_with_the_tensors_name(folder, value, said):
    """It was a warning, and then a run whose every logit was NaN."""
    rewrite(folder, lambda arrays: arrays["model.layers.2.self_attn.q_proj.bias"].__setitem__(3, value))
    with pytest.raises(BadWeights, match=rf"safetensors: model.layers.2.self_attn.q_proj.bias holds {said}: nothing"):
        hf.load(folder)


def test_what_could_not_be_read_again_is_not_written(folder, tmp_path):
    """Float16 ends at 65504: an export of that type was written in silence, and nothing would load it."""
    rewrite(folder, lambda arrays: arrays["model.norm.weight"].__setitem__(3, 1e5))
    with pytest.raises(BadWeights, match=r"model\.norm\.weight would hold NaN or infinity: as float16 .* up to 99840"):
        hf.save(hf.load(folder), tmp_path / "out", source=folder, dtype=jnp.float16)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken(folder, tmp_path):
    model, out = hf.load(folder), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty.*--overwrite"):
        hf.save(model, out, source=folder)
    with pytest.raises(FileExistsError, match="no model to overwrite"):
        hf.save(model, out, source=folder, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "config.json").write_text("{}")
    hf.save(model, out, source=folder, overwrite=True)
    assert_same(all_tensors(out), all_tensors(folder))
    assert not (out / "notes.txt").exists()


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(folder, tmp_path):
    """Pods have the same process numbers: one refused because of the other's folder, and removed it."""
    for kind in ("writing", "old"):
        (tmp_path / f".out.{kind}-{os.getpid()}").mkdir()
        (tmp_path / f".out.{kind}-{os.getpid()}/of-another").write_text("x")
    hf.save(hf.load(folder), tmp_path / "out", source=folder)
    hf.save(hf.load(folder), tmp_path / "out", source=folder, overwrite=True)
    assert_same(all_tensors(tmp_path / "out"), all_tensors(folder))
    assert {path.name for path in tmp_path.glob(".out.*/*")} == {"of-another"}


@pytest.mark.parametrize("there", [True, False], ids=["to a folder", "to nothing yet"])
def test_a_place_that_is_a_link_stays_one(folder, tmp_path, there):
    """To a larger disk, say: what it leads to is made. The link had been replaced, or could not be, at the end."""
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk/out").mkdir()
    (tmp_path / "out").symlink_to("disk/out")
    hf.save(hf.load(folder), tmp_path / "out", source=folder)
    assert (tmp_path / "out").is_symlink()
    assert_same(all_tensors(tmp_path / "disk/out"), all_tensors(folder))
    assert {path.name for path in [*tmp_path.iterdir(), *(tmp_path / "disk").iterdir()]} == {"model", "disk", "out"}


def test_a_full_disk_leaves_nothing_behind(folder, tmp_path):
    """The kernel refuses to let files grow past 50 kB, in the middle of the weights."""
    model, before = hf.load(folder), sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/out'"):
            hf.save(model, tmp_path / "out", source=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == before


def test_too_little_space_is_seen_before_anything_is_written(folder, tmp_path, monkeypatch):
    model = hf.load(folder)
    monkeypatch.setattr(hf.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match=r"needs .* GB, the disk has 0.00 GB left"):
        hf.save(model, tmp_path / "out", source=folder)
    assert not (tmp_path / "out").exists()


def test_columns_of_a_large_tensor_are_read_in_blocks(tmp_path, monkeypatch):
    whole = np.arange(7 * 10, dtype=np.float32).reshape(7, 10)
    save_file({"x": whole}, tmp_path / "model.safetensors")
    monkeypatch.setattr(tensors, "READ_BYTES", 2 * 40)  # two rows of ten numbers
    found = tensors.find_tensors(tmp_path)["x"]
    np.testing.assert_array_equal(found.read((slice(1, 6), slice(3, 5))), whole[1:6, 3:5])


def test_loading_does_not_depend_on_devices(folder, eight_devices):
    alone = jax.tree.leaves(hf.load(folder))
    for data in (1, 2):
        sharded = jax.tree.leaves(hf.load(folder, mesh=make_mesh(-1, 1, eight_devices, data=data)))
        for a, b in zip(alone, sharded, strict=True):
            np.testing.assert_array_equal(a, b)


def two_processes(folder, out) -> list[tuple[int, str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    script = str(Path(__file__).with_name("two_processes.py"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, script, str(n), port, str(folder), str(out)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )
        for n in range(2)
    ]  # fmt: skip
    return [(process.wait(timeout=200), process.communicate()[0]) for process in started]


@pytest.mark.slow
def test_two_processes_load_and_save_together_and_fail_together(folder, tmp_path):
    ends = two_processes(folder, tmp_path / "out")
    assert [code for code, _ in ends] == [0, 0], ends
    assert "4 devices, here 2 of the weight's shards" in ends[1][1]
    assert_same(all_tensors(tmp_path / "out"), all_tensors(folder))
    ends = two_processes(folder, tmp_path / "out")  # it is taken now
    assert [code for code, _ in ends] == [3, 3], ends
    assert "is not empty" in ends[0][1] and "the first process cannot write there" in ends[1][1]
