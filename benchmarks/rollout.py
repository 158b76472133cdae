"""Tokens per second of the rollout engine on CPU, beside transformers' `generate` and Tunix's sampler in the same run.

    python benchmarks/rollout.py [--torch-python=<a Python with torch and transformers> [--torch-batches=2]]
        [--tunix-python=<a Python with google-tunix> [--tunix-batches=1]] [--scale=0.25] [--contexts]

SmolLM2-135M, float32. Skewed: 256 requests, lognormal lengths (median 150, p99 2,000, limit 2,048), 32 slots against
static batches of 32. Equal: 64 requests of the skewed mean. Every completion is forced to its length, so both sides
write the same number of tokens; compiling and loading are not counted. `--scale` shortens all lengths; figures of a
scaled run say so in their JSON. Then milliseconds per decode step at several contexts under one limit.

The others need more than an hour for the whole skewed work. `--torch-batches` and `--tunix-batches` give them the first
static batches only: the ratio is then our tokens/s over all requests to their tokens/s over those batches, whose own
occupancy stands beside (the last batches are the emptiest, so that the first ones flatter the others). Tunix writes the
skewed work only.

Last line: one JSON object. A side that was not run is null.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.models import hf
from azr_jax.models.source import resolve
from azr_jax.models.spec import ModelSpec, load_spec
from azr_jax.rollout.engine import Engine, EngineSettings, Request

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PROMPT = 64  # tokens of every prompt
SLOTS, LIMIT, MEDIAN, P99 = 32, 2048, 150, 2000
CONTEXTS = (512, 2048, 8000)


def skewed_lengths(count: int, scale: float) -> list[int]:
    """Of a fixed seed. 2.326 standard deviations lie below the 99th percentile."""
    sigma = np.log(P99 / MEDIAN) / 2.326
    lengths = np.random.default_rng(0).lognormal(np.log(MEDIAN), sigma, count)
    return [int(length) for length in np.clip(scale * np.clip(lengths, 1, LIMIT), 1, None)]


def random_prompts(count: int, vocab: int) -> list[list[int]]:
    return np.random.default_rng(1).integers(0, vocab, (count, PROMPT)).tolist()


def static_batches(prompts: list[list[int]], lengths: list[int]) -> list[dict]:
    return [
        {"prompts": prompts[at : at + SLOTS], "lengths": lengths[at : at + SLOTS]}
        for at in range(0, len(lengths), SLOTS)
    ]


def static_occupancy(lengths: list[int]) -> float:
    """Useful slot-steps of all, where a batch runs to its longest member."""
    steps = sum(SLOTS * max(lengths[at : at + SLOTS]) for at in range(0, len(lengths), SLOTS))
    return sum(lengths) / steps


def run_engine(engine: Engine, params, prompts: list[list[int]], lengths: list[int]) -> tuple[float, dict]:
    engine.load_weights(params, 0)
    started = time.perf_counter()
    for number, (prompt, length) in enumerate(zip(prompts, lengths)):
        engine.submit(Request(number, tuple(prompt), length))
    written = sum(len(rollout.tokens) for rollout in engine.drain())
    assert written == sum(lengths)
    return time.perf_counter() - started, engine.metrics()


def greedy(engine: Engine, params, prompts: list[list[int]], count: int) -> dict[str, list[list[int]]]:
    """So many greedy tokens after each prompt: another sampler of the same model must write the same."""
    engine.load_weights(params, 0)
    for number, prompt in enumerate(prompts):
        engine.submit(Request(number, tuple(prompt), count, temperature=0.0))
    written = {rollout.request.id: list(map(int, rollout.tokens)) for rollout in engine.drain()}
    return {"prompts": prompts, "tokens": [written[number] for number in range(len(prompts))]}


def run_other(python: str, script: str, folder: Path, workloads: dict[str, list[dict]], **more) -> dict[str, float]:
    asked = {"folder": str(folder), "threads": os.cpu_count(), "workloads": workloads, **more}
    command = [python, str(Path(__file__).with_name(script))]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def rate_of(who: str, name: str, batches: list[dict], seconds: float) -> dict[str, float]:
    lengths = [length for batch in batches for length in batch["lengths"]]
    rate = sum(lengths) / seconds
    print(
        f"{name:>7}: {sum(lengths):>6} tokens of {len(batches)} static batches  {who} {rate:8.1f} tokens/s", flush=True
    )
    return {"batches": len(batches), "tokens_per_s": rate, "static_occupancy": static_occupancy(lengths)}


def run_torch(python: str, folder: Path, work: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    seconds = run_other(python, "rollout_static.py", folder, work)
    return {name: rate_of("transformers", name, batches, seconds[name]) for name, batches in work.items()}


def run_tunix(python: str, folder: Path, batches: list[dict], cache: int, shown: dict) -> dict[str, float]:
    seconds = run_other(python, "rollout_tunix.py", folder, {"skewed": batches}, cache=cache, greedy=shown)["skewed"]
    return rate_of("Tunix", "skewed", batches, seconds)


def by_context(graphdef, params, spec: ModelSpec, slots: int, steps: int) -> dict[str, float]:
    """Milliseconds per step of `slots` samples of one prompt of so many tokens; the limit is the same for all."""
    longest = max(CONTEXTS)
    settings = EngineSettings(
        slots=slots, max_prompt_tokens=longest, max_new_tokens=192, page_size=64, prefill_tokens=512, decode_steps=steps
    )
    engine = Engine(graphdef, spec, settings, seed=0)
    found = {}
    for context in CONTEXTS:
        engine.load_weights(params, 0)
        prompt = tuple(np.random.default_rng(2).integers(0, spec.vocab, context).tolist())
        engine.submit(Request(0, prompt, 2 * steps, n=slots))
        for _ in engine.drain():
            pass
        found[str(context)] = (
            1000 * (engine.metrics()["tokens"] / engine.metrics()["decode_tokens_per_s"]) / (2 * steps)
        )
        print(f"context {context:>6}: {found[str(context)]:8.1f} ms per step of {slots} slots", flush=True)
    engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="a Python with torch and transformers; without it ours runs alone")
    parser.add_argument("--torch-batches", type=int, help="static batches of the skewed work for it (default: all)")
    parser.add_argument("--tunix-python", help="a Python with google-tunix; without it vs_tunix is null")
    parser.add_argument("--tunix-batches", type=int, help="the same for Tunix")
    parser.add_argument("--scale", type=float, default=1.0, help="all lengths times this")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--page-size", type=int, default=64)
    parser.add_argument("--contexts", action="store_true", help="measure steps by context too")
    args = parser.parse_args()
    folder = resolve(MODEL)
    spec = load_spec(folder)
    graphdef, params = nnx.split(hf.load(folder))
    skewed = skewed_lengths(args.requests, args.scale)
    work = {"skewed": skewed, "equal": [round(sum(skewed) / len(skewed))] * 64}
    prompts = random_prompts(max(map(len, work.values())), spec.vocab)
    longest = max(map(max, work.values()))
    sizes = EngineSettings(SLOTS, PROMPT, longest, page_size=args.page_size, prefill_tokens=64)
    engine = Engine(graphdef, spec, sizes, seed=0)
    engine.load_weights(params, 0)  # compiles
    ours = {}
    for name, lengths in work.items():
        ours[name] = run_engine(engine, params, prompts, lengths)
        print(f"ours {name}: {ours[name][0]:.1f} s", {key: round(x, 3) for key, x in ours[name][1].items()}, flush=True)
    shown = greedy(engine, params, prompts[:4], min(16, longest))
    engine.close()
    batches = {name: static_batches(prompts, lengths) for name, lengths in work.items()}
    rates = {name: sum(lengths) / ours[name][0] for name, lengths in work.items()}
    for name, lengths in work.items():
        print(f"{name:>7}: {sum(lengths):>6} tokens  ours {rates[name]:8.1f} tokens/s", flush=True)
    torch = {}
    if args.torch_python:
        asked = {"equal": batches["equal"], "skewed": batches["skewed"][: args.torch_batches]}
        torch = run_torch(args.torch_python, folder, asked)
    tunix = {}
    if args.tunix_python:
        first = batches["skewed"][: args.tunix_batches]
        tunix = run_tunix(args.tunix_python, folder, first, PROMPT + longest, shown)
    numbers = ours["skewed"][1]
    print(f"occupancy while requests wait {numbers['occupancy_queued']:.3f}, static {static_occupancy(skewed):.3f}")
    print(json.dumps({
        "scale": args.scale,
        "requests": args.requests,
        "occupancy": numbers["occupancy_queued"],
        "static_occupancy": static_occupancy(skewed),
        "cache_overhead": numbers["cache_overhead"],
        "tokens_per_s_skewed": rates["skewed"],
        "tokens_per_s_equal": rates["equal"],
        "vs_transformers_skewed": rates["skewed"] / torch["skewed"]["tokens_per_s"] if torch else None,
        "vs_transformers_equal": rates["equal"] / torch["equal"]["tokens_per_s"] if torch else None,
        "transformers_batches": torch["skewed"]["batches"] if torch else None,
        "transformers_static_occupancy": torch["skewed"]["static_occupancy"] if torch else None,
        "vs_tunix": rates["skewed"] / tunix["tokens_per_s"] if tunix else None,
        "tunix_batches": tunix.get("batches"),
        "tunix_tokens_per_s": tunix.get("tokens_per_s"),
        "tunix_static_occupancy": tunix.get("static_occupancy"),
        "recompiles": sum(metrics["compilations"] for _, metrics in ours.values()),
        "ms_per_step_by_context": by_context(graphdef, params, spec, 4, 16) if args.contexts else None,
    }))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
