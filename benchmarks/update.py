"""One update of a recipe on this machine: samples per second, peak memory, and where the time goes.

    python benchmarks/update.py --model=Qwen/Qwen2.5-Coder-0.5B-Instruct [--config=configs/qwen05b_coder_cpu.py]
                                [--groups 12] [--steps 1] [--depth 24] [--config.learner.freeze=embed ...]

The recipe's learner and packing, the model's true weights, samples as self-play makes them: `groups` prompts of 300 to
450 tokens of text that begin alike, four attempts at each, answers of 30 to 200 tokens. The first step compiles and is
not counted. `--depth` keeps the first so many layers: for a machine with less memory or time, to compare. Processor
seconds stand beside wall seconds: on a machine with other work they are what compares. Left out on purpose: playing,
and handing weights to the sampler.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ATTEMPTS, ALIKE = 4, 120  # attempts at one prompt; tokens with which all prompts begin


def samples(groups: int, vocab: int) -> list:
    from azr_jax.learner.packing import TrainingSample

    random = np.random.default_rng(0)
    start, made = random.integers(0, vocab, ALIKE).tolist(), []
    for _ in range(groups):
        prompt = [*start, *random.integers(0, vocab, random.integers(300, 451) - ALIKE).tolist()]
        for _ in range(ATTEMPTS):
            count = random.integers(30, 201)
            completion = random.integers(0, vocab, count).tolist()
            made.append(TrainingSample(prompt, completion, [-1.0] * int(count), float(random.normal())))
    return made


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def first_layers(model, params, depth: int):
    """(graphdef, params) of the model's first `depth` layers."""
    import jax
    from flax import nnx

    from azr_jax.models.transformer import Transformer

    spec = replace(model.spec, depth=depth)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))
    params["layers"] = jax.tree.map(lambda stacked: stacked[:depth], params["layers"])
    return graphdef, params


def measure(config, groups: int, steps: int, depth: int) -> dict[str, float]:
    import jax
    from flax import nnx

    from azr_jax.learner.packing import pack, padding_share
    from azr_jax.learner.step import init_state, make_step
    from azr_jax.models import hf
    from azr_jax.models.sharding import LearnerRules
    from azr_jax.parallel.mesh import make_mesh
    from azr_jax.run.build import learner_settings, row_tokens
    from azr_jax.run.find_model import find_model

    model, mesh = find_model(config), make_mesh(1, 1)
    settings = learner_settings(config)
    graphdef, params = nnx.split(hf.load(model.path, mesh=mesh, rules=LearnerRules()))
    if depth:
        graphdef, params = first_layers(model, params, depth)
    made = samples(groups, model.spec.vocab)
    c = config.learner
    how = {"rows": c.microbatch or 1, "row_lengths": c.row_lengths, "share": c.share_prompts}
    batch = pack(made, row_tokens(config, "cpu"), **how)
    loaded, seconds = peak_gb(), []
    with jax.set_mesh(mesh):
        state, step = init_state(params, settings), make_step(graphdef, settings)
        del params
        metrics = {}
        for _ in range(1 + steps):
            before = time.perf_counter(), time.process_time()
            state, metrics = step(state, batch)
            jax.block_until_ready((state, metrics))
            seconds.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    wall, processor = np.median(seconds[1:], axis=0)
    return {
        "samples": len(made),
        "rows": int((batch.segments > 0).any(-1).sum()),
        "row_tokens": batch.tokens.shape[-1],
        "padding_share": padding_share(batch),
        "first_step_s": seconds[0][0],
        "step_s": float(wall),
        "step_processor_s": float(processor),
        "samples_per_s": len(made) / float(wall),
        "samples_per_processor_s": len(made) / float(processor),
        "loaded_gb": loaded,
        "peak_gb": peak_gb(),
        "loss": float(metrics["loss"]),
        "gradient_norm": float(metrics["gradient/norm"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="in place of the recipe's")
    parser.add_argument("--config", default="configs/qwen05b_coder_cpu.py")
    parser.add_argument("--groups", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--depth", type=int, default=0, help="0: all layers")
    args, fields = parser.parse_known_args()
    from azr_jax.config.flags import load
    from azr_jax.main import read_overrides

    overrides = read_overrides(fields) | ({"model.name": args.model} if args.model else {})
    config, problems = load(args.config, overrides)
    if problems:
        raise SystemExit("\n".join(problems))
    result = measure(config, args.groups, args.steps, args.depth)
    for name, value in result.items():
        print(f"{name:<26}{value:>12.4g}")
    print(json.dumps(result))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
