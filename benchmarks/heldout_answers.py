"""What models answer to a run's held-out tasks, as the run asks: right, wrong, or of a wrong form, by arguments.

    python benchmarks/heldout_answers.py base=Qwen/Qwen2.5-Coder-0.5B-Instruct self-play=runs/a@30 ...
        [--config=configs/qwen05b_coder_cpu.py] [--data_dir=...] [--temperature=0] [--attempts=1] [--rows=0]
        [--out=answers.jsonl]

A run says of each held-out task how often it was right. This says why not, and, greedily (the default), how much of a
gain is more than a sharper choice among what the model knew before. Gains are against the first model, task by task,
with their standard error. Sizes, prompts and judging are the recipe's. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.config.flags import load, replaced
from azr_jax.config.schema import Config
from azr_jax.evals.held import cruxeval, solutions
from azr_jax.evals.models import find
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.models.products import product_dtype
from azr_jax.monitor.means import Mean
from azr_jax.rollout.engine import Engine
from azr_jax.run.heldout_eval import first_of_each_kind
from azr_jax.run.settings import engine_settings
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.prompting import Prompter
from azr_jax.selfplay.results import Solved
from azr_jax.tasks.types import FormatError, Kind, Task

Held = tuple[Kind, Task]


def arguments(task: Task) -> int:
    functions = [node for node in ast.parse(task.program).body if isinstance(node, ast.FunctionDef)]
    return len(next(node for node in functions if node.name == "f").args.args)


def reason(solved: Solved) -> str:
    if isinstance(solved.answer, FormatError):
        return solved.answer.reason
    return solved.verdict.reason if solved.verdict else "not judged"


def answers(name: str, c: Config, tasks: Sequence[Held], attempts: int, executor: Executor) -> list[list[Solved]]:
    model = find(name)
    graphdef, params = model.weights(product_dtype(c.model.dtype, c.model.matmul_dtype).name)
    settings = engine_settings(c, c.rollout.slots, model.never)
    engine = Engine(graphdef, model.spec, settings, seed=c.seed, decode_text=model.tokenizer.decode)
    engine.load_weights(params, 0)
    solver = Solver(Prompter(model.tokenizer, model.folder, c))
    try:
        return EventLoop(engine, executor).run(solutions(solver, tasks, attempts))
    finally:
        engine.close()


def said(name: str, tasks: Sequence[Held], solved: list[list[Solved]], first: list[list[Solved]]) -> dict[str, Any]:
    """Printed by kind, and the same for machines. What was too long to be asked counts as wrong."""
    scores, before = ([sum(one.score for one in of) / max(1, len(of)) for of in each] for each in (solved, first))
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(kind for kind, _ in tasks):
        here = [number for number, (other, _) in enumerate(tasks) if other == kind]
        mean, gain = Mean.of([scores[n] for n in here]), Mean.of([scores[n] - before[n] for n in here])
        by: dict[str, float] = {}
        for least, most, label in ((1, 1, "one"), (2, 2, "two"), (3, 99, "more")):
            some = [scores[n] for n in here if least <= arguments(tasks[n][1]) <= most]
            by[f"{label} ({len(some)})"] = round(100 * sum(some) / max(1, len(some)), 1)
        reasons = Counter(reason(one) for n in here for one in solved[n])
        right = f"{100 * mean.value:.1f} +- {100 * mean.error:.1f} %"
        gained = f"gained {100 * gain.value:+.1f} +- {100 * gain.error:.1f}"
        print(f"{name}, {kind}: {right}, {gained}; by arguments {by}; {dict(reasons.most_common(6))}", flush=True)
        found[kind] = {"right": [mean.value, mean.error], "gain": [gain.value, gain.error], "by_arguments": by}
        found[kind]["reasons"] = dict(reasons)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", help="<name>=<folder, hub name or workdir@iteration>")
    parser.add_argument("--config", default="configs/qwen05b_coder_cpu.py")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0, help="of each kind; 0: all")
    parser.add_argument("--out", type=Path, help="every answer, a line each")
    options = parser.parse_args()
    c, problems = load(options.config, {})
    assert not problems, problems
    c = replaced(c, "rollout.temperature", options.temperature)
    tasks = first_of_each_kind(cruxeval(options.data_dir)[0], options.rows)
    first: list[list[Solved]] = []
    found: dict[str, Any] = {}
    settings = ExecutorSettings(timeout_s=c.executor.timeout_s)
    with Executor(settings) as executor, options.out.open("w") if options.out else nullcontext() as out:
        for each in options.models:
            name, _, model = each.partition("=")
            solved = answers(model, c, tasks, options.attempts, executor)
            first = first or solved
            found[name] = said(name, tasks, solved, first)
            for (kind, task), of_task in zip(tasks, solved, strict=True):
                for one in of_task if out else ():
                    row = {"model": name, "kind": kind, "input": getattr(task, "input", ""), "reason": reason(one)}
                    print(json.dumps(row | {"completion": one.completion.text}), file=out)
    print(json.dumps({"temperature": options.temperature, "attempts": options.attempts} | found))


if __name__ == "__main__":
    main()
