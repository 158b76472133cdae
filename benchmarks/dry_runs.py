"""Dry runs of the recipes with the TPU compiler that each release of JAX installs itself: the table of tpu/README.md.

    python benchmarks/dry_runs.py [--releases=0.10.2,0.12.0.1] [--recipes=qwen7b] [--slices=v5e:4x4] [--again]
                                  [--environment=0.10.2=<a venv's folder> ...] [--python=0.12.0.1=<an interpreter> ...]

`jax[tpu]` pins one libtpu for each release, and what a program takes on a chip is that compiler's doing. So for each
release there is a virtual environment of this project's requirements and `jax[tpu]==<release>`, nothing chosen by hand:
made below ~/.cache/azr_jax/dry_runs (`--folder`), or given. One recipe is compiled at a time, which takes minutes of
one core and up to some gigabytes. What came out stands in tpu/compiled.jsonl, a line for each release, recipe and
slice; lines of the same compiler are kept (`--again`: compiled anew), so that a call that was ended goes on where it
was. The table is made of all lines. Exit code 1 where something does not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LINES, README = ROOT / "tpu" / "compiled.jsonl", ROOT / "tpu" / "README.md"
BEGIN, END = "<!-- benchmarks/dry_runs.py writes from here -->", "<!-- to here -->"
# The last of each line of releases that requirements.txt allows, oldest first, and the Python it is for.
RELEASES = {"0.10.2": "python3.11", "0.11.2": "python3.12", "0.12.0.1": "python3.12"}
RECIPES = (
    ("qwen05b_coder", "v6e:1x1"),
    ("qwen15b_coder", "v6e:2x2"),
    ("qwen3b_coder", "v5e:2x4"),
    ("qwen3_4b", "v5e:2x4"),
    ("qwen7b", "v5e:4x4"),
    ("qwen7b", "v6e:2x4"),
    ("qwen7b", "v5p:2x2x1"),
    ("qwen7b+overlapped", "v5e:4x4"),
    ("qwen7b+overlapped", "v6e:2x4"),
    ("llama8b", "v5e:4x4"),
    ("qwen14b", "v5e:8x8"),
)
MODES = {"overlapped": ("--config.pipeline.mode=overlapped", "--config.learner.importance=token")}  # behind a plus
Line = dict[str, Any]

# What a release's environment says of itself.
ASK = """
import importlib.metadata as m, json
print(json.dumps({name: m.version(name) for name in ("jax", "jaxlib", "libtpu")}))
"""
PINS = "import importlib.metadata as m; print(*[r for r in m.requires('jax') if r.startswith('libtpu')])"


class Wrong(RuntimeError):
    """An environment that is not what the release installs."""


def python_of(release: str, folder: Path, given: str | None, interpreter: str) -> str:
    """Of the release's environment, which is made where it is not there."""
    if given:
        return str(Path(given) / "bin" / "python")
    home = folder / f"jax-{release}"
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", str(home)], check=True)
        asked = ["-r", str(ROOT / "requirements.txt"), f"jax[tpu]=={release}"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *asked], check=True)
        done.touch()
    return str(python)


def versions(python: str, release: str) -> dict[str, str]:
    """JAX, jaxlib, libtpu. Raises Wrong where they are not the release and what its `tpu` extra pins."""
    found = json.loads(_said(python, ASK))
    if found["jax"] != release:
        raise Wrong(f"{python}: has jax {found['jax']}, should be {release}")
    pin = _said(python, PINS).split(";")[0].strip()  # as libtpu==0.0.42.*
    wanted = pin.partition("==")[2].removesuffix("*")
    if not wanted or not f"{found['libtpu']}.".startswith(wanted):
        raise Wrong(f"{python}: has libtpu {found['libtpu']}, and jax {release} installs {pin or 'none'}")
    return found


def _said(python: str, program: str) -> str:
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout


def compiled(python: str, recipe: str, topology: str) -> Line:
    """One dry run, and what of it the table tells."""
    name, _, mode = recipe.partition("+")
    command = [python, "-m", "azr_jax.dryrun", f"--config=configs/{name}.py", f"--topology={topology}", "--json"]
    command += MODES.get(mode, ())
    env = {key: value for key, value in os.environ.items() if key not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise Wrong(f"{' '.join(command)}: ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return told(json.loads(done.stdout.splitlines()[-1]), time.monotonic() - started)


def told(found: dict[str, Any], seconds: float) -> Line:
    """What the table tells of a dry run's JSON."""
    programs = {name: figures["peak_gb"] + figures["beside_gb"] for name, figures in found["programs"].items()}
    programs |= found["too_large"]
    train = [name for name in programs if name.startswith("train")]
    return {
        "fits": found["fits"],
        "fullest": max(programs, key=lambda name: programs[name]),
        "fullest_bytes": round(found["largest_gb"] * 2**30),
        "chip_bytes": round(found["chip_gb"] * 2**30),
        "train_gib": round(max(programs[name] for name in train), 2),
        "train_ratio": found["programs"].get(train[0], {}).get("flops_ratio"),
        "pages": found["kv_pages"],
        "seconds": round(seconds),
    }


def table(lines: Iterable[Line]) -> str:
    """One row for each recipe, slice and release, in the order of the lists above; what was not compiled is named."""
    by_key = {_key(line): line for line in lines}
    rows = [
        "| recipe | slice | JAX | libtpu | fullest program | bytes on a chip | of | train step, GiB | fits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    missing: dict[str, list[str]] = {}
    for recipe, topology in RECIPES:
        for release in RELEASES:
            line = by_key.get((release, recipe, topology))
            if line is None:
                missing.setdefault(release, []).append(f"`{recipe}` on {topology}")
                continue
            rows.append(
                f"| `{recipe}` | {topology} | {release} | {line['libtpu']} | {line['fullest']} | "
                f"{line['fullest_bytes']:,} | {line['chip_bytes']:,} | {line['train_gib']:.2f} | "
                f"{'yes' if line['fits'] else '**NO**'} |"
            )
    left_out = [f"Not compiled with JAX {release}: {', '.join(names)}." for release, names in missing.items()]
    return "\n".join([*rows, *(["", "\n".join(left_out)] if left_out else [])]) + "\n"


def written(readme: str, lines: Iterable[Line]) -> str:
    """The page with the table in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise Wrong(f"{README}: should have a line {BEGIN}, and below it {END}")
    return f"{before}{BEGIN}\n\n{table(lines)}\n{END}{after}"


def _key(line: Line) -> tuple[str, str, str]:
    return line["jax"], line["recipe"], line["slice"]


def read() -> list[Line]:
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def write(lines: list[Line]) -> None:
    """All lines in the table's order, and the table."""
    releases, recipes = list(RELEASES), list(RECIPES)

    def place(line: Line) -> tuple[int, int, str]:
        pair, release = (line["recipe"], line["slice"]), line["jax"]
        known = recipes.index(pair) if pair in recipes else len(recipes)
        return known, releases.index(release) if release in releases else len(releases), release

    LINES.write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=place)))
    README.write_text(written(README.read_text(), lines))


def main() -> None:
    args = _parser().parse_args()
    given = dict(pair.split("=", 1) for pair in args.environment)
    interpreters = RELEASES | dict(pair.split("=", 1) for pair in args.python)
    releases = args.releases.split(",") if args.releases else list(RELEASES)
    recipes, slices = args.recipes.split(","), args.slices.split(",")
    wanted = [(r, s) for r, s in RECIPES if (not args.recipes or r in recipes) and (not args.slices or s in slices)]
    lines = {_key(line): line for line in read()}
    try:
        pythons = {r: python_of(r, args.folder, given.get(r), interpreters.get(r, "python3")) for r in releases}
        installed = {release: versions(python, release) for release, python in pythons.items()}
        for recipe, topology in wanted:
            for release in releases:
                key, have = (release, recipe, topology), installed[release]
                if not args.again and lines.get(key, {}).get("libtpu") == have["libtpu"]:
                    continue
                print(f"jax {release}, libtpu {have['libtpu']}: {recipe} on {topology}", file=sys.stderr, flush=True)
                lines[key] = have | {"recipe": recipe, "slice": topology} | compiled(pythons[release], recipe, topology)
                write(list(lines.values()))
        write(list(lines.values()))
    except (Wrong, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"error: {error}")
    asked = [lines[key] for key in lines if key[0] in releases and key[1:] in wanted]
    print(table(lines.values()))
    print(json.dumps({"dry_runs": asked}))
    sys.exit(0 if all(line["fits"] for line in asked) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--releases", default="", help=f"By comma. Default: {','.join(RELEASES)}")
    parser.add_argument("--recipes", default="", help="By comma. Default: all of the table.")
    parser.add_argument("--slices", default="", help="By comma. Default: all of the table.")
    parser.add_argument("--again", action="store_true", help="Compile what stands in tpu/compiled.jsonl, too.")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "azr_jax" / "dry_runs")
    parser.add_argument("--environment", action="append", default=[], metavar="RELEASE=FOLDER")
    parser.add_argument("--python", action="append", default=[], metavar="RELEASE=INTERPRETER")
    return parser


if __name__ == "__main__":
    main()
