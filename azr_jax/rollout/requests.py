"""What the engine is asked, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A prompt and how to continue it, `n` times. Its `id` and the sample's number decide the randomness."""

    id: int
    prompt: tuple[int, ...]
    max_new_tokens: int
    n: int = 1
    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollout:
    """One completion, with the token that ended it."""

    request: Request
    sample: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # of the model, at temperature 1
    sampled_logprobs: tuple[float, ...]  # of the distribution the tokens were drawn from
    finish: str  # stop | length | cancelled | nan
    seconds: float = 0.0  # from its start in a slot to its end
