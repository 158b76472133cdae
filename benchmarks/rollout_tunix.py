"""A third side of benchmarks/rollout.py: the sampler of Google's Tunix on static batches, in a Python that has it.

    pip install google-tunix   (tried: 0.1.7 with jax 0.12.0.1 and flax 0.12.12, Python 3.12)

Reads one JSON object from standard input (folder, threads, cache, greedy, and workloads by name: batches of prompts
with the number of tokens each is to write) and prints one with the seconds of each workload. A batch runs to its
longest member. Tunix has a cache of one fixed size and attends to all of it in every step; here it holds `cache`
tokens, the prompt and the longest completion of the whole workload, since nobody knows in advance how long the texts of
a batch will be. Tunix compiles once for each number of steps; all of that is done before the clock starts.

Before anything is timed, the greedy tokens after a few prompts must equal those of the asker (`greedy`).
"""

import dataclasses
import functools
import json
import os
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import model as llama
from tunix.models.llama3.params import create_model_from_safe_tensors

NO_TOKEN = -1  # padding and end: never in a prompt, never sampled


class Ids:
    """Tunix takes texts and a tokenizer; here a text is a list of token ids already."""

    def encode(self, text: list[int]) -> list[int]:
        return list(text)

    def decode(self, ids: list[int]) -> str:
        return ""

    def bos_id(self) -> None:
        return None

    def eos_id(self) -> int:
        return NO_TOKEN

    def pad_id(self) -> int:
        return NO_TOKEN


def load(folder: Path, cache: int) -> Sampler:
    said = json.loads((folder / "config.json").read_text())
    config = llama.ModelConfig(
        num_layers=said["num_hidden_layers"],
        vocab_size=said["vocab_size"],
        embed_dim=said["hidden_size"],
        hidden_dim=said["intermediate_size"],
        num_heads=said["num_attention_heads"],
        head_dim=said["head_dim"],
        num_kv_heads=said["num_key_value_heads"],
        rope_theta=said["rope_theta"],
        norm_eps=said["rms_norm_eps"],
        weight_tying=said["tie_word_embeddings"],
    )
    # Tunix 0.1.7 does not hand the rope_theta of its configuration on to its attention, which takes 1,000,000 always.
    llama.apply_rope = functools.partial(llama.apply_rope, rope_theta=config.rope_theta)
    model = create_model_from_safe_tensors(str(folder), config, dtype=jnp.float32)
    return Sampler(model, Ids(), CacheConfig(cache, config.num_layers, config.num_kv_heads, config.head_dim))


def generate(sampler: Sampler, prompts: list[list[int]], count: int, **sampling) -> list[list[int]]:
    out = sampler(prompts, max_generation_steps=count, max_prompt_length=len(prompts[0]), **sampling)
    return [row.tolist() for row in out.tokens]


def sample(sampler: Sampler, batch: dict) -> list[list[int]]:
    return generate(sampler, batch["prompts"], max(batch["lengths"]), temperature=1.0, top_p=1.0)


def compile_for(sampler: Sampler, batch: dict) -> None:
    """The call that is to be timed, only that its loop starts at the last step: the program is the same."""
    decode = sampler._compiled_decode_fn

    def last_step(params, state):
        at = state.decoding_step + max(batch["lengths"]) - 1
        return decode(params, dataclasses.replace(state, decoding_step=at))

    sampler._compiled_decode_fn = last_step
    try:
        sample(sampler, batch)
    finally:
        sampler._compiled_decode_fn = decode


def programs(sampler: Sampler) -> int:
    return sampler._compiled_prefill_fn._cache_size() + sampler._compiled_decode_fn._cache_size()


def main() -> None:
    asked = json.load(sys.stdin)
    warnings.simplefilter("ignore", DeprecationWarning)
    assert jax.default_backend() == "cpu"
    assert asked["threads"] == os.cpu_count(), "XLA takes every core, as ours does"
    sampler = load(Path(asked["folder"]), asked["cache"])
    expected = asked["greedy"]["tokens"]
    found = generate(sampler, asked["greedy"]["prompts"], len(expected[0]))
    assert found == expected, f"not the same model: greedy tokens {found}, expected {expected}"
    print(f"tunix: the greedy tokens of {len(expected)} prompts are ours", file=sys.stderr, flush=True)
    seconds = {}
    for name, batches in asked["workloads"].items():
        started = time.perf_counter()
        for batch in batches:
            compile_for(sampler, batch)
        print(f"tunix {name}: compiled in {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
        compiled = programs(sampler)
        started = time.perf_counter()
        for batch in batches:
            written = sample(sampler, batch)
            steps, so_far = max(batch["lengths"]), time.perf_counter() - started
            print(f"tunix {name}: a batch of {steps} steps, at {so_far:.1f} s", file=sys.stderr, flush=True)
            assert [len(row) for row in written] == [steps] * len(batch["prompts"])
        seconds[name] = time.perf_counter() - started
        assert programs(sampler) == compiled, "something was compiled on the clock"
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
