"""A policy without a network: a function from prompt to completions, and a tokenizer of one token per character."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from azr_jax.rollout.engine import Request, Rollout
from azr_jax.selfplay.asking import Asker, SamplingSettings

END = 0


class Characters:
    eos_token_id = END

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, tokens) -> str:
        return "".join(chr(t) for t in tokens if t != END)


class ScriptedEngine:
    """Answers each request at the next step, the latest first: nothing may depend on the order of arrival."""

    def __init__(self, script: Callable[[str, int], str]):
        self.script, self.waiting, self.seen = script, deque[Request](), []

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def step(self) -> list[Rollout]:
        request = self.waiting.pop()
        prompt = Characters().decode(request.prompt)
        self.seen.append(prompt)
        done = []
        for sample in reversed(range(request.n)):
            tokens = (*Characters().encode(self.script(prompt, sample)), END)
            zeros = (0.0,) * len(tokens)
            done.append(Rollout(request, sample, tokens, zeros, zeros, "stop"))
        return done


def asker(style: str = "completion", tmp: Path = Path(), **changes) -> Asker:
    settings = {
        "style": style,
        "max_prompt_tokens": 8000,
        "max_new_tokens": 500,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "induction_inputs": 4,
    } | changes
    return Asker(Characters(), tmp, SamplingSettings(**settings))
