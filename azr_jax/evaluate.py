"""Evaluates a model on benchmarks: one command, the same engine and executor as in training.

    python -m azr_jax.evaluate --model=HuggingFaceTB/SmolLM2-135M-Instruct --suite=humaneval,cruxeval_o --style=boxed
    python -m azr_jax.evaluate --model=runs/first@200 --suite=paper --data_dir=data --compare=Qwen/Qwen2.5-7B
    python -m azr_jax.evaluate --model=runs/first --suite=gsm8k --n=8 --temperature=0.7
    python -m azr_jax.evaluate --model=runs/first --preset=2026 --style=think
    python -m azr_jax.evaluate --list

--list says which suites, groups and presets there are, and what a preset means. A model is a folder, a hub name, the
folder of a LoRA adapter in PEFT's format, or the workdir of a run with @iteration. The same command goes on where it
was interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, NoReturn

from absl import app, flags

MODEL = flags.DEFINE_string("model", None, "A folder, a hub name, or workdir@iteration.")
SUITE = flags.DEFINE_list("suite", ["in_distribution"], "Suites and groups, joined by commas.")
PRESET = flags.DEFINE_string("preset", "", "paper | 2026: suites, samples and style as reported; other flags win.")
LIST = flags.DEFINE_bool("list", False, "Say what presets and suites there are, and nothing else.")
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
OUT = flags.DEFINE_string("out", "evals", "Results go to <out>/<model>/<how it was sampled>; also gs://....")
LIMIT = flags.DEFINE_integer("limit", 0, "Only the first rows of each suite, for trying out; 0: all.", lower_bound=0)
SINCE = flags.DEFINE_string("since", "", "Only contests of this day (as 2024-08-01) and later: livecodebench_v*.")
UNTIL = flags.DEFINE_string("until", "", "Only contests of this day and earlier.")
SHARD = flags.DEFINE_string("shard", "0/1", "This process's share of the rows: number/count, sharing one --out.")
SLOTS = flags.DEFINE_integer("slots", 16, "Completions decoded side by side.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "Type of weights and cache.")
MATMUL_DTYPE = flags.DEFINE_enum(
    "matmul_dtype", "same", ["same", "bfloat16"], "What weights and what they multiply are rounded to; as a recipe's."
)
SEED = flags.DEFINE_integer("seed", 0, "Of sampling.")
TIMEOUT = flags.DEFINE_float("timeout_s", 10.0, "Of one call of a judged program.", lower_bound=0.1)
MEMORY = flags.DEFINE_integer("memory_mb", 4096, "Of one judged program.", lower_bound=64)
PACKAGES = flags.DEFINE_list("packages", [], "Installed packages that judged programs may import, as numpy.")
WEAK = flags.DEFINE_bool("allow_weak", False, "Judge programs even where the machine lacks the least isolation.")
JSON = flags.DEFINE_bool("json", False, "End with one line of JSON.")


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail(f"{argv[1]}: not understood; flags look like --model=...")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would advise to install torch
    if LIST.value:
        from azr_jax.evals.presets import told

        print(told())
        return
    if not MODEL.value:
        fail("--model: missing; should be a folder, a hub name, or workdir@iteration (--list: what can be asked)")
    number, _, count = SHARD.value.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        fail(f"--shard={SHARD.value}: should be number/count, as in 0/4 to 3/4")
    if not TOP_P.value:
        fail("--top_p=0.0: should be above 0, up to 1 (off); --temperature=0 is greedy")
    try:
        _run((int(number), int(count)))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _run(shard: tuple[int, int]) -> None:
    from azr_jax.evals.command import Asked, CannotEvaluate, evaluate  # only now: it starts JAX
    from azr_jax.evals.presets import BadRequest, in_parts
    from azr_jax.evals.suites import UnknownSuite
    from azr_jax.monitor.console import quiet_libraries

    quiet_libraries()
    own: dict[str, Any] = {"suites": tuple(SUITE.value or ()), "shard": shard, "out": (OUT.value or "").rstrip("/")}
    own["packages"] = tuple(PACKAGES.value or ())
    names = Asked.__dataclass_fields__
    values: dict[str, Any] = {name: flags.FLAGS[name].value for name in names if name not in own}
    asked = Asked(**own, **values)
    given = {name for name in names if flags.FLAGS["suite" if name == "suites" else name].present}
    started = time.perf_counter()
    try:
        found: dict[str, Any] = evaluate(MODEL.value or "", COMPARE.value, *in_parts(asked, PRESET.value, given))
    except (CannotEvaluate, BadRequest, UnknownSuite) as error:
        fail(str(error))
    if JSON.value:
        print(json.dumps(found | {"seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    app.run(main)
