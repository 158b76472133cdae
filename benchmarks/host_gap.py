"""How long the device waits for the host between two flights of the rollout engine.

    python benchmarks/host_gap.py [--slots=64,256,512] [--requests=3] [--stop]

A model too small to matter writes completions of skewed lengths in groups of eight, with page tables of the paper's
size (6,144 + 8,096 tokens) and the tokenizer of Qwen2.5-Coder-0.5B. What is measured is the host alone: the time from
the moment the device has nothing to do to the moment it is sent off again. Prompts are not read, for that is the
device's work (in a run it begins before the host is done: the gap is shorter then); the calls of programs do not count,
for a CPU may run a small program in its call; and it is processor time, which others on the machine do not disturb.
`--stop` measures with a stop string in every request too, whose end the host has to look for. The share is of a flight
of 32 steps of 10 ms, what a 7B model takes on a slice of 16 v5e chips (benchmarks/pod_model.py).

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
from flax import nnx
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.models.sharding import random_model
from azr_jax.models.source import resolve
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import Engine, EngineSettings, Request

TOKENIZER = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
VOCAB = 1024  # the first tokens of that vocabulary: single bytes and short words
SPEC = ModelSpec("qwen2", VOCAB, 16, 1, 2, 1, 8, 32, True)
STEPS, FLIGHT_MS, GROUP = 32, 320.0, 8


class _Clock:
    """Seconds in the calls of an engine's programs."""

    def __init__(self, engine: Engine):
        self.seconds, run = 0.0, engine._watched

        def timed(*args):
            before = time.thread_time()
            out = run(*args)
            self.seconds += time.thread_time() - before
            return out

        engine._watched = timed  # pyright: ignore[reportAttributeAccessIssue]


def measure(slots: int, requests: float, stop: bool, decode_text) -> dict[str, float]:
    unreadable = tuple(token for token in range(VOCAB) if not decode_text([token]).isascii())
    settings = EngineSettings(
        slots=slots, max_prompt_tokens=6144, max_new_tokens=8096, page_size=64, pages=slots * 24, decode_steps=STEPS,
        never=unreadable,
    )  # fmt: skip
    graphdef, params = nnx.split(random_model(SPEC, 0))
    engine = Engine(graphdef, SPEC, settings, seed=0, decode_text=decode_text)
    engine.load_weights(params, 0)
    # The words do not matter.
    engine._run_prefill = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    programs = _Clock(engine)
    rng = np.random.default_rng(0)
    stops = ("</answer>",) if stop else ()
    for number in range(int(requests * slots) // GROUP):
        prompt = tuple(rng.integers(0, VOCAB, int(rng.integers(200, 800))).tolist())
        length = int(np.clip(rng.lognormal(np.log(200), 0.6), 1, 1000))
        engine.submit(Request(number, prompt, length, n=GROUP, stop_strings=stops))
    gc.collect()  # or it falls into one row and not into another, with 150 ms
    flights, host, started = 0, 0.0, time.perf_counter()
    while engine.busy:
        if engine._flight is not None:
            engine._flight.was_active_NxS.block_until_ready()
        before = time.thread_time()
        engine.step()
        host += time.thread_time() - before
        flights += 1
    numbers = engine.metrics()
    engine.close()
    gap = 1000 * (host - programs.seconds) / flights
    found = {
        "slots": slots, "stop": stop, "flights": flights, "gap_ms": gap, "idle": gap / (gap + FLIGHT_MS),
        "occupancy_queued": numbers["occupancy_queued"], "seconds": time.perf_counter() - started,
    }  # fmt: skip
    print(
        f"{slots:>5} slots{', stop strings' if stop else '':14}: {flights:>5} flights, {gap:7.2f} ms between two, "
        f"{found['idle']:6.1%} idle, occupancy while queued {numbers['occupancy_queued']:.3f}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default="64,256,512")
    parser.add_argument("--requests", type=float, default=3, help="completions per slot; below 1 some stay empty")
    parser.add_argument("--stop", action="store_true", help="with stop strings too")
    args = parser.parse_args()
    decode_text = AutoTokenizer.from_pretrained(resolve(TOKENIZER)).decode
    kinds = (False, True) if args.stop else (False,)
    rows = [measure(int(slots), args.requests, stop, decode_text) for stop in kinds for slots in args.slots.split(",")]
    print(json.dumps({"flight_ms": FLIGHT_MS, "rows": rows}))


if __name__ == "__main__":
    main()
