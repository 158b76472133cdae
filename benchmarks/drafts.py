"""How many tokens a step gives with guesses (rollout.draft_tokens), on answers that a real model has written.

    python -m azr_jax.evaluate --model=Qwen/Qwen2.5-Coder-0.5B-Instruct --suite=cruxeval_i --style=boxed ...
    python benchmarks/drafts.py evals/<model>/<how it was sampled> [--data FOLDER] [--drafts=1,3,7]

Guesses change no text, so what they save can be read off finished texts: for each token of each answer it is asked
what would have been guessed there, and the answer is walked through as the engine would, every slot alone with as many
rows as it can use. Prompts are made anew from the suite's rows. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.evals.code import Runner
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.models import find
from azr_jax.evals.suites import SUITES, Judges
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.rollout.drafts import guesses
from azr_jax.selfplay.prompting import PromptCodec
from azr_jax.tasks.worked import SHOWN

guess = jax.jit(guesses, static_argnums=2)


def steps(prompt: list[int], answer: list[int], draft: int) -> int:
    """Steps of the engine until the whole answer is there."""
    whole = np.array(prompt + answer)
    first, count = len(prompt) - 1, len(answer)
    # Padded to few shapes: each one is compiled. What stands behind a place is not looked at.
    N, T = -(-count // 128) * 128, -(-len(whole) // 512) * 512
    history_NxT = jnp.broadcast_to(jnp.pad(whole, (0, T - len(whole)), constant_values=-1), (N, T))
    places_N = jnp.minimum(first + jnp.arange(N), len(whole) - 1)
    guessed_NxD = np.asarray(guess(history_NxT, places_N, draft))[:count]
    done = number = 0
    while done < count:
        comes = whole[first + done + 1 :][:draft]
        right = guessed_NxD[done, : len(comes)] == comes
        done += 1 + (len(right) if right.all() else int(np.argmin(right)))
        number += 1
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    default = os.environ.get("AZR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--drafts", default="1,3,7")
    options = parser.parse_args()
    asked = json.loads((options.results / "settings.json").read_text())
    model = find(asked["model"])
    codec = PromptCodec(model.tokenizer, model.folder)
    executor = Executor(ExecutorSettings(workers=1))  # CRUXEval's rows are checked by running them
    judges = Judges(Runner(executor, 10.0), MathJudge(1))
    report: dict[str, dict[str, float]] = {}
    for file in sorted(options.results.glob("*.jsonl")):
        folder = options.results.name.split("-")  # style, then the examples unless there is one
        examples = folder[1] if folder[1] in SHOWN else "one"
        suite = replace(SUITES[file.name.partition(".")[0]], examples=examples)
        items = {item.id: item for item in suite.items(str(options.data), asked["style"], judges)[0]}
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        pairs = [(list(codec.tokens(items[row["id"]].prompt)), model.tokenizer.encode(row["text"])) for row in rows]
        pairs = [(prompt, list(answer)) for prompt, answer in pairs if answer]
        tokens = sum(len(answer) for _, answer in pairs)
        of = {
            draft: tokens / sum(steps(*pair, draft) for pair in pairs) for draft in map(int, options.drafts.split(","))
        }
        report[suite.name] = {"answers": len(pairs), "tokens": tokens} | {
            f"draft_{draft}": x for draft, x in of.items()
        }
        print(suite.name, report[suite.name], flush=True)
    executor.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
