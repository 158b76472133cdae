"""Makes <name>_greedy.json: transformers' 64 greedy tokens in float32 on 8 prompts. Needs torch; run it once.

python tests/models/make_greedy.py smollm2 <folder of SmolLM2-135M-Instruct>
python tests/models/make_greedy.py qwen05b_coder <folder of Qwen2.5-Coder-0.5B-Instruct>
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = (
    "def fibonacci(n):",
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "To sort a list in Python, you can",
    "Question: what is 17 + 25?\nAnswer:",
    "import numpy as np\n\n\nclass Matrix:\n",
    "The three laws of thermodynamics say that",
    "Zwei Freunde gingen durch den Wald",
)


def main(name: str, folder: str) -> None:
    """Generates without stopping at the end of text, so that all 64 are compared."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts, tokens = [], []
    for text in PROMPTS:
        prompt = tokenizer(text)["input_ids"]
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]), max_new_tokens=64, min_new_tokens=0, do_sample=False, eos_token_id=None
            )
        prompts.append(prompt)
        tokens.append(out[0, len(prompt) :].tolist())
    (Path(__file__).parent / f"{name}_greedy.json").write_text(
        json.dumps({"prompts": prompts, "tokens": tokens}) + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
