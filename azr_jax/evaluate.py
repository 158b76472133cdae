"""Evaluates a model on benchmarks: one command, the same engine and executor as in training.

    python -m azr_jax.evaluate --model=HuggingFaceTB/SmolLM2-135M-Instruct --suite=humaneval,cruxeval_o --style=boxed
    python -m azr_jax.evaluate --model=runs/first@200 --suite=paper --data_dir=data --compare=Qwen/Qwen2.5-7B
    python -m azr_jax.evaluate --model=runs/first --suite=gsm8k --n=8 --temperature=0.7

Suites: paper | in_distribution | general | any list of the names that a wrong one is answered with. A model is a
folder, a hub name, the folder of a LoRA adapter in PEFT's format, or the workdir of a run with @iteration. The same
command goes on where it was interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

MODEL = flags.DEFINE_string("model", None, "A folder, a hub name, or workdir@iteration.", required=True)
SUITE = flags.DEFINE_list("suite", ["in_distribution"], "Suites and groups, joined by commas.")
COMPARE = flags.DEFINE_string("compare", None, "A second model, evaluated the same way; differences are to it.")
STYLE = flags.DEFINE_enum(
    "style", "think", ["think", "think_chat", "boxed", "completion", "evalplus"], "How rows are put to the model."
)
EXAMPLES = flags.DEFINE_enum(
    "examples",
    "one",
    ["one", "several", "matching", "none"],
    "Worked ones, in boxed and completion.",
)
N = flags.DEFINE_integer("n", 1, "Samples per row; more than one needs a temperature.", lower_bound=1, upper_bound=4096)
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "0: greedy.", lower_bound=0.0)
TOP_P = flags.DEFINE_float("top_p", 1.0, "Nucleus sampling; 1: off.", lower_bound=0.0, upper_bound=1.0)
MAX_NEW = flags.DEFINE_integer("max_new_tokens", 8096, "Completions are cut here.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder with the benchmarks' files, laid down by hand.")
OUT = flags.DEFINE_string("out", "evals", "Results go to <out>/<model>/<how it was sampled>.")
LIMIT = flags.DEFINE_integer("limit", 0, "Only the first rows of each suite, for trying out; 0: all.", lower_bound=0)
SINCE = flags.DEFINE_string("since", "", "Only contests of this day (as 2024-08-01) and later: livecodebench_v*.")
UNTIL = flags.DEFINE_string("until", "", "Only contests of this day and earlier.")
SHARD = flags.DEFINE_string("shard", "0/1", "This process's share of the rows: number/count, sharing one --out.")
SLOTS = flags.DEFINE_integer("slots", 16, "Completions decoded side by side.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "Type of weights and cache.")
SEED = flags.DEFINE_integer("seed", 0, "Of sampling.")
TIMEOUT = flags.DEFINE_float("timeout_s", 10.0, "Of one call of a judged program.", lower_bound=0.1)
MEMORY = flags.DEFINE_integer("memory_mb", 4096, "Of one judged program.", lower_bound=64)
WEAK = flags.DEFINE_bool("allow_weak", False, "Judge programs even where the machine lacks the least isolation.")
JSON = flags.DEFINE_bool("json", False, "End with one line of JSON.")


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail(f"{argv[1]}: not understood; flags look like --model=...")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would advise to install torch
    number, _, count = SHARD.value.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        fail(f"--shard={SHARD.value}: should be number/count, as in 0/4 to 3/4")
    if N.value > 1 and not TEMPERATURE.value:
        fail(f"--n={N.value}: greedy samples are all the same; give a --temperature above 0, or --n=1")
    if not TOP_P.value:
        fail("--top_p=0.0: should be above 0, up to 1 (off); --temperature=0 is greedy")
    try:
        _run((int(number), int(count)))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _run(shard: tuple[int, int]) -> None:
    from azr_jax.evals.command import Asked, CannotEvaluate, evaluate  # only now: it starts JAX
    from azr_jax.monitor.console import quiet_libraries

    quiet_libraries()
    asked = Asked(
        suites=tuple(SUITE.value),
        style=STYLE.value,
        examples=EXAMPLES.value,
        n=N.value,
        temperature=TEMPERATURE.value,
        top_p=TOP_P.value,
        max_new_tokens=MAX_NEW.value,
        seed=SEED.value,
        dtype=DTYPE.value,
        slots=SLOTS.value,
        limit=LIMIT.value,
        shard=shard,
        data_dir=DATA_DIR.value,
        out=Path(OUT.value),
        since=SINCE.value,
        until=UNTIL.value,
        timeout_s=TIMEOUT.value,
        memory_mb=MEMORY.value,
        allow_weak=WEAK.value,
    )
    started = time.perf_counter()
    try:
        found: dict[str, Any] = evaluate(MODEL.value, COMPARE.value, asked)
    except CannotEvaluate as error:
        fail(str(error))
    if JSON.value:
        print(json.dumps(found | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    app.run(main)
