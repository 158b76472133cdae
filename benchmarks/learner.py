"""Trained tokens per second of the learner's step against the same step in torch and transformers, on this machine.

    python benchmarks/learner.py [--torch-python PATH] [--rounds 3] [--sequences 8]

Both sides train SmolLM2-135M's shape from random weights in float32 with AdamW: loss of the completion tokens with an
entropy bonus, logits of completion tokens only. `equal`: every sample has 512 tokens, half of them completion.
`skewed`: lognormal lengths up to 512; torch pads each microbatch of four to its longest, this learner packs. The two
sides are two processes that take turns, so that other load on the machine hits both. Left out on purpose: warm-up and
compilation, which are not counted, and memory, which is benchmarks/learner_memory.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SHAPE = {"vocab": 49152, "width": 576, "depth": 30, "heads": 9, "kv_heads": 3, "mlp": 1536}
LONGEST, ENTROPY, LR, MICROBATCH = 512, 0.001, 1e-6, 4


def lengths(case: str, sequences: int) -> list[tuple[int, int]]:
    """(prompt, completion) of each sample."""
    if case == "equal":
        return [(LONGEST // 2, LONGEST // 2)] * sequences
    random = np.random.default_rng(0)
    totals = np.clip(random.lognormal(np.log(110), 0.8, 4 * sequences), 16, LONGEST).astype(int)
    return [(int(total) // 2, int(total) - int(total) // 2) for total in totals]


def ours(case: str, sequences: int) -> None:
    """The worker: one step for each line on standard input, its seconds on standard output."""
    import jax
    from flax import nnx

    from azr_jax.learner.optimizer import OptimizerSettings
    from azr_jax.learner.packing import TrainingSample, pack, padding_share
    from azr_jax.learner.step import LearnerSettings, init_state, make_step
    from azr_jax.learner.terms import Objective
    from azr_jax.models.transformer import Transformer

    random = np.random.default_rng(1)
    samples = [
        TrainingSample(
            random.integers(0, 49152, p).tolist(),
            random.integers(0, 49152, c).tolist(),
            (-random.random(c)).tolist(),
            float(random.normal()),
        )
        for p, c in lengths(case, sequences)
    ]
    batch = pack(samples, LONGEST, rows=1, row_lengths=32)  # as configs/base.py packs
    graphdef, params = nnx.split(nnx.jit(lambda: Transformer(spec(), rngs=nnx.Rngs(0)))())
    settings = LearnerSettings(Objective(entropy=ENTROPY), OptimizerSettings(lr=LR))
    state, step = init_state(params, settings), make_step(graphdef, settings)
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    print(json.dumps({"padding_share": padding_share(batch)}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        print(time.perf_counter() - start, flush=True)


def theirs(case: str, sequences: int) -> None:
    """The same worker in torch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SHAPE["vocab"],
            hidden_size=SHAPE["width"],
            num_hidden_layers=SHAPE["depth"],
            num_attention_heads=SHAPE["heads"],
            num_key_value_heads=SHAPE["kv_heads"],
            intermediate_size=SHAPE["mlp"],
            tie_word_embeddings=True,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    pairs = lengths(case, sequences)
    tokens = sum(completion for _, completion in pairs)
    # Prompts are padded on the left and completions on the right, so that logits are needed of the last ones only.
    microbatches = []
    for start in range(0, len(pairs), MICROBATCH):
        part = pairs[start : start + MICROBATCH]
        left, right = max(p for p, _ in part), max(c for _, c in part)
        mask = torch.tensor([[0] * (left - p) + [1] * (p + c) + [0] * (right - c) for p, c in part])
        ids = torch.randint(0, SHAPE["vocab"], mask.shape)
        microbatches.append((ids, mask, right, torch.randn(len(part), 1)))

    def step() -> None:
        optimizer.zero_grad()
        for ids, mask, right, advantage in microbatches:
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=right + 1).logits[:, :-1]
            log_p = torch.log_softmax(logits, -1)
            chosen = log_p.gather(-1, ids[:, -right:, None])[..., 0]
            entropy = -(log_p.exp() * log_p).sum(-1)
            gain = torch.exp(chosen - chosen.detach()) * advantage + ENTROPY * entropy
            (-(gain * mask[:, -right:]).sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def spec():
    from azr_jax.models.spec import ModelSpec

    s = SHAPE
    return ModelSpec("llama", s["vocab"], s["width"], s["depth"], s["heads"], s["kv_heads"], 64, s["mlp"], tied=True)


def compare(case: str, torch_python: str, rounds: int, sequences: int) -> dict[str, float]:
    """Median of the rounds' ratios; each round takes one step of both."""
    workers = []
    for python, side in ((sys.executable, "ours"), (torch_python, "theirs")):
        command = [python, __file__, "--worker", side, "--case", case, "--sequences", str(sequences)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        first = worker.stdout.readline()
        if not first:
            raise SystemExit(f"{python} could not run the {side} side")
        workers.append((worker, json.loads(first)))
    seconds = []
    for _ in range(rounds):
        pair = []
        for worker, _ in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
            pair.append(float(worker.stdout.readline()))
        seconds.append(pair)
    for worker, _ in workers:
        worker.stdin.close()
        worker.wait()
    tokens = sum(completion for _, completion in lengths(case, sequences))
    best = np.min(seconds, axis=0)
    return {
        "ours": tokens / best[0],
        "torch": tokens / best[1],
        "ratio": float(np.median([theirs / ours for ours, theirs in seconds])),
        **workers[0][1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--worker", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=("equal", "skewed"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        (ours if args.worker == "ours" else theirs)(args.case, args.sequences)
        return
    result: dict[str, float] = {}
    print(f"{'case':<10}{'ours tok/s':>12}{'torch tok/s':>13}{'ratio':>8}{'padding':>9}")
    for case in ("equal", "skewed"):
        found = compare(case, args.torch_python, args.rounds, args.sequences)
        print(
            f"{case:<10}{found['ours']:>12.1f}{found['torch']:>13.1f}{found['ratio']:>8.2f}{found['padding_share']:>9.1%}"
        )
        result |= {f"vs_torch_{case}": found["ratio"], f"tokens_per_s_{case}": found["ours"]}
        result["padding_share"] = found["padding_share"]
    print(json.dumps(result))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
