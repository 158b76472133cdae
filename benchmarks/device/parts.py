"""The parts of run.py, each called as a process of its own; see there. Prints figures as JSON objects, a line each.

python benchmarks/device/parts.py agree|engine|update|play --out=FOLDER --seconds=60 --config=RECIPE [--config.x=y]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

Figures = Iterator[dict[str, Any]]

TEXTS, SHOWN, WRITTEN = 64, 192, 64  # agree: prompts of program text, their tokens, tokens sampled behind each
STEPS = 128  # engine: tokens that each slot writes
LAST = (  # play: of the last iteration
    "propose/valid_rate", "learner/entropy", "learner/gap/kl", "learner/mfu", "engine/tokens_per_s",
    "engine/occupancy", "time/play", "time/update", "time/waiting_for_executor",
)  # fmt: skip


def read(asked: argparse.Namespace, fields: list[str]) -> Any:
    from azr_jax.config.flags import load
    from azr_jax.main import read_overrides

    config, problems = load(asked.config, read_overrides(fields))
    if problems:
        raise SystemExit("\n".join(problems))
    return config


def prompts(tokenizer: Any, count: int, length: int) -> list[list[int]]:
    """Program text, cut into prompts of one length: the repository's own files, again from the start where they end."""
    tokens: list[int] = []
    for file in sorted((ROOT / "azr_jax").rglob("*.py")):
        tokens += tokenizer.encode(file.read_text())
        if len(tokens) >= count * length:
            break
    return [list(np.resize(tokens, count * length)[at * length :][:length]) for at in range(count)]


def card() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    return {"device": device.device_kind, "devices": jax.device_count(), "jax": jax.__version__}


def on_one_device(config: Any) -> tuple[Any, ...]:
    """The recipe's model, a mesh of the first device, and the weights on it as the learner has them."""
    import jax
    from flax import nnx

    from azr_jax.models import hf
    from azr_jax.models.sharding import LearnerRules
    from azr_jax.parallel.mesh import make_mesh
    from azr_jax.run.find_model import find_model

    model, mesh = find_model(config), make_mesh(1, 1, jax.devices()[:1])
    return model, mesh, *nnx.split(hf.load(model.path, mesh=mesh, rules=LearnerRules()))


def agree(config: Any, asked: argparse.Namespace) -> Figures:
    """Sampled tokens, scored again by the learner's forward pass: differences of log-probabilities, in nats."""
    import jax

    from azr_jax.learner.packing import TrainingSample, pack
    from azr_jax.learner.step import make_score
    from azr_jax.rollout.engine import Engine, Request
    from azr_jax.run.build import engine_settings, learner_settings

    model, mesh, graphdef, params = on_one_device(config)
    settings = learner_settings(config)
    sizes = {"max_prompt_tokens": SHOWN, "max_new_tokens": WRITTEN}
    engine = Engine(graphdef, model.spec, replace(engine_settings(config, TEXTS), **sizes), seed=0, mesh=mesh)
    engine.load_weights(params, 1)
    for number, prompt in enumerate(prompts(model.tokenizer, TEXTS, SHOWN)):
        engine.submit(Request(number, tuple(map(int, prompt)), WRITTEN, temperature=settings.temperature))
    made = [
        TrainingSample(one.request.prompt, one.tokens, one.sampler_logprobs, 0.0)
        for one in sorted(engine.drain(), key=lambda one: one.request.id)
    ]
    engine.release_memory()
    batch = pack(made, SHOWN + WRITTEN, rows=8)
    with jax.set_mesh(mesh):
        scored = np.asarray(make_score(graphdef, settings)(params, None, batch))
    gap = (scored - batch.sampler_logprobs)[batch.lengths > 0]
    yield card() | {
        "tokens": int(gap.size),
        "dtype": settings.dtype,
        "matmul_dtype": str(settings.rounded_to),
        "gap_mean_abs": float(np.abs(gap).mean()),
        "gap_p99_abs": float(np.quantile(np.abs(gap), 0.99)),
        "gap_largest": float(np.abs(gap).max()),
        "kl": float((np.exp(gap) - 1 - gap).mean()),  # of the sampler from the learner
    }


def engine(config: Any, asked: argparse.Namespace) -> Figures:
    """All slots write STEPS tokens behind SHOWN. The floor: weights and the tokens in the cache, read once a step.

    At the fewest slots by both ways of looking at the cache that a GPU has (azr_jax/rollout/attention.py).
    """
    import jax

    from azr_jax.parallel.chips import chip_of
    from azr_jax.parallel.mesh import bytes_per_device
    from azr_jax.rollout.attention import BACKENDS
    from azr_jax.rollout.engine import Engine, Request
    from azr_jax.run.build import engine_settings

    model, mesh, graphdef, params = on_one_device(config)
    chip = chip_of(jax.devices()[0])
    fewest, *more = map(int, asked.slots.split(","))
    for slots, attention in ((fewest, "xla"), (fewest, "gpu"), *((slots, "auto") for slots in more)):
        sizes = {"max_prompt_tokens": SHOWN, "max_new_tokens": STEPS, "attention": attention}
        one = Engine(graphdef, model.spec, replace(engine_settings(config, slots), **sizes), seed=0, mesh=mesh)
        began = time.perf_counter()
        one.load_weights(params, 1)
        compiled = time.perf_counter() - began
        for number, prompt in enumerate(prompts(model.tokenizer, slots, SHOWN)):
            one.submit(Request(number, tuple(map(int, prompt)), STEPS))
        list(one.drain())
        counted, spec = one.metrics(), model.spec
        decode_s = counted["tokens"] / counted["decode_tokens_per_s"]
        per_token = 2 * spec.depth * spec.kv_heads * spec.head_dim * np.dtype(one.programs.dtype).itemsize
        # A whole cache of `slots` sequences half written, and the weights in the sampler's type.
        moved = bytes_per_device(one.programs.weights(params)) + slots * (SHOWN + STEPS / 2) * per_token
        step_s = decode_s / STEPS
        floor_s = moved / chip.memory_bytes_s if chip else None
        yield {
            "slots": slots,
            "compile_s": compiled,
            "decode_tokens_per_s": counted["decode_tokens_per_s"],
            "prefill_tokens_per_s": counted["prefill_tokens_per_s"],
            "step_ms": 1e3 * step_s,
            "bytes_per_step": moved,
            "floor_ms": 1e3 * floor_s if floor_s else None,
            "of_floor": step_s / floor_s if floor_s else None,
            "attention": next(name for name, backend in BACKENDS.items() if backend is one.programs.backend),
        }
        one.close()


def update(config: Any, asked: argparse.Namespace) -> Figures:
    """benchmarks/update.py, with the share of the card's peak."""
    import jax
    from update import measure, samples

    from azr_jax.learner.flops import throughput
    from azr_jax.run.find_model import find_model

    groups, spec = 12, find_model(config).spec
    found = measure(config, groups, 3, 0)
    rates = throughput(spec, samples(groups, spec.vocab), 1, found["step_s"], jax.devices()[:1])
    memory = jax.devices()[0].memory_stats() or {}
    yield found | rates | {"device_peak_gb": memory.get("peak_bytes_in_use", 0) / 2**30}


def play(asked: argparse.Namespace, fields: list[str]) -> Figures:
    """The loop, told to end when the time is over; the held-out figures and the last iteration's are what it found."""
    workdir = asked.out / "run"
    command = [sys.executable, "-m", "azr_jax.main", f"--config={asked.config}", f"--workdir={workdir}", *fields]
    command += ["--config.monitor.sinks=", "--config.monitor.report_every=0"]
    began = time.monotonic()
    with (asked.out / "main.log").open("a") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as run:
        try:
            ended = run.wait(asked.seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGTERM)
            ended = run.wait()
    lines, timings = _lines(workdir / "metrics.jsonl"), _lines(workdir / "timings.jsonl")
    for line in lines:
        if held_out := {name: value for name, value in line.items() if name.startswith("eval/")}:
            yield {"iteration": line["iteration"], **held_out}
    played = [line for line in lines if "learner/loss" in line]
    last = (played[-1] if played else {}) | (timings[-1] if timings else {})
    yield {"iterations": len(played), "seconds": time.monotonic() - began, "exit": ended} | {
        name: last[name] for name in LAST if name in last
    }


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


MEASURED: dict[str, Callable[[Any, argparse.Namespace], Figures]] = {"agree": agree, "engine": engine, "update": update}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=[*MEASURED, "play"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--config", default="configs/qwen05b_coder.py")
    parser.add_argument("--slots", default="64,256,512")
    asked, fields = parser.parse_known_args()
    found = play(asked, fields) if asked.part == "play" else MEASURED[asked.part](read(asked, fields), asked)
    for figures in found:
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
