"""The other side of benchmarks/rollout.py: transformers' `generate` on static batches, in a Python that has torch.

Reads one JSON object from standard input (folder, threads, and workloads by name: batches of prompts with the number of
tokens each is to write) and prints one with the seconds of each workload. A batch runs to its longest member.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def generate(model, prompts: list[list[int]], count: int) -> None:
    tokens = torch.tensor(prompts)
    out = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=count,
        max_new_tokens=count,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert out.shape[1] == tokens.shape[1] + count


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    model = AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    seconds = {}
    with torch.no_grad():
        for name, batches in asked["workloads"].items():
            generate(model, batches[0]["prompts"], 3)
            started = time.perf_counter()
            for batch in batches:
                steps = max(batch["lengths"])
                generate(model, batch["prompts"], steps)
                so_far = time.perf_counter() - started
                print(f"transformers {name}: a batch of {steps} steps, at {so_far:.1f} s", file=sys.stderr, flush=True)
            seconds[name] = time.perf_counter() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
