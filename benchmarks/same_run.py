"""Whether two checkouts play the same run: the nano recipe in each, then metrics, records and buffers compared.

    python benchmarks/same_run.py --before=<another checkout> [--iterations=10] [--out=<folder>]

A run that is there already is not played again. Metrics are compared by name and value, records as they stand and as a
set (the order of the kinds' solutions may differ), buffers byte by byte, the last weights and the optimizer's state by
the digest of every array. One table, then one line of JSON.

Before says as much of itself: with `--before=.` or another copy of the same code what differs is the machine's, since
which requests share a round of the sampler depends on when verdicts come, and sums are rounded by the round's shape.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def play(root: Path, workdir: Path, iterations: int) -> None:
    fields = {"seed": 0, "iterations": iterations, "eval.every": 5, "eval.rows": 20}
    flags = [f"--config.{field}={value}" for field, value in fields.items()]
    command = [sys.executable, "-m", "azr_jax.main", "--config=configs/nano.py", f"--workdir={workdir}", *flags]
    subprocess.run(command, cwd=root, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True, stdout=subprocess.DEVNULL)


def rows(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def digests(workdir: Path) -> dict[str, object]:
    """Of every array of the latest checkpoint."""
    last = max((workdir / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    return json.loads((last / "digests" / "metadata").read_text())


def compare(before: Path, after: Path) -> dict[str, object]:
    old, new = (rows(workdir / "metrics.jsonl") for workdir in (before, after))
    differ = {
        name: max(abs(a.get(name, 0.0) - b.get(name, 0.0)) for a, b in zip(old, new, strict=True))
        for name in sorted({name for row in (*old, *new) for name in row})
        if any(a.get(name) != b.get(name) for a, b in zip(old, new, strict=True))
    }
    one, other = ((workdir / "records.jsonl").read_text().splitlines() for workdir in (before, after))
    files = sorted(path.name for path in (before / "buffers").iterdir())
    return {
        "iterations": len(new),
        "metrics that differ": differ,
        "weights and optimizer equal": digests(before) == digests(after),
        "records equal": one == other,
        "records equal as a set": sorted(one) == sorted(other),
        "buffers equal": all((w / "buffers" / f).exists() for w in (before, after) for f in files)
        and all((before / "buffers" / f).read_bytes() == (after / "buffers" / f).read_bytes() for f in files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    out = (args.out or Path(tempfile.mkdtemp())).resolve()
    for name, root in (("before", args.before.resolve()), ("after", HERE)):
        play(root, out / name, args.iterations)
    found = compare(out / "before", out / "after")
    for what, value in found.items():
        print(f"{what:28} {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
