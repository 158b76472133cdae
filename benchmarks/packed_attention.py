"""What the learner's attention computes of packed rows, over what is needed: tiles counted, nothing is run.

    python benchmarks/packed_attention.py [--median=1000] [--sigma=0.7] [--at_limit=0.02] [--lengths=FILE]

An iteration of each recipe, packed by the learner's own packing: prompts of 2,000 (propose) and 600 tokens (solve),
completions lognormal with a share of them cut at the limit, or lengths of a file (one number a line). `needed` are the
pairs of a query and a key that it sees, `computed` those of the tiles that the splash kernel multiplies, forward as
well as backward; `before` is every tile of 512 x 512 that is not above the diagonal, as the kernel does by itself.
`loop` counts the steps of the kernel over all query heads, with and without a product; one without reads nothing. One
table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RECIPES = ("qwen7b", "llama8b", "qwen3b_coder", "qwen05b_coder")
BEFORE = 512  # tokens of a tile, in both directions
PROMPTS = (2000, 600)


def packed(lengths: np.ndarray, prompts: np.ndarray, row_tokens: int) -> np.ndarray:
    """Segments of all rows that hold anything."""
    from azr_jax.learner.packing import TrainingSample, pack

    samples = [
        TrainingSample([1] * int(prompt), [1] * int(n), [-1.0] * int(n), 0.0) for prompt, n in zip(prompts, lengths)
    ]
    rows = np.asarray(pack(samples, row_tokens).segments).reshape(-1, row_tokens)
    return rows[(rows > 0).any(axis=1)]


def counted(segments_RxT: np.ndarray, heads: int, kv_heads: int) -> dict[str, Any]:
    import jax

    from azr_jax.models.packed_splash import first_and_last, tiles_of

    rows, length = segments_RxT.shape
    tiles = tiles_of(length, heads // kv_heads)
    needed = 0
    for segments_T in segments_RxT:
        count = np.bincount(segments_T)[1:].astype(np.int64)
        needed += int((count * (count + 1) // 2).sum())
    first, last = jax.vmap(lambda segments_T: first_and_last(segments_T, tiles))(segments_RxT)
    computed = int(np.sum(np.asarray(last) - np.asarray(first) + 1))
    size = next(size for size in (BEFORE, 256, 128) if length % size == 0)
    side = length // size
    return {
        "tile": f"{tiles.tokens} x {tiles.heads} heads by {tiles.keys}",
        "needed": needed,
        "before": rows * side * (side + 1) // 2 * size * size / needed,
        "now": computed * tiles.tokens * tiles.keys / needed,
        "steps_before": rows * heads * side * side,
        "steps": rows * heads // tiles.heads * (length // tiles.tokens) * (length // tiles.keys),
        "steps_computed": computed * heads // tiles.heads,
    }


def main() -> None:
    from azr_jax.config.flags import load
    from azr_jax.dryrun.shapes import spec_of
    from azr_jax.run.settings import row_tokens

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--median", type=float, default=1000)
    parser.add_argument("--sigma", type=float, default=0.7)
    parser.add_argument("--at_limit", type=float, default=0.02, help="share of completions cut at the limit")
    parser.add_argument("--lengths", type=Path, help="lengths of completions, one a line, in place of the lognormal")
    options = parser.parse_args()
    out = {}
    print("| recipe | row | rows | tile | before | now | loop before | loop now | with a product |\n|" + "---|" * 9)
    for recipe in RECIPES:
        c, problems = load(f"configs/{recipe}.py", {})
        assert not problems, problems
        rng, limit, count = np.random.default_rng(0), c.rollout.max_new_tokens, 2 * len(c.tasks.kinds) * c.batch_size
        if options.lengths:
            lengths = rng.choice(np.array(options.lengths.read_text().split(), int), count)
        else:
            lengths = options.median * np.exp(options.sigma * rng.standard_normal(count))
            lengths = np.where(rng.random(count) < options.at_limit, limit, lengths)
        prompts = np.minimum(np.repeat(PROMPTS, count // 2), c.rollout.max_prompt_tokens)
        rows = packed(np.clip(lengths, 1, limit).astype(int), prompts, row_tokens(c, "tpu"))
        spec = spec_of(c.model.name)
        r = out[recipe] = counted(rows, spec.heads, spec.kv_heads) | {"row": rows.shape[1], "rows": len(rows)}
        print(
            f"| {recipe} | {r['row']} | {r['rows']} | {r['tile']} | {r['before']:.2f} | {r['now']:.2f} | "
            f"{r['steps_before']} | {r['steps']} | {r['steps_computed']} |",
            flush=True,
        )
    print(json.dumps(out))


if __name__ == "__main__":
    main()
