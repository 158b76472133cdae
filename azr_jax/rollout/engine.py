"""Continuous batching: requests in, rollouts out, as they finish.

A fixed number of slots is decoded side by side, a few tokens at a time; whenever the host looks, finished slots are
emptied and waiting requests take their place. A request may be submitted at any time. The n completions of a request
share its prefill.

Left out so far: paging (every slot owns room for the longest sequence), prefixes shared between requests, several
devices.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from azr_jax.models.spec import ModelSpec
from azr_jax.rollout.requests import Request, Rollout
from azr_jax.rollout.sampling import Knobs
from azr_jax.rollout.steps import State, decode, empty_cache, prefill

__all__ = ["Engine", "EngineSettings", "Request", "Rollout"]
STOP_IDS = 8  # of one request, at most
CONTEXT_STEP = 256  # context lengths that decoding is compiled for are multiples of it
SMALLEST_PREFILL = 128


@dataclass(frozen=True)
class EngineSettings:
    slots: int
    max_prompt_tokens: int
    max_new_tokens: int
    decode_steps: int = 16  # tokens decoded on the device between two looks of the host
    dtype: str = "float32"

    @property
    def longest(self) -> int:
        return self.max_prompt_tokens + self.max_new_tokens


@dataclass
class _Slot:
    request: Request
    sample: int
    started: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)


class Engine:
    def __init__(
        self,
        graphdef: Any,
        spec: ModelSpec,
        settings: EngineSettings,
        *,
        seed: int,
        decode_text: Callable[[Sequence[int]], str] = lambda tokens: "",
    ):
        self.spec, self.settings, self.seed, self.decode_text = spec, settings, seed, decode_text
        dtype = jnp.dtype(settings.dtype)
        self._cache = empty_cache(spec, settings.slots, settings.longest, dtype)
        self._prefill = jax.jit(partial(prefill, graphdef, dtype), donate_argnums=1)
        self._decode = jax.jit(
            partial(decode, graphdef, dtype, settings.decode_steps), static_argnums=0, donate_argnums=2
        )
        self._params: Any = None
        self._key = jax.random.key(seed)
        self._waiting: deque[tuple[Request, range]] = deque()  # with the samples still to start
        self._slots: list[_Slot | None] = [None] * settings.slots
        self._state = _empty_state(settings.slots)
        self._numbers: dict[str, float] = {}
        self._reset_numbers()

    def begin(self, params: Any, iteration: int) -> None:
        """New weights, and the randomness of another iteration. Nothing may be under way."""
        if self.busy:
            raise RuntimeError("begin() while requests are under way: drain() or cancel() them first")
        self._params = params
        self._key = jax.random.fold_in(jax.random.key(self.seed), iteration)
        self._reset_numbers()

    def submit(self, request: Request) -> None:
        _check(request, self.settings, self.spec.vocab)
        self._waiting.append((request, range(request.n)))

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(self._slots)

    def drain(self) -> Iterator[Rollout]:
        while self.busy:
            yield from self.step()

    def cancel(self, request_id: int) -> list[Rollout]:
        """Ends a request; what its completions hold so far comes back. Samples that had not begun are dropped."""
        self._waiting = deque((r, samples) for r, samples in self._waiting if r.id != request_id)
        held = [i for i, slot in enumerate(self._slots) if slot is not None and slot.request.id == request_id]
        return [self._end(index, "cancelled") for index in held]

    def step(self) -> list[Rollout]:
        """One round: fill free slots, decode a few tokens, hand out what finished."""
        started = time.perf_counter()
        done = self._admit()
        if any(self._slots):
            done += self._run()
        self._numbers["seconds"] += time.perf_counter() - started
        return done

    def metrics(self) -> dict[str, float]:
        """Since the last begin()."""
        n = self._numbers
        return {
            "tokens": n["tokens"],
            "prompt_tokens": n["prompt_tokens"],
            "tokens_per_s": n["tokens"] / n["seconds"] if n["seconds"] else 0.0,
            "seconds": n["seconds"],
            "occupancy": n["useful_slot_steps"] / n["slot_steps"] if n["slot_steps"] else 0.0,
            "nan": n["nan"],
        }

    def close(self) -> None:
        self._waiting.clear()
        self._slots = [None] * self.settings.slots

    # --- a round

    def _admit(self) -> list[Rollout]:
        """Requests enter in order, as many of their samples at once as there are free slots."""
        done: list[Rollout] = []
        while self._waiting:
            free = [index for index, slot in enumerate(self._slots) if slot is None]
            request, samples = self._waiting[0]
            # All samples together or, where they are more than the slots, a power of two: few shapes to compile.
            group = min(len(samples), 1 << (self.settings.slots.bit_length() - 1))
            if len(free) < group:
                break
            self._waiting.popleft()
            if len(samples) > group:
                self._waiting.appendleft((request, samples[group:]))
            done += self._start(request, samples[:group], free[:group])
        return done

    def _start(self, request: Request, samples: range, slots: list[int]) -> list[Rollout]:
        length, count = len(request.prompt), len(slots)
        tokens_1xT = np.zeros((1, self._bucket(length)), np.int32)
        tokens_1xT[0, :length] = request.prompt
        base = jax.random.fold_in(self._key, request.id)
        keys = np.stack([np.asarray(jax.random.key_data(jax.random.fold_in(base, sample))) for sample in samples])
        knobs = Knobs(
            np.full(count, request.temperature, np.float32),
            np.full(count, request.top_k, np.int32),
            np.full(count, request.top_p, np.float32),
            np.full(count, request.min_p, np.float32),
        )
        self._cache, first = self._prefill(
            self._params, self._cache, tokens_1xT, np.int32(length), np.asarray(slots, np.int32), keys, knobs
        )
        s = self._state
        s.token[slots], s.position[slots], s.drawn[slots] = np.asarray(first.token), length, 1
        s.left[slots], s.on[slots], s.keys[slots] = request.max_new_tokens - 1, True, keys
        for all_slots, new in zip(s.knobs, knobs, strict=True):
            all_slots[slots] = new
        s.stop_ids[slots] = -1
        s.stop_ids[slots, : len(request.stop_ids)] = request.stop_ids
        self._numbers["prompt_tokens"] += length
        now = time.perf_counter()
        done = []
        for number, (index, sample) in enumerate(zip(slots, samples, strict=True)):
            self._slots[index] = _Slot(request, sample, now)
            self._add(index, *(array[number : number + 1] for array in map(np.asarray, first)))
            done.append(self._finished(index))
        return [rollout for rollout in done if rollout is not None]

    def _run(self) -> list[Rollout]:
        s, settings = self._state, self.settings
        reach = int(s.position[s.on].max()) + 1 + settings.decode_steps
        context = min(settings.longest, -(-reach // CONTEXT_STEP) * CONTEXT_STEP)
        self._cache, state, drawn, was_on = self._decode(context, self._params, self._cache, s)
        self._state = jax.tree.map(np.array, state)
        drawn_NxS, was_on_NxS = jax.tree.map(np.asarray, drawn), np.asarray(was_on)
        steps = int(was_on_NxS.any(axis=1).sum())
        done = []
        for index, slot in enumerate(self._slots):
            if slot is not None:
                count = int(was_on_NxS[:, index].sum())
                self._add(index, *(array[:count, index] for array in drawn_NxS))
                done.append(self._finished(index))
        self._numbers["slot_steps"] += steps * settings.slots
        self._numbers["useful_slot_steps"] += int(was_on_NxS.sum())
        return [rollout for rollout in done if rollout is not None]

    def _add(self, index: int, tokens: np.ndarray, logprobs: np.ndarray, sampled_logprobs: np.ndarray) -> None:
        slot = self._slots[index]
        assert slot is not None
        slot.tokens += tokens.tolist()
        slot.logprobs += logprobs.tolist()
        slot.sampled_logprobs += sampled_logprobs.tolist()
        self._numbers["tokens"] += len(tokens)

    def _finished(self, index: int) -> Rollout | None:
        """The slot's rollout, if something ended it. What came after a stop string is cut off."""
        slot = self._slots[index]
        assert slot is not None
        cut = self._cut_at_stop_string(slot)
        if cut is not None:
            for values in (slot.tokens, slot.logprobs, slot.sampled_logprobs):
                del values[cut:]
            return self._end(index, "stop")
        if not np.isfinite(slot.logprobs[-1]):
            self._numbers["nan"] += 1
            return self._end(index, "nan")
        if slot.tokens[-1] in slot.request.stop_ids:
            return self._end(index, "stop")
        return self._end(index, "length") if len(slot.tokens) >= slot.request.max_new_tokens else None

    def _cut_at_stop_string(self, slot: _Slot) -> int | None:
        """How many tokens to keep: the fewest whose text holds a stop string."""
        stops = slot.request.stop_strings
        if not stops or not any(stop in self.decode_text(slot.tokens) for stop in stops):
            return None
        low, high = 1, len(slot.tokens)
        while low < high:
            middle = (low + high) // 2
            text = self.decode_text(slot.tokens[:middle])
            low, high = (low, middle) if any(stop in text for stop in stops) else (middle + 1, high)
        return low

    def _end(self, index: int, finish: str) -> Rollout:
        slot = self._slots[index]
        assert slot is not None
        self._slots[index] = None
        self._state.on[index] = False
        seconds = time.perf_counter() - slot.started
        return Rollout(
            slot.request,
            slot.sample,
            tuple(slot.tokens),
            tuple(slot.logprobs),
            tuple(slot.sampled_logprobs),
            finish,
            seconds,
        )

    def _bucket(self, length: int) -> int:
        """Prompts are padded to a power of two, or to the longest prompt."""
        return min(max(SMALLEST_PREFILL, 1 << (length - 1).bit_length()), self.settings.max_prompt_tokens)

    def _reset_numbers(self) -> None:
        self._numbers = dict.fromkeys(
            ("tokens", "prompt_tokens", "seconds", "slot_steps", "useful_slot_steps", "nan"), 0.0
        )


def _empty_state(slots: int) -> State:
    def ints() -> Any:
        return np.zeros(slots, np.int32)

    knobs = Knobs(np.ones(slots, np.float32), ints(), np.ones(slots, np.float32), np.zeros(slots, np.float32))  # type: ignore[arg-type]
    keys, stop_ids = np.zeros((slots, 2), np.uint32), np.full((slots, STOP_IDS), -1, np.int32)
    return State(ints(), ints(), ints(), ints(), np.zeros(slots, bool), keys, knobs, stop_ids)  # type: ignore[arg-type]


def _check(request: Request, settings: EngineSettings, vocab: int) -> None:
    name, length = f"request {request.id}", len(request.prompt)
    if not 1 <= length <= settings.max_prompt_tokens:
        raise ValueError(f"{name}: the prompt has {length} tokens, should have 1 to {settings.max_prompt_tokens}")
    if not 1 <= request.max_new_tokens <= settings.max_new_tokens:
        raise ValueError(f"{name}: max_new_tokens={request.max_new_tokens}, should be 1 to {settings.max_new_tokens}")
    if request.n < 1:
        raise ValueError(f"{name}: n={request.n}, should be at least 1")
    if len(request.stop_ids) > STOP_IDS:
        raise ValueError(f"{name}: {len(request.stop_ids)} stop_ids, at most {STOP_IDS} fit")
    wrong = next((token for token in request.prompt if not 0 <= token < vocab), None)
    if wrong is not None:
        raise ValueError(f"{name}: token {wrong} in the prompt, should be 0 to {vocab - 1}")
