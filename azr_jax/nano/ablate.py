"""The ablations, played in the small world: every variant on the same seeds, one table, one report page.

    python -m azr_jax.nano.ablate --out=<folder> [--seeds=3] [--variants=full,solver_only] [--side_by_side=2]

It may be stopped and started again at any time: finished runs stay, the others go on. Differences are against `full`,
paired by seed; their standard errors are over seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from scipy import stats

from azr_jax.monitor.report import build as build_report
from azr_jax.nano.runs import KINDS, Curve, Plan, read_curve, run_all

FLAGS = flags.FLAGS
VARIANTS: dict[str, dict[str, str]] = {
    "full": {},
    "solver_only": {"tasks.train_proposer": "false"},
    "no_references": {"tasks.references": "0"},
    "deduction_only": {"tasks.kinds": "deduction"},
    "no_induction": {"tasks.kinds": "deduction,abduction"},
    "reference_preset": {"preset": "reference"},
    "train_on_estimates": {"tasks.train_on_estimates": "true"},
    # Controls: these must not learn.
    "shuffled_rewards": {"rewards.control": "shuffled"},
    "flipped_rewards": {"rewards.control": "flipped"},
}


def plans(out: Path, variants: Sequence[str], seeds: int, extra: dict[str, str]) -> list[Plan]:
    """Seed by seed, so that whoever stops early has whole pairs."""
    return [
        Plan(name, seed, VARIANTS[name] | extra, out / f"{name}-{seed}") for seed in range(seeds) for name in variants
    ]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def p_value(gains: Sequence[float]) -> float:
    """Of a gain this far from zero by chance, two-sided, by Student's t over seeds."""
    if len(gains) < 2:
        return math.nan
    result: Any = stats.ttest_1samp(gains, 0.0)
    return float(result.pvalue)


def spread(values: Sequence[float]) -> str:
    """Points, with the standard error where there is one."""
    mean, error = mean_and_error([100 * value for value in values])
    return f"{mean:+.1f}" if math.isnan(error) else f"{mean:+.1f} ± {error:.1f}"


def table(curves: dict[str, list[Curve]]) -> str:
    """Markdown: for each variant the gain of each kind, and by how much it differs from that of `full`."""
    lines = [
        "| variant | " + " | ".join(f"{kind}, gain" for kind in KINDS) + " | p (deduction) | "
        f"against full: {' | '.join(KINDS)} | valid proposals | s/iteration |",
        "|" + "---|" * (2 * len(KINDS) + 4),
    ]
    for name, runs in curves.items():
        cells = [spread([run.gain[kind] for run in runs]) for kind in KINDS]
        p = p_value([run.gain["deduction"] for run in runs])
        cells.append("" if math.isnan(p) else f"{p:.4f}")
        pairs = [] if name == "full" or "full" not in curves else list(zip(runs, curves["full"], strict=True))
        cells += [spread([a.gain[kind] - b.gain[kind] for a, b in pairs]) if pairs else "" for kind in KINDS]
        first, last = (sum(x) / len(x) for x in ([r.valid_first for r in runs], [r.valid_last for r in runs]))
        cells.append(f"{100 * first:.0f} -> {100 * last:.0f} %")
        cells.append(f"{sum(run.seconds_per_iteration for run in runs) / len(runs):.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"arguments are flags, found {argv[1:]}")
    unknown = [name for name in FLAGS.variants if name not in VARIANTS]
    if unknown:
        raise app.UsageError(f"--variants={','.join(unknown)}: should be some of {', '.join(VARIANTS)}")
    out = Path(FLAGS.out).resolve()
    extra = {"iterations": str(FLAGS.iterations)} if FLAGS.iterations else {}
    planned = plans(out, FLAGS.variants, FLAGS.seeds, extra)
    run_all(planned, side_by_side=FLAGS.side_by_side, tell=lambda line: print(line, flush=True))
    curves: dict[str, list[Curve]] = {name: [] for name in FLAGS.variants}
    for plan in planned:
        curves[plan.name].append(read_curve(plan.workdir))
    written = table(curves)
    (out / "table.md").write_text(written + "\n")
    build_report([out / f"{name}-0" for name in FLAGS.variants], out / "report.html")
    print(f"{written}\n{out / 'report.html'}")
    gains = {name: [round(run.gain["deduction"], 4) for run in runs] for name, runs in curves.items()}
    print(json.dumps({"gain_deduction": gains}))


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "folder for the runs, the table and the report", required=True)
    flags.DEFINE_integer("seeds", 3, "runs of each variant", lower_bound=1)
    flags.DEFINE_list("variants", list(VARIANTS), "which to play")
    flags.DEFINE_integer("side_by_side", 2, "runs at a time, one thread each", lower_bound=1)
    flags.DEFINE_integer("iterations", 0, "of each run; 0: the recipe's")
    app.run(main)
