"""What the compiled train step needs: vocabularies, row lengths, optimizers, LoRA, frozen weights. Nothing is run.

    python benchmarks/learner_memory.py

SmolLM2-135M's layers in float32, one packed row, everything computed again in the backward pass, logits of 256 tokens
held at a time. `state` is weights, moments and batch; `temporary` is the compiler's own figure (memory_analysis) for
everything else the step holds at its peak, gradients included. `logits` is what one array of all of them would take.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROW, VOCAB = 2048, 65536


def cases() -> list[tuple[str, int, int, dict]]:
    from azr_jax.learner.lora import Trained
    from azr_jax.learner.optimizer import OptimizerSettings

    table = [(f"vocabulary {vocab}", vocab, ROW, {}) for vocab in (8192, VOCAB, 152064)]
    # Growth by the row is that of activations and attention scores: the same with the smallest vocabulary.
    table += [(f"row of {2 * ROW}, vocabulary {vocab}", vocab, 2 * ROW, {}) for vocab in (8192, VOCAB)]
    table += [(name, VOCAB, ROW, {"optimizer": OptimizerSettings(name)}) for name in ("adamw_bf16", "adamw_factored")]
    table += [("LoRA, rank 16", VOCAB, ROW, {"trained": Trained(rank=16)})]
    return [*table, ("frozen embedding", VOCAB, ROW, {"trained": Trained(freeze=("embed",))})]


def needs(vocab: int, row: int, options: dict) -> tuple[int, int]:
    """(bytes of the state, temporary bytes of the compiled step)."""
    import jax
    from flax import nnx

    from azr_jax.learner.packing import TrainingSample, pack
    from azr_jax.learner.step import LearnerSettings, init_state, step_program
    from azr_jax.models.spec import ModelSpec
    from azr_jax.models.transformer import Transformer

    spec = ModelSpec("llama", vocab, 576, 30, heads=9, kv_heads=3, head_dim=64, mlp=1536, tied=True)
    settings = LearnerSettings(remat="full", chunk=256, **options)
    graphdef, params = nnx.split(nnx.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0))))
    state = jax.eval_shape(lambda p: init_state(p, settings), params)
    batch = pack([TrainingSample([1] * 2, [1] * (row - 1), [-1.0] * (row - 1), 1.0)], row)
    used = step_program(graphdef, settings).lower(state, batch).compile().memory_analysis()
    assert used is not None  # every backend that this is for says it
    return used.argument_size_in_bytes, used.temp_size_in_bytes


def main() -> None:
    result = {}
    print(f"{'':<20}{'state GiB':>10}{'temporary GiB':>15}{'logits GiB':>12}")
    for name, vocab, row, options in cases():
        held, temporary = needs(vocab, row, options)
        print(f"{name:<20}{held / 2**30:>10.2f}{temporary / 2**30:>15.2f}{4 * row * vocab / 2**30:>12.2f}", flush=True)
        result |= {f"state_bytes {name}": held, f"temporary_bytes {name}": temporary}
    print(json.dumps(result))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
