"""The ablations, played in the small world: every variant on the same seeds, one table, one report page.

    python -m azr_jax.nano.ablate --out=<folder> [--seeds=3] [--variants=full,old] [--iterations=20] [--side_by_side=2]

Variants are named in azr_jax/nano/variants.py, one by one or by group; a third of the iterations is enough to rank
them, and the learning rate falls to its end in them all the same. It may be stopped and started again at any time:
finished runs stay, the others go on. Differences are against `full`, paired by seed; their standard errors are over
seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from scipy import stats

from azr_jax.monitor.means import mean_and_error
from azr_jax.monitor.report import build as build_report
from azr_jax.nano.runs import KINDS, Curve, Plan, read_curve, run_all
from azr_jax.nano.variants import GROUPS, VARIANTS, chosen

FLAGS = flags.FLAGS


def plans(out: Path, variants: Sequence[str], seeds: int, extra: dict[str, str]) -> list[Plan]:
    """Seed by seed, so that whoever stops early has whole pairs."""
    return [
        Plan(name, seed, VARIANTS[name] | extra, out / f"{name}-{seed}") for seed in range(seeds) for name in variants
    ]


def p_value(gains: Sequence[float]) -> float:
    """Of a gain this far from zero by chance, two-sided, by Student's t over seeds."""
    if len(gains) < 2:
        return math.nan
    result: Any = stats.ttest_1samp(gains, 0.0)
    return float(result.pvalue)


def spread(values: Sequence[float]) -> str:
    """Points, with the standard error where there is one."""
    mean, error = mean_and_error([100 * value for value in values])
    return f"{mean:+.1f}" if error is None else f"{mean:+.1f} ± {error:.1f}"


def _mean(runs: Sequence[Curve], what: str) -> float:
    return sum(getattr(run, what) for run in runs) / len(runs)


def table(curves: dict[str, list[Curve]]) -> str:
    """Markdown: for each variant the gain of each kind, and by how much it differs from that of `full`."""
    lines = [
        "| variant | " + " | ".join(f"{kind}, gain" for kind in KINDS) + " | p (deduction) | "
        f"against full: {' | '.join(KINDS)} | valid proposals | new ones | s/iteration |",
        "|" + "---|" * (2 * len(KINDS) + 5),
    ]
    for name, runs in curves.items():
        cells = [spread([run.gain[kind] for run in runs]) for kind in KINDS]
        p = p_value([run.gain["deduction"] for run in runs])
        cells.append("" if math.isnan(p) else f"{p:.4f}")
        pairs = [] if name == "full" or "full" not in curves else list(zip(runs, curves["full"], strict=True))
        cells += [spread([a.gain[kind] - b.gain[kind] for a, b in pairs]) if pairs else "" for kind in KINDS]
        for first, last in (("valid_first", "valid_last"), ("new_first", "new_last")):
            cells.append(" -> ".join(f"{100 * _mean(runs, what):.0f}" for what in (first, last)) + " %")
        cells.append(f"{_mean(runs, 'seconds_per_iteration'):.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"arguments are flags, found {argv[1:]}")
    try:
        names = chosen(FLAGS.variants)
    except KeyError as unknown:
        known = f"{', '.join(GROUPS)}, or some of {', '.join(VARIANTS)}"
        raise app.UsageError(f"--variants={','.join(FLAGS.variants)}: {unknown} is none; should be {known}") from None
    out = Path(FLAGS.out).resolve()
    extra = {"iterations": str(FLAGS.iterations)} if FLAGS.iterations else {}
    planned = plans(out, names, FLAGS.seeds, extra)
    run_all(planned, side_by_side=FLAGS.side_by_side, tell=lambda line: print(line, flush=True))
    curves: dict[str, list[Curve]] = {name: [] for name in names}
    for plan in planned:
        curves[plan.name].append(read_curve(plan.workdir))
    written = table(curves)
    (out / "table.md").write_text(written + "\n")
    build_report([out / f"{name}-0" for name in names], out / "report.html")
    print(f"{written}\n{out / 'report.html'}")
    gains = {name: [round(run.gain["deduction"], 4) for run in runs] for name, runs in curves.items()}
    print(json.dumps({"gain_deduction": gains}))


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "folder for the runs, the table and the report", required=True)
    flags.DEFINE_integer("seeds", 3, "runs of each variant", lower_bound=1)
    flags.DEFINE_list("variants", ["paper"], "which to play: names and groups of azr_jax/nano/variants.py")
    flags.DEFINE_integer("side_by_side", 2, "runs at a time, one thread each", lower_bound=1)
    flags.DEFINE_integer("iterations", 0, "of each run; 0: the recipe's")
    app.run(main)
