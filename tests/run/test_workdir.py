"""Opening a workdir: the same run goes on, another is refused and named, an older one without a new field goes on."""

import json

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import ConfigError
from azr_jax.monitor.console import log_to_file
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.place import open_place
from azr_jax.run.workdir import CHANGES, changes_from, check_space, go_on_with
from azr_jax.run.workdir import open_workdir as opened


def load(**overrides):
    config, problems = configs.load("configs/tiny.py", {k.replace("__", "."): v for k, v in overrides.items()})
    assert not problems
    return config


def open_workdir(path, config, base):
    with opened(path, config, base) as lease:
        return lease.folder


BASE = configs.load("configs/base.py", {})[0]


def begun(path, config):
    folder = open_workdir(str(path), config, BASE)
    (folder / "seeding.json").write_text("{}")
    return folder


def test_the_same_config_opens_it_again_and_another_is_refused_by_field(tmp_path):
    begun(tmp_path / "run", load())
    open_workdir(str(tmp_path / "run"), load(iterations="9"), BASE)
    with pytest.raises(ConfigError, match=r"learner.lr: .* -> 0.5") as refused:
        open_workdir(str(tmp_path / "run"), load(learner__lr="0.5"), BASE)
    assert "--fork_from" in str(refused.value) and len(refused.value.problems) == 3


def test_a_run_that_was_refused_before_it_began_may_be_corrected(tmp_path):
    open_workdir(str(tmp_path / "run"), load(learner__lr="0.5"), BASE)
    (tmp_path / "run" / "logs").mkdir()
    folder = open_workdir(str(tmp_path / "run"), load(), BASE)
    assert json.loads((folder / "config.json").read_text())["learner"]["lr"] == load().learner.lr


def test_a_run_begun_before_a_field_existed_goes_on_with_its_usual_value(tmp_path):
    folder = begun(tmp_path / "run", load())
    written = json.loads((folder / "config.json").read_text())
    del written["profile"], written["rewards"]["control"]
    (folder / "config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=r"rewards.control: null -> .flipped"):
        open_workdir(str(folder), load(rewards__control="flipped"), BASE)
    assert "control" not in (folder / "config.json").read_text()  # a refusal writes nothing
    open_workdir(str(folder), load(), BASE)


def test_a_run_that_knows_nanos_base_by_its_path_goes_on_after_the_checkout_moved(tmp_path):
    folder = begun(tmp_path / "run", load(model__name="/once/there/azr_jax/nano/base"))
    open_workdir(str(folder), load(model__name="nano:base"), BASE)
    go_on_with(str(folder), folder, load(model__name="nano:base"), BASE, 1)
    assert json.loads((folder / "config.json").read_text())["model"]["name"] == "nano:base"
    with pytest.raises(ConfigError, match=r"model.name: .nano:base. -> .random:tiny"):
        open_workdir(str(folder), load(), BASE)


def test_a_folder_of_something_else_and_a_full_disk_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a run of this program"):
        open_workdir(str(tmp_path), load(), BASE)
    with pytest.raises(ConfigError, match=r"GB free, but checkpoint.keep=2 \+ 1 checkpoints"):
        check_space(tmp_path, 10**13, 2)


def test_a_start_that_is_refused_takes_its_folders_with_it(tmp_path):
    """config.json, owner.json and a log stayed behind what the devices refused."""

    def refused(path, before=lambda place: None):
        with pytest.raises(ConfigError), open_place(str(path), load(), BASE, Hosts()) as place:
            log_to_file(place.folder)
            (place.folder / "buffers").mkdir(exist_ok=True)
            before(place)
            raise ConfigError(["mesh.tensor=3: no"])

    (tmp_path / "there").mkdir()
    for path in (tmp_path / "not" / "yet" / "there", tmp_path / "there"):
        refused(path)
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not list((tmp_path / "there").iterdir())
    refused(tmp_path / "there", lambda place: (place.folder / "notes.txt").write_text("of somebody else"))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["notes.txt"]
    refused(tmp_path / "run", lambda place: (place.folder / "seeding.json").write_text("{}"))
    assert (tmp_path / "run" / "config.json").exists(), "something was played"
    refused(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()


def test_a_model_and_a_file_are_no_workdirs(tmp_path):
    """The model's config.json was written over; the file was a traceback."""
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text('{"model_type": "qwen2"}')
    with pytest.raises(ConfigError, match="not a run of this program"):
        open_workdir(str(tmp_path / "model"), load(), BASE)
    assert "qwen2" in (tmp_path / "model" / "config.json").read_text()
    with pytest.raises(ConfigError, match="cannot write there: Not a directory"):
        open_workdir(str(tmp_path / "model" / "config.json"), load(), BASE)


def test_circumstances_may_change_and_are_noted_with_the_iteration_they_hold_from(tmp_path):
    folder = begun(tmp_path / "run", load())
    other = {"iterations": "40", "mesh__fsdp": "8", "rollout__slots": "6", "executor__workers": "3", "eval__every": "7"}
    before = (folder / "config.json").read_text()
    open_workdir(str(folder), load(**other), BASE)
    assert (folder / "config.json").read_text() == before and not (folder / CHANGES).exists(), "it may yet be refused"
    go_on_with(str(folder), folder, load(**other), BASE, 11)
    [line] = [json.loads(line) for line in (folder / CHANGES).read_text().splitlines()]
    assert line["from"] == 11 and line["changes"]["mesh.fsdp"] == [load().mesh.fsdp, 8]
    assert set(line["changes"]) == {name.replace("__", ".") for name in other}
    assert "iterations 3 -> 40" in changes_from(folder, 11) and changes_from(folder, 3) == ""
    go_on_with(str(folder), folder, load(**other), BASE, 12)
    assert len((folder / CHANGES).read_text().splitlines()) == 1, "the same again is no change"


def test_a_synchronous_run_goes_on_though_the_usual_cache_in_flight_was_another_then(tmp_path):
    folder = open_workdir(str(tmp_path / "run"), load(), BASE)
    config = json.loads((folder / "config.json").read_text())
    config["pipeline"]["kv_cache"] = "keep"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text('{"iteration": 1}\n')
    open_workdir(str(folder), load(), BASE)


def test_a_learning_rate_that_falls_makes_the_end_a_part_of_the_run(tmp_path):
    falling = {"learner__schedule": "linear"}
    folder = begun(tmp_path / "run", load(**falling))
    with pytest.raises(ConfigError, match=r"iterations: 3 -> 40 \(learner.schedule=linear falls to its end"):
        open_workdir(str(folder), load(iterations="40", **falling), BASE)
    assert not (folder / CHANGES).exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[]", r"holds \[\]: should be an object"),
        ("\ufeff{}", "is not JSON: Unexpected UTF-8 BOM"),
        ('{"model": 7}', "model=7: should be an object"),
        ('{"model": {"name": ["x"]}}', r"model.name=\['x'\]: should be a string"),
        ('{"model": {"name": "x"}, "rollout": [1]}', r"rollout=\[1\]: should be an object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
    ],
)
def test_a_damaged_config_of_a_run_is_one_line(tmp_path, content, said):
    """It was a traceback."""
    (begun(tmp_path / "run", load()) / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=f"{said}.*; without it the run cannot go on") as refused:
        open_workdir(str(tmp_path / "run"), load(), BASE)
    assert len(refused.value.problems) == 1 and "\n" not in str(refused.value)


@pytest.mark.parametrize("make", ["folder", "link"])
def test_what_stands_in_place_of_a_config_is_no_file(tmp_path, make):
    config = begun(tmp_path / "run", load()) / "config.json"
    config.unlink()
    config.mkdir() if make == "folder" else config.symlink_to("config.json")
    with pytest.raises(ConfigError, match=r"config\.json") as refused:
        open_workdir(str(tmp_path / "run"), load(), BASE)
    assert "\n" not in str(refused.value)
