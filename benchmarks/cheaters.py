"""What cheating pays: scripted strategies play self-play by the rules as they were and as they are.

    python benchmarks/cheaters.py [--iterations=20] [--batch=4] [--memory=0.8]

Each strategy plays alone, with the real loop, executor and rewards; only the model is a script (tests/selfplay/
cheats.py). The bar is the median of what honest proposals of every solve rate earn. `open` rows say what stays open by
the default rules, the last column what `rewards.memory.nearest` makes of it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.executor.pool import Executor, ExecutorSettings
from tests.selfplay.cheats import CHEATS, HONEST, NEW_RULES, OLD_RULES, OPEN, SOLVERS, Earned, Strategy, play

FLAGS = flags.FLAGS


def main(argv: Sequence[str]) -> None:
    remembering = {**NEW_RULES, "rewards__memory__nearest": str(FLAGS.memory)}
    with Executor(ExecutorSettings(timeout_s=5.0)) as executor:

        def earned(strategy: Strategy, rules: Mapping[str, str]) -> Earned:
            return play(executor, strategy, FLAGS.iterations, FLAGS.batch, rules)

        bar = statistics.median(reward for one in HONEST for reward in earned(one, NEW_RULES).rewards)
        print(f"| strategy | kind | mean reward, old rules | mean reward | valid | kept | with memory {FLAGS.memory} |")
        print("|---|---|---|---|---|---|---|")
        found = {}
        for strategy in (*HONEST, *CHEATS, *OPEN, *SOLVERS):
            old, new = earned(strategy, OLD_RULES), earned(strategy, NEW_RULES)
            with_memory = earned(strategy, remembering) if strategy in (*OPEN, *HONEST) else None
            found[strategy] = new.mean
            print(
                f"| {strategy.name} | {strategy.kind} | {old.mean:+.2f} | {new.mean:+.2f} | {new.valid:.0%} | "
                f"{new.new:.0%} | {f'{with_memory.mean:+.2f}' if with_memory else ''} |",
                flush=True,
            )
        for strategy in OPEN:
            print(f"open: {strategy.name}: {strategy.open}")
    most = max(CHEATS, key=found.__getitem__)
    print(f"An honest proposal of median learnability earns {bar:+.3f}.")
    print(
        json.dumps(
            {
                "iterations": FLAGS.iterations,
                "bar": bar,
                "best_cheat": most.name,
                "best_cheat_earns": round(found[most], 4),
                "best_answering_cheat_earns": round(max(found[one] for one in SOLVERS), 4),
                "open": {one.name: round(found[one], 4) for one in OPEN},
            }
        )
    )


if __name__ == "__main__":
    flags.DEFINE_integer("iterations", 20, "of each strategy", lower_bound=1)
    flags.DEFINE_integer("batch", 4, "proposals in one", lower_bound=1)
    flags.DEFINE_float("memory", 0.8, "rewards.memory.nearest of the last column")
    app.run(main)
