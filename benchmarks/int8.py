"""How far a sampler with matrices or a cache of eight bits (rollout.quantization, rollout.kv_cache_dtype) is from the
model, and how fast it is.

    python benchmarks/int8.py [--model=HuggingFaceTB/SmolLM2-135M-Instruct] [--suite=cruxeval_i] [--style=boxed]
        [--rows=24] [--tokens=64] [--slots=24] [--data=FOLDER]

The engine answers a suite's rows (temperature 1) by each way to hold weights; then the model itself, in float32, says
how likely each drawn token was. gap: mean difference of log-probabilities, without its sign; kl: estimated from drawn
tokens, r - 1 - log r of the ratio; ess: the effective sample size that importance weights by token leave, as a share.
Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.evals.code import Runner
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.models import find
from azr_jax.evals.suites import SUITES, Judges
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.models.attention import segment_attention
from azr_jax.parallel.mesh import bytes_per_device
from azr_jax.rollout.engine import Engine, EngineSettings, Request, Rollout
from azr_jax.selfplay.prompting import PromptCodec

WAYS = (  # matmul_dtype, quantization, kv_cache_dtype
    ("same", "none", "same"), ("bfloat16", "none", "same"), ("same", "int8", "same"), ("bfloat16", "int8", "same"),
    ("same", "none", "int8"), ("bfloat16", "none", "int8"), ("same", "int8", "int8"), ("bfloat16", "int8", "int8"),
)  # fmt: skip


def logprobs_of(graphdef: nnx.GraphDef, params: nnx.State, rollouts: list[Rollout], longest: int) -> np.ndarray:
    """Of every drawn token, by the model itself."""

    @jax.jit
    def scored(params: nnx.State, tokens_1xT: jax.Array) -> jax.Array:
        model, positions = nnx.merge(graphdef, params), jnp.arange(longest)[None]
        attend = segment_attention("xla", positions, jnp.ones_like(positions))
        x_1xTxD, _ = model.hidden(tokens_1xT, positions, attend, dtype=jnp.dtype("float32"))
        logits_TxV = model.logits(x_1xTxD)[0]
        return jax.nn.log_softmax(logits_TxV)[jnp.arange(longest - 1), tokens_1xT[0, 1:]]

    found = []
    for rollout in rollouts:
        whole, first = [*rollout.request.prompt, *rollout.tokens], len(rollout.request.prompt) - 1
        row = np.zeros((1, longest), np.int32)
        row[0, : len(whole)] = whole
        found.append(np.asarray(scored(params, jnp.asarray(row)))[first : len(whole) - 1])
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--suite", default="cruxeval_i")
    parser.add_argument("--style", default="boxed")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--slots", type=int, default=24)
    default = os.environ.get("AZR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    options = parser.parse_args()
    model = find(options.model)
    codec = PromptCodec(model.tokenizer, model.folder)
    executor = Executor(ExecutorSettings(workers=1))  # CRUXEval's rows are checked by running them
    judges = Judges(Runner(executor, 10.0), MathJudge(1))
    items = SUITES[options.suite].items(str(options.data), options.style, judges)[0][: options.rows]
    executor.close()
    prompts = [codec.tokens(item.prompt) for item in items]
    longest = max(map(len, prompts)) + options.tokens
    graphdef, params = model.weights("float32")
    report = {}
    for matmul_dtype, quantization, kv_cache_dtype in WAYS:
        settings = EngineSettings(
            slots=options.slots, max_prompt_tokens=longest - options.tokens, max_new_tokens=options.tokens,
            matmul_dtype=matmul_dtype, quantization=quantization, kv_cache_dtype=kv_cache_dtype, never=model.never,
        )  # fmt: skip
        engine = Engine(graphdef, model.spec, settings, seed=0, decode_text=model.tokenizer.decode)
        engine.load_weights(params, 1)
        held, cache = (bytes_per_device(of) for of in (engine.programs.weights(params), engine.programs.empty_cache()))
        began = time.perf_counter()
        for number, prompt in enumerate(prompts):
            engine.submit(Request(number, tuple(prompt), options.tokens, stop_ids=codec.stop_ids))
        rollouts = list(engine.drain())
        seconds, figures = time.perf_counter() - began, engine.metrics()
        engine.close()
        sampler = np.concatenate([np.asarray(rollout.logprobs) for rollout in rollouts])
        ratio = logprobs_of(graphdef, params, rollouts, longest) - sampler
        weights = np.exp(ratio)
        name = f"products {matmul_dtype}, weights {quantization}, cache {kv_cache_dtype}"
        report[name] = {
            "tokens": len(sampler),
            "gap": round(float(np.abs(ratio).mean()), 5),
            "gap_max": round(float(np.abs(ratio).max()), 3),
            "kl": round(float((np.expm1(ratio) - ratio).mean()), 6),
            "ess": round(float(weights.sum() ** 2 / len(weights) / (weights**2).sum()), 5),
            "nats_a_token": round(float(-sampler.mean()), 3),
            "weights_mb": round(held / 1e6, 1),
            "cache_mb": round(cache / 1e6, 1),
            "decode_tokens_per_s": round(figures["decode_tokens_per_s"], 1),
            "seconds": round(seconds, 1),
        }
        print(name, report[name], flush=True)
    print(json.dumps({"model": options.model, "suite": options.suite} | report))


if __name__ == "__main__":
    main()
