"""How many rows of prefill calls hold a token, and how long calls take: one piece a call, or pieces of several prompts.

    python benchmarks/prefill.py [--slots=32] [--page-size=32,64] [--rows=0,64,128,256] [--requests=128] [--time]

Prompts as in self-play: six beginnings (a role and a kind each) of 200 to 700 tokens, behind each of them a tail of its
own (lognormal, median 160), a quarter of the requests with four samples; answers of skewed lengths. They are placed as
the engine would, without a model; calls are counted by shape. With `--time` each shape is timed, all in turn, on two
layers as wide as those of Qwen2.5-0.5B, at half of the longest context, in processor time: calls times seconds.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, deque
from pathlib import Path

import jax
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.models.sharding import random_model
from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.engine import PATIENCE
from azr_jax.rollout.pieces import fill, nothing, readings
from azr_jax.rollout.programs import Programs
from azr_jax.rollout.requests import TILE, EngineSettings, Request
from azr_jax.rollout.scheduler import Scheduler

WIDE = ModelSpec("qwen2", 1024, 896, 2, 14, 2, 64, 4864, True)
LONGEST, NEW = 1536, 128
REPEATS = 7


def requests(count: int) -> list[Request]:
    rng = np.random.default_rng(0)
    beginnings = [tuple(rng.integers(0, 300, size).tolist()) for size in rng.integers(200, 700, 6)]
    found = []
    for number in range(count):
        tail = int(np.clip(rng.lognormal(np.log(160), 0.5), 16, 800))
        prompt = beginnings[number % 6] + tuple(rng.integers(0, 300, tail).tolist())
        new = int(np.clip(rng.lognormal(np.log(40), 0.7), 4, NEW))
        found.append(Request(number, prompt, new, n=4 if number % 4 == 0 else 1))
    return found


def settings_of(slots: int, page_size: int, rows: int) -> EngineSettings:
    return EngineSettings(slots, LONGEST, NEW, page_size=page_size, prefill_rows=rows)


def calls_of(settings: EngineSettings, wanted: list[Request]) -> tuple[Counter[int], float]:
    """How many calls of each shape, and tokens in rows over rows. Flights end as the engine's do."""
    scheduler, calls, tokens = Scheduler(settings), Counter[int](), 0
    state = scheduler.arrays.state
    for request in wanted:
        scheduler.submit(request, 0)
    while scheduler.waiting or state.active.any():
        placements = []
        while placement := scheduler.place():
            placements.append(placement)
        todo = deque(one for placed in placements for one in readings(placed, settings.prefill_rows))
        while todo:
            rows = todo[0].rows
            call = nothing(1, rows, settings.prefill_pieces, settings.pages_per_slot)
            tokens += fill(call, 0, todo, settings.tile(TILE) or 1)
            calls[rows] += 1
        for placed in placements:
            scheduler.copied(placed)
        left = np.sort(state.remaining[state.active])
        free = max(1, settings.slots // PATIENCE) if scheduler.waiting else len(left)
        taken = min(settings.decode_steps, int(left[min(free, len(left)) - 1]))
        scheduler.grow(taken)
        for values in (state.position, state.generated):
            values[state.active] += taken
        state.remaining[state.active] -= taken
        for slot in np.flatnonzero(state.active & (state.remaining <= 0)).tolist():
            scheduler.end(slot)
    return calls, tokens / sum(rows * count for rows, count in calls.items())


def seconds_of(kinds: list[EngineSettings]) -> list[dict[int, float]]:
    """Of a call of each shape: the median of a few, all shapes of all kinds in turn."""
    params = nnx.split(random_model(WIDE, 0))[1]
    programs = [Programs(WIDE, settings) for settings in kinds]
    with jax.set_mesh(programs[0].mesh):
        weights, caches = programs[0].weights(params), [one.empty_cache() for one in programs]
        taken: list[dict[int, list[float]]] = [{rows: [] for rows in settings.prefill_shapes} for settings in kinds]
        for _ in range(REPEATS + 1):
            for number, (one, settings) in enumerate(zip(programs, kinds)):
                for rows, times in taken[number].items():
                    call = nothing(1, rows, settings.prefill_pieces, settings.pages_per_slot)
                    each = max(1, rows // 128)  # pieces of about 128 tokens, of a prompt each
                    for piece in range(each if settings.prefill_rows else 1):
                        length = rows // (each if settings.prefill_rows else 1)
                        call.row[0, piece], call.start[0, piece] = piece * length, LONGEST // 2
                        call.end[0, piece] = LONGEST // 2 + length
                        call.table[0, piece] = np.arange(settings.pages_per_slot)
                    began = time.process_time()
                    caches[number], done = one.prefill(weights, caches[number], one.place(call))
                    jax.block_until_ready(done)
                    times.append(time.process_time() - began)
    return [{rows: float(np.median(times[1:])) for rows, times in of.items()} for of in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--page-size", default="32,64")
    parser.add_argument("--rows", default="0,64,128,256")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--time", action="store_true")
    args = parser.parse_args()
    sizes = [(int(page), int(rows)) for page in args.page_size.split(",") for rows in args.rows.split(",")]
    kinds = [settings_of(args.slots, *size) for size in sizes]
    wanted, found = requests(args.requests), []
    seconds = seconds_of(kinds) if args.time else [dict.fromkeys(kind.prefill_shapes, 0.0) for kind in kinds]
    for (page, rows), settings, of_shape in zip(sizes, kinds, seconds):
        calls, occupancy = calls_of(settings, wanted)
        found.append({
            "page_size": page, "prefill_rows": rows, "calls": dict(calls), "occupancy": occupancy,
            "rows": sum(shape * count for shape, count in calls.items()),
            "ms": {shape: round(1000 * x, 1) for shape, x in of_shape.items()},
            "seconds": sum(count * of_shape[shape] for shape, count in calls.items()),
        })  # fmt: skip
        print(found[-1], flush=True)
    print(json.dumps({"slots": args.slots, "requests": args.requests, "rows": found}))


if __name__ == "__main__":
    main()
