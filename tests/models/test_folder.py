"""A damaged model folder is one line, the same whichever command it is given to, and nothing is computed before."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from damaged_folders import DAMAGE, INDEX, SINGLE, change, whole_folder, write

from azr_jax.config.schema import ConfigError
from azr_jax.evals.models import NoModel, find
from azr_jax.export import export
from azr_jax.models.endings import stop_ids
from azr_jax.models.folder import SMALL_BYTES, BadFolder, open_folder, sample, started_from
from azr_jax.models.source import ModelNotFound
from azr_jax.models.tensors import find_tensors
from azr_jax.run.device_stats import compilations
from azr_jax.run.find_model import find_model


def trained(folder: Path) -> None:
    model = SimpleNamespace(name=str(folder), cache_dir="")
    find_model(SimpleNamespace(model=model, tasks=SimpleNamespace(prompt_style="chat")))


def evaluated(folder: Path) -> None:
    find(str(folder))


def exported(folder: Path) -> None:
    workdir = folder.parent / "run"
    workdir.mkdir()
    write(workdir / "config.json", {"model": {"name": str(folder)}})
    export(workdir, folder.parent / "out")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("command", [trained, evaluated, exported])
@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_folder_is_one_line_for_every_command(what, command, tmp_path, offline):
    folder = whole_folder(tmp_path / "model")
    damage, said = DAMAGE[what]
    damage(folder)
    compilations().taken()
    with pytest.raises((ConfigError, NoModel, BadFolder, ModelNotFound), match=said) as caught:
        command(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert compilations().taken()["system/compilations"] == 0


def test_the_folder_that_is_damaged_above_is_whole(tmp_path):
    folder = whole_folder(tmp_path / "model")
    model = open_folder(folder)
    assert (model.spec.depth, model.stop_ids) == (2, (256,))
    trained(folder)
    evaluated(folder)


def test_where_a_single_file_stands_beside_an_index_the_single_file_counts(tmp_path):
    """Transformers reads it; an index left over from another download had been followed."""
    folder = whole_folder(tmp_path / "model")
    write(folder / INDEX, {"weight_map": {"model.norm.weight": "gone.safetensors"}})
    assert {tensor.file.name for tensor in find_tensors(folder).values()} == {SINGLE}
    assert open_folder(folder).spec.depth == 2


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        (None, [3, 4], (3, 4, 256)),  # the first alone had been used, and only if it was the tokenizer's
        (None, 3, (3, 256)),
        (None, None, (256,)),
        ([5, 6], [3, 4], (5, 6, 256)),
        (5, [3, 4], (5, 256)),
    ],
)
def test_tokens_that_end_a_text(tmp_path, generation, config, ends):
    folder = whole_folder(tmp_path / "model")
    change(folder / "config.json", eos_token_id=config)
    (folder / "generation_config.json").unlink()
    if generation is not None:
        write(folder / "generation_config.json", {"eos_token_id": generation})
    assert stop_ids(SimpleNamespace(eos_token_id=256), folder) == ends == open_folder(folder).stop_ids


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds []: should be an object"),
        ("null", "holds None: should be an object"),
        ("{", "is not JSON"),
        ("{}", "model=None: should be an object with the model's name"),
        ('{"model": {"name": 7}}', "model.name=7: should be a string"),
        ('{"model": {"name": ""}}', "model.name='': should be a string"),
        ('{"model": {"name": "x", "cache_dir": 7}}', "model.cache_dir=7: should be a string"),
    ],
)
def test_the_config_of_a_run_that_does_not_say_its_model(content, said, tmp_path):
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadFolder) as caught:
        started_from(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(NoModel):
        find(str(tmp_path))
    with pytest.raises(BadFolder):
        export(tmp_path, tmp_path / "out")


RUNNER = """
import os, sys
module, outcomes, *folders = sys.argv[1:]
os.environ["HF_HUB_OFFLINE"] = "1"
import json, runpy, importlib
for name in ("azr_jax.run.build", "azr_jax.run.train", "azr_jax.evals.command"):
    importlib.import_module(name)
from azr_jax.run.device_stats import compilations
for folder in folders:
    if not os.fork():
        sys.argv = [module, *json.loads(os.environ["FLAGS"].replace("FOLDER", folder))]
        os.dup2(os.open(f"{outcomes}/{os.path.basename(folder)}.out", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(f"{outcomes}/{os.path.basename(folder)}.err", os.O_WRONLY | os.O_CREAT), 2)
        count, code = compilations(), 0
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            code = error.code
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 1
        with open(f"{outcomes}/{os.path.basename(folder)}.rc", "w") as file:
            file.write(f"{code} {count.taken()['system/compilations']:.0f}")
        sys.stderr.flush()
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["azr_jax.main", "azr_jax.evaluate", "azr_jax.export"])
def test_the_commands_themselves(module, tmp_path):
    """Each damaged folder, in a process of its own that has done the imports already."""
    folders = []
    for number, (damage, _) in enumerate(DAMAGE.values()):
        folder = whole_folder(tmp_path / f"model{number}")
        damage(folder)
        folders.append(folder)
        workdir = tmp_path / f"model{number}-run"
        workdir.mkdir()
        write(workdir / "config.json", {"model": {"name": str(folder)}})
    outcomes = tmp_path / "outcomes"
    outcomes.mkdir()
    flags = {  # FOLDER is filled in by RUNNER
        "azr_jax.main": ["--config=configs/nano.py", "--config.model.name=FOLDER", "--workdir=FOLDER-work"],
        "azr_jax.evaluate": ["--model=FOLDER", "--suite=gsm8k", "--out=FOLDER-evals"],
        "azr_jax.export": ["--workdir=FOLDER-run", "--out=FOLDER-out"],
    }[module]
    environment = os.environ | {"FLAGS": json.dumps(flags), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(
        [sys.executable, "-c", RUNNER, module, str(outcomes), *map(str, folders)],
        cwd=Path(__file__).parents[2],
        env=environment,
        check=True,
        timeout=1_200,
    )
    wrong = {}
    for folder, what in zip(folders, DAMAGE, strict=True):
        code, compiled = (outcomes / f"{folder.name}.rc").read_text().split()
        errors = (outcomes / f"{folder.name}.err").read_text()
        lines = [line for line in errors.splitlines() if line.strip()]
        if (code, compiled, len(lines)) != ("2", "0", 1):
            wrong[what] = (code, compiled, errors[-600:])
    assert not wrong


@pytest.mark.parametrize("size", [5_000, 3 * 2**20, SMALL_BYTES + 2**20])
def test_a_fingerprint_tells_files_apart_that_differ_in_one_matrix(size, tmp_path):
    """Sixteen places in a file, as before, miss most matrices of it."""

    def fingerprint(changed: range) -> str:
        content = bytearray(size)
        content[changed.start : changed.stop] = bytes(len(changed) * b"x")
        (tmp_path / "weights").write_bytes(content)
        mark = hashlib.sha256()
        sample(mark, "weights", tmp_path / "weights")
        return mark.hexdigest()

    least = 1 if size <= SMALL_BYTES else 2**20  # of a large file, a matrix of a megabyte
    at = size // 2 + 1_000
    assert fingerprint(range(at, at + least)) != fingerprint(range(0))
