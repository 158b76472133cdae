"""Does it learn, and how fast: the nano recipe from start to end, held-out accuracies before and after.

    python benchmarks/nano_curve.py --workdir=<scratch> [--seeds=3] [--iterations=0]

Any change to the algorithm can be tried on it. A stopped benchmark goes on where it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.monitor.means import mean_and_error
from azr_jax.nano.ablate import p_value, plans, table
from azr_jax.nano.runs import read_curve, run_all

FLAGS = flags.FLAGS


def main(argv: Sequence[str]) -> None:
    extra = {"iterations": str(FLAGS.iterations)} if FLAGS.iterations else {}
    extra |= dict(change.split("=", 1) for change in FLAGS.change)
    planned = plans(Path(FLAGS.workdir).resolve(), [FLAGS.variant], FLAGS.seeds, extra)
    run_all(planned, side_by_side=FLAGS.side_by_side, tell=lambda line: print(line, flush=True))
    curves = [read_curve(plan.workdir) for plan in planned]
    print(table({FLAGS.variant: curves}))
    gains = {kind: mean_and_error([run.gain[kind] for run in curves]) for kind in curves[0].first}
    error = gains["deduction"][1]
    print(
        json.dumps(
            {
                **{f"gain_{kind}": round(mean, 4) for kind, (mean, _) in gains.items()},
                "gain_se": None if error is None else round(error, 4),
                "p": round(p_value([run.gain["deduction"] for run in curves]), 5),
                "seconds_per_iteration": round(sum(run.seconds_per_iteration for run in curves) / len(curves), 3),
                "valid_rate_first": round(sum(run.valid_first for run in curves) / len(curves), 4),
                "valid_rate_last": round(sum(run.valid_last for run in curves) / len(curves), 4),
            }
        )
    )


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "where the runs live", required=True)
    flags.DEFINE_string("variant", "full", "one of those of azr_jax/nano/variants.py")
    flags.DEFINE_integer("seeds", 3, "runs", lower_bound=1)
    flags.DEFINE_integer("side_by_side", 1, "runs at a time; timings are true for 1", lower_bound=1)
    flags.DEFINE_integer("iterations", 0, "of each run; 0: the recipe's")
    flags.DEFINE_multi_string("change", [], "a field of the recipe, as field=value; may be given many times")
    app.run(main)
