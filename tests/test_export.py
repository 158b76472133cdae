"""What an exported folder says of where a text ends: transformers reads it, and nothing else in the folder changes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from flax import nnx

from azr_jax.export import CannotExport, export, generation_config
from azr_jax.learner.checkpoint import Checkpointer, CheckpointError
from azr_jax.learner.lora import Trained
from azr_jax.learner.peft_adapter import load_adapter
from azr_jax.learner.step import LearnerSettings, init_state
from azr_jax.models import hf
from azr_jax.models.folder import BadFolder
from azr_jax.models.source import resolve
from azr_jax.models.spec import load_spec
from azr_jax.models.spelling import spelled_out_in

TOKENIZER = SimpleNamespace(eos_token_id=7, bos_token_id=None, pad_token_id=3)


def loaded(folder):
    return pytest.importorskip("transformers").GenerationConfig.from_pretrained(folder)


@pytest.mark.parametrize(
    ("there", "ends"),
    [(None, [7]), ({"eos_token_id": 9, "temperature": 0.7}, [7, 9]), ({"eos_token_id": [9, 8]}, [7, 8, 9])],
)
def test_every_token_that_ends_a_text_and_the_stop_strings_are_told(tmp_path, there, ends):
    if there:
        (tmp_path / "generation_config.json").write_text(json.dumps(there))
    for name, text in generation_config(tmp_path, TOKENIZER, ["</answer>"]).items():
        (tmp_path / name).write_text(text)
    config = loaded(tmp_path)
    assert (config.eos_token_id, config.stop_strings) == (ends, ["</answer>"])
    assert config.temperature == (there or {}).get("temperature", config.temperature)


def test_a_file_that_says_so_already_is_left_byte_for_byte(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id":7}')
    assert generation_config(tmp_path, TOKENIZER) == {}


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """The folder of a run of the tiny model that was saved before its first step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = resolve("random:tiny", cache_dir=str(tmp_path / "models"))
    run = tmp_path / "run"
    run.mkdir()
    params = nnx.split(hf.load(folder))[1]
    checkpointer = Checkpointer(run)
    checkpointer.save(1, init_state(params, LearnerSettings()), {})
    checkpointer.close()
    return run, folder


def config_of(run, folder, style, stops):
    config = {"model": {"name": str(folder)}, "tasks": {"prompt_style": style}, "rollout": {"stop_at_answer": stops}}
    (run / "config.json").write_text(json.dumps(config))


def test_an_export_differs_from_its_source_in_what_ends_a_text_alone(workdir, tmp_path):
    run, source = workdir
    for style, stops, told in (("think", True, ["</answer>"]), ("completion", True, ["\n```"]), ("think", False, None)):
        config_of(run, source, style, stops)
        out = export(run, tmp_path / "hf", overwrite=True)
        assert loaded(out).stop_strings == told and loaded(out).eos_token_id is not None
        for file in source.iterdir():
            if file.name != "generation_config.json" and not file.name.endswith(".safetensors"):
                assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    for one, other in zip(*(jax.tree.leaves(nnx.split(hf.load(folder))[1]) for folder in (source, out)), strict=True):
        assert (one == other).all()


def test_what_others_wrote_is_utf8_whatever_the_shell_says(workdir, tmp_path, monkeypatch):
    """In a shell of Latin-1 the notes of others came out as other letters, in one of ASCII with a traceback."""
    run, source = workdir
    for name in ("config.json", "generation_config.json"):
        known = json.loads((source / name).read_text()) if (source / name).exists() else {}
        (source / name).write_text(json.dumps(known | {"note": "ä中"}, ensure_ascii=False), encoding="utf-8")
    config_of(run, source, "think", True)
    theirs = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, encoding=None: theirs(path, encoding or "latin-1"))
    out = export(run, tmp_path / "hf", dtype="float16")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((out / name).read_bytes())["note"] == "ä中"
    assert spelled_out_in(out) == ()


def test_a_workdir_may_be_named_from_where_one_stands(workdir, tmp_path, monkeypatch):
    """`--workdir=runs/first`, as the docs say, was refused: every checkpoint of a relative path counted as damaged."""
    config_of(*workdir, "think", True)
    monkeypatch.chdir(tmp_path)
    assert (export(Path("run"), Path("hf")) / "model.safetensors").is_file()


def test_a_run_is_no_model_to_overwrite(workdir, tmp_path, monkeypatch):
    """It has a config.json, too: `--out=<workdir> --overwrite` deleted the run, checkpoints and all."""
    config_of(*workdir, "think", True)
    before = sorted(workdir[0].rglob("*"))
    with pytest.raises(FileExistsError, match=r"run: holds checkpoints/, which no export does, a run may"):
        export(workdir[0], workdir[0], overwrite=True)
    assert sorted(workdir[0].rglob("*")) == before
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FileExistsError, match=r"\.: is where you are, and would be replaced"):
        export(workdir[0], Path())


def test_corrections_leave_as_an_adapter_and_whole_weights_do_not(workdir, tmp_path):
    run, source = workdir
    config_of(run, source, "think", False)
    with pytest.raises(CheckpointError, match=r"holds whole weights and no low-rank corrections"):
        export(run, tmp_path / "adapter", adapter=True)
    checkpointer = Checkpointer(run)
    start = init_state(nnx.split(hf.load(source))[1], LearnerSettings(trained=Trained(2, ("q", "down"))))
    grown = jax.tree.map(lambda leaf: leaf + 0.5, start.params)
    checkpointer.save(2, replace(start, params=grown), {})
    checkpointer.close()
    out = export(run, tmp_path / "adapter", adapter=True)
    found = load_adapter(out, load_spec(source))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(grown), strict=True):
        assert (one == other).all()
    with pytest.raises(CannotExport, match="--dtype=bfloat16: an adapter is float32"):
        export(run, tmp_path / "other", adapter=True, dtype="bfloat16")


def test_a_tokenizer_that_cannot_be_read_is_named_before_any_weight_is(workdir, tmp_path):
    run, source = workdir
    shutil.copytree(source, tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text("{")
    config_of(run, tmp_path / "damaged", "think", False)
    with pytest.raises(BadFolder, match=r"tokenizer\.json is not JSON"):
        export(run, tmp_path / "hf")
