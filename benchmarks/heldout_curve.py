"""What runs gained on held-out tasks, compared task by task with the beginning and with each other; and the curve.

    python benchmarks/heldout_curve.py self-play=runs/a shuffled=runs/b ... [--svg=curve.svg]

Each run is a workdir, or its heldout.jsonl alone. Runs that begin with the same weights and seed are measured alike
before training, so a run without that first measurement is compared with the first one of another. Errors are over
tasks, p by the normal distribution (two sides). Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from math import erfc, sqrt
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.monitor.jsonl import read
from azr_jax.monitor.means import Mean

Scores = Mapping[tuple[str, int], Sequence[float]]  # of (kind, iteration): each task's
COLOURS = ("#1565c0", "#c62828", "#757575", "#2e7d32", "#6a1b9a")
W, H, LEFT, TOP = 380, 250, 48, 34


def scores_of(path: Path) -> Scores:
    file = path / "heldout.jsonl" if path.is_dir() else path
    return {(line["kind"], line["iteration"]): line["scores"] for line in read(file)}


def difference(now: Sequence[float], before: Sequence[float]) -> Mean:
    return Mean.of([a - b for a, b in zip(now, before, strict=True)])


def told(mean: Mean) -> str:
    p = erfc(abs(mean.value / mean.error) / sqrt(2)) if mean.error else float(mean.value == 0)
    return f"{100 * mean.value:+.1f} +- {100 * mean.error:.1f} (p = {p:.1g})"


def panel(kind: str, runs: Mapping[str, Sequence[tuple[int, Mean]]], at: int, last: int, top: float) -> list[str]:
    """One kind: the mean of each run at each measurement, with its standard error."""

    def xy(iteration: int, value: float) -> tuple[float, float]:
        return at + LEFT + (W - LEFT - 16) * iteration / last, TOP + (H - TOP - 40) * (1 - value / top)

    out = [f'<text x="{at + W / 2}" y="18" text-anchor="middle" font-weight="bold">{kind}</text>']
    for percent in range(0, int(100 * top) + 1, 5):
        (x, y), (right, _) = xy(0, percent / 100), xy(last, 0)
        out.append(f'<line x1="{x}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for iteration in sorted({iteration for curve in runs.values() for iteration, _ in curve}):
        x, y = xy(iteration, 0)
        out.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{iteration}</text>')
    for colour, curve in zip(COLOURS, runs.values()):
        points = " ".join("{:.1f},{:.1f}".format(*xy(iteration, mean.value)) for iteration, mean in curve)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for iteration, mean in curve:
            (x, low), (_, high) = (xy(iteration, mean.value + part * mean.error) for part in (-1, 1))
            out.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
    return out


def picture(by_kind: Mapping[str, Mapping[str, Sequence[tuple[int, Mean]]]]) -> str:
    means = [each for runs in by_kind.values() for curve in runs.values() for each in curve]
    last, top = max(iteration for iteration, _ in means), 0.05 + max(mean.value + mean.error for _, mean in means)
    parts = [line for i, (kind, runs) in enumerate(by_kind.items()) for line in panel(kind, runs, i * W, last, top)]
    for i, (colour, name) in enumerate(zip(COLOURS, next(iter(by_kind.values())))):
        x = round(LEFT + i * (len(by_kind) * W - LEFT) / len(COLOURS))
        parts.append(f'<line x1="{x}" y1="{H + 6}" x2="{x + 18}" y2="{H + 6}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 24}" y="{H + 10}">{name}</text>')
    size = f'width="{len(by_kind) * W}" height="{H + 20}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", help="name=workdir, the one that the others are controls of first")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    runs = {name: scores_of(Path(path)) for name, path in (run.split("=", 1) for run in options.runs)}
    kinds = list(dict.fromkeys(kind for scores in runs.values() for kind, _ in scores))
    begun = {kind: next(scores[kind, 0] for scores in runs.values() if (kind, 0) in scores) for kind in kinds}
    report: dict[str, object] = {"tasks": {kind: len(before) for kind, before in begun.items()}}
    by_kind: dict[str, dict[str, list[tuple[int, Mean]]]] = {kind: {} for kind in kinds}
    first = next(iter(runs))
    for name, scores in runs.items():
        for kind, iteration in sorted(scores.keys() | {(kind, 0) for kind in kinds}):
            before = scores.get((kind, 0), begun[kind])
            now = scores.get((kind, iteration), before)
            mean, gain = Mean.of(now), difference(now, before)
            by_kind[kind].setdefault(name, []).append((iteration, mean))
            if not iteration:
                continue
            line = f"{name}, {kind}, iteration {iteration}: {100 * mean.value:.1f} +- {100 * mean.error:.1f} %"
            line += f", gained {told(gain)}"
            report[f"{name}/{kind}/{iteration}"] = [round(100 * x, 2) for x in (mean.value, gain.value, gain.error)]
            if name != first and (kind, iteration) in runs[first]:
                line += f"; {first} less this {told(difference(runs[first][kind, iteration], now))}"
            print(line)
    if options.svg:
        options.svg.write_text(picture(by_kind))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
