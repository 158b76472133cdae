"""What things take on a slice that is not here: a decoding step, a prompt, an update. For pod_model.py.

Bytes over bandwidth and operations over peaks, times the shares in `Assumptions`; `calibrated` adds what published
steps of Qwen3-8B on v6e-4 take beyond that, as a part per step and a part per row.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.config.schema import Config
from azr_jax.dryrun.topology import find
from azr_jax.models import sampling_time
from azr_jax.models.slice_layout import Layout
from azr_jax.models.spec import ModelSpec, spec_from_config
from azr_jax.parallel.chips import Chip

GIB = 2**30

# Qwen3-8B on v6e-4, four chips a replica: rows at once, and output tokens a second and chip at 1,024 tokens in and out,
# from which the reading of prompts has to be taken off; and seconds of a step as they were reported.
PUBLISHED_SHAPE = {
    "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 12288, "vocab_size": 151936, "head_dim": 128,
    "tie_word_embeddings": False, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
}  # fmt: skip
PUBLISHED_RATES = {64: 1324.0, 256: 1893.0}
PUBLISHED_STEP = {128: 0.0181}


@dataclass(frozen=True)
class Assumptions:
    """Shares of peak rates that programs reach, and what is waited for however little is done."""

    product_share: float = 0.45  # of peak operations, in the update
    prefill_share: float = 0.6  # the same, in reading prompts: what the compiler's cycles of a large call come to
    memory_share: float = sampling_time.MEMORY_SHARE  # of peak bandwidth, while decoding
    link_share: float = 0.7  # of the links' rate, in gathers and sums of weights
    exchange_s: float = sampling_time.EXCHANGE_S  # until all chips of a replica have met, twice a layer while decoding
    step_s: float = 0.0  # of a decoding step, beyond bytes and exchanges
    row_s: float = 0.0  # the same for each row of a replica
    gap_s: float = 0.0017  # of the host, between two calls of the decode program,
    gap_each_s: float = 13.5e-6  # and for each completion under way: benchmarks/host_gap.py --stop
    decode_steps: int = 32  # tokens that such a call draws in each slot
    piece: int = 128  # tokens of a prompt that are read at once: rollout.prefill_tokens
    prefill_rows: int = 0  # of a call that reads several prompts at once; 0: each reads a piece of one
    propose_prompt: int = 2000
    solve_prompt: int = 600
    state_bytes: float = 10.0  # of the learner per parameter: float32 weights and second moment, bfloat16 first
    working_share: float = 0.1  # of memory, for what decoding needs beside weights and cache

    @classmethod
    def of(cls, c: Config) -> Assumptions:
        """How a run of this recipe reads and decodes."""
        rollout = c.rollout
        return cls(decode_steps=rollout.decode_steps, piece=rollout.prefill_tokens, prefill_rows=rollout.prefill_rows)


@dataclass(frozen=True)
class Slice:
    """A model on chips: what each thing takes."""

    spec: ModelSpec
    chip: Chip
    chips: int
    layout: Layout
    a: Assumptions
    train: dict[str, float] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        return self.spec.layer_matrices + self.spec.vocab * self.spec.width

    @property
    def token_bytes(self) -> int:
        return sampling_time.token_bytes(self.spec)

    def step(self, rows: int, context: float) -> float:
        """Of a replica with so many rows, and so many tokens of context in all of them."""
        assumed = {name: getattr(self.a, name) for name in ("memory_share", "exchange_s", "step_s", "row_s")}
        return sampling_time.step_seconds(self.spec, self.chip, self.layout.rollout_tensor, rows, context, **assumed)

    def reading(self, prompts: Sequence[int]) -> float:
        """Of prompts that have so many tokens, call by call; each call reads all weights, and multiplies with them."""
        together = [sum(prompts)] if self.a.prefill_rows else prompts
        rows = self.a.prefill_rows or self.a.piece
        each = max(
            2 * self.weights * rows / (self.chip.flops * self.a.prefill_share),
            2 * self.weights / (self.chip.memory_bytes_s * self.a.memory_share),
        )
        return sum(math.ceil(tokens / rows) for tokens in together) * each / self.layout.rollout_tensor

    def gap(self, completions: int) -> float:
        """Between two calls of the decode program, with so many under way in all replicas."""
        return self.a.gap_s + self.a.gap_each_s * completions

    def capacity(self) -> int:
        """Tokens that a replica's cache holds beside the learner's state and the sampler's weights."""
        free = self.chip.memory_gib * GIB * (1 - self.a.working_share)
        held = self.spec.parameters() * self.a.state_bytes * self.layout.data / self.chips
        free -= held + 2 * self.weights / self.layout.rollout_tensor
        return max(0, int(free * self.layout.rollout_tensor / self.token_bytes))

    def update(self, sequences: int, tokens: float) -> float:
        """One row a chip at a time; products or the exchange of weights and gradients, whichever takes longer."""
        s = self.spec
        attention = 4 * 3 * tokens * s.heads * s.head_dim * s.depth  # scores and sums, causal, again going back
        per_token = self.train.get("flops_per_token", 8 * s.layer_matrices + 6 * s.vocab * s.width) + attention
        exchanged = self.train.get("exchanged", 8 * self.weights)  # gathered twice, gradients moved twice, bfloat16
        row = 14_240 if tokens < 14_240 else tokens  # samples are packed into rows of this length
        rows = math.ceil(sequences * tokens / row / self.chips)
        computing = row * per_token / (self.chip.flops * self.a.product_share)
        return rows * max(computing, exchanged / (self.chip.links_bytes_s * self.a.link_share))


def calibrated(a: Assumptions) -> tuple[Assumptions, list[str]]:
    """With the published steps' remainder over bytes and exchanges, as a part per step and one per row."""
    spec = spec_from_config(PUBLISHED_SHAPE)
    on = Slice(spec, find("v6e:2x2").chip, 4, Layout(4, 1, 1, 4, 0), replace(a, piece=1024, prefill_rows=0))
    steps = dict(PUBLISHED_STEP)
    for rows, rate in PUBLISHED_RATES.items():
        steps[rows] = rows / (4 * rate) - rows * on.reading([1024]) / 1024
    rows = np.array(sorted(steps))
    rest = np.array([steps[n] - on.step(n, n * 1536.0) for n in rows])
    (row_s, step_s), *_ = np.linalg.lstsq(np.stack([rows, np.ones(len(rows))], axis=1), rest, rcond=None)
    fitted = replace(a, row_s=float(row_s), step_s=max(0.0, float(step_s)))
    again = replace(on, a=fitted)
    said = [f"{n} rows: {1e3 * steps[n]:.1f} ms a step, fitted {1e3 * again.step(n, n * 1536.0):.1f}" for n in rows]
    return fitted, said


def per_row_of(file: Path) -> dict[str, float]:
    """Operations per token and exchanged bytes per microbatch, of the last dry run in the file with a train step."""
    found: dict[str, float] = {}
    for line in file.read_text().splitlines():
        if not line.startswith("{"):
            continue
        account = json.loads(line)
        for name, program in account["programs"].items():
            if name.startswith("train step, ") and program["flops"]:
                microbatches, rows = (int(word) for word in name.removeprefix("train step, ").split()[:3:2])
                per_chip = microbatches * rows / find(account["topology"]).chips
                found["flops_per_token"] = program["flops"] / per_chip / account["row_tokens"]
                found["exchanged"] = sum(program["exchanged"].values()) / microbatches
    return found
