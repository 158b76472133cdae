"""Continuous batching: requests in, rollouts out, as they finish.

A fixed number of slots is decoded side by side, a few tokens at a time. When a slot falls free and something waits, the
device stops at once and the host fills it. `step` hands out what finished while the next tokens are already being
decoded. What a completion says depends on the seed, the iteration, the request's id and the sample's number alone, and,
where weights change in flight, on which of its tokens which weights drew: that is noted of each.
On a mesh every replica has so many slots and pages; programs.py says how.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from azr_jax.models.spec import ModelSpec
from azr_jax.parallel.trees import PyTree
from azr_jax.rollout import pieces
from azr_jax.rollout.programs import EVERYWHERE, programs_of
from azr_jax.rollout.requests import EngineSettings, Request, Rollout, check
from azr_jax.rollout.sampling import Sampled
from azr_jax.rollout.scheduler import Placement, Scheduler, Sequence
from azr_jax.rollout.slots import State
from azr_jax.rollout.stops import Completing, DecodeText, cut_at_repetition, cut_at_stop_string

__all__ = ["Engine", "EngineSettings", "Request", "Rollout"]
log = logging.getLogger(__name__)

PATIENCE = 16  # while something waits, the device looks up when this part of the slots has fallen free

COUNTS: tuple[str, ...] = (
    "tokens", "prompt_tokens", "prefill_rows", "prefill_seconds", "decode_seconds", "slot_steps", "useful_slot_steps",
    "queued_slot_steps", "queued_useful_slot_steps", "active_slot_steps", "page_tokens", "tokens_in_flight",
    "pages_most", "device_waited_s", "nan", "compilations",
)  # fmt: skip


class _Flight(NamedTuple):
    """What the device is decoding, and for whom."""

    rows: np.ndarray  # the slot of each of its rows
    drawn: Sampled
    was_active_NxS: jax.Array
    steps_Rx2: jax.Array | None  # with drafts, of each replica: steps, and slots that took part in them
    version: int  # of the weights: the iteration they were loaded for
    queued: bool  # something was waiting when it left
    departed: float
    prefilled: jax.Array | None  # there when the prompts read before it are


class Engine:
    """See the module. `decode_text` turns tokens into text and is needed only for stop strings."""

    def __init__(
        self,
        graphdef: nnx.GraphDef[Any],
        spec: ModelSpec,
        settings: EngineSettings,
        *,
        seed: int,
        decode_text: DecodeText | None = None,
        mesh: Mesh | None = None,
    ):
        self.spec, self.settings, self.seed, self.decode_text = spec, settings, seed, decode_text
        self.programs = programs_of(graphdef, spec, settings, mesh)
        self._cache: tuple[jax.Array, ...] | None = None
        self._scheduler = Scheduler(settings, self.programs.replicas)
        self._params: nnx.State | None = None
        self._key_powers: jax.Array | None = None
        self._iteration = 0  # the one the weights were loaded for
        self._key: jax.Array | None = None
        self._dropped: jax.Array | None = None
        self._completing = Completing(decode_text) if decode_text else None
        self._flight: _Flight | None = None
        self._prefilled: jax.Array | None = None
        self._ended: list[Rollout] = []  # to be handed out by the next step
        self._busy_since = 0.0
        self._free_since: float | None = None  # the device has had nothing to do since, while there was work
        self._warm = False
        self._counts = dict.fromkeys(COUNTS, 0.0)

    def load_weights(self, params: nnx.State, iteration: int, dropped_V: np.ndarray | None = None) -> None:
        """New weights, in any layout, and the randomness of another iteration for requests that name none.

        Weights that already lie as the sampler needs them are used where they are, not copied; but those of queries
        and keys, where the cache has eight bits. `dropped_V` names the tokens that limited requests do without. What is
        under way, where that may be (`kv_cache`), goes on with these.
        """
        self._halt("load_weights()")
        self._params = None  # the old ones go first: two generations may not fit
        if not any(self._scheduler.slots):  # nobody goes on with what the cache holds
            self._key_powers = self.programs.key_powers(params)
        self._params = self.programs.weights(params, self._key_powers)
        if self._cache is None:  # last: the weights' way here needs room
            self._cache = self.programs.empty_cache()
        self._iteration, self._free_since = iteration, None
        key_data = np.asarray(jax.random.key_data(jax.random.key(self.seed)))
        self._key = jax.random.wrap_key_data(self.programs.place(key_data, EVERYWHERE))
        if self.settings.limits:
            dropped_V = np.zeros(self.spec.vocab, bool) if dropped_V is None else dropped_V
            self._dropped = self.programs.place(dropped_V, EVERYWHERE)
        self._scheduler.forget()
        self._counts = dict.fromkeys(COUNTS, 0.0)
        if not self._warm:
            self._warm_up()

    def submit(self, request: Request) -> None:
        """Queues a request; allowed at any time."""
        check(request, self.settings, self.spec.vocab)
        if request.stop_strings and self.decode_text is None:
            raise ValueError(f"request {request.id}: stop_strings need an Engine with decode_text")
        self._scheduler.submit(request, request.iteration or self._iteration)

    @property
    def slots(self) -> int:
        """Completions decoded side by side, all replicas together."""
        return self.settings.slots * self.programs.replicas

    @property
    def busy(self) -> bool:
        return bool(self._scheduler.waiting or self._ended or any(self._scheduler.slots))

    @property
    def has_room(self) -> bool:
        """Whether a slot stands empty that nobody waits for."""
        return not self._scheduler.waiting and not all(self._scheduler.slots)

    def under_way(self) -> list[tuple[int, int, int]]:
        """(request id, sample, tokens so far) of what is being decoded; may be asked from another thread."""
        return [(one.request.id, one.sample, len(one.tokens)) for _, one in self._scheduler.running()]

    def drain(self) -> Iterator[Rollout]:
        while self.busy:
            yield from self.step()

    def step(self) -> list[Rollout]:
        """One round: takes in what the device decoded, fills free slots, sends it on, hands out what ended."""
        if self._params is None:
            raise RuntimeError("step() without load_weights(): there are no weights")
        self._collect()
        self._admit()
        self._depart()
        ended, self._ended = self._ended, []
        return ended

    def metrics(self) -> dict[str, float]:
        """Since the last load_weights()."""
        n, scheduler = self._counts, self._scheduler

        def ratio(over: str, under: str) -> float:
            return n[over] / n[under] if n[under] else 0.0

        return {
            "tokens": n["tokens"],
            "prompt_tokens": n["prompt_tokens"],
            "seconds": n["prefill_seconds"] + n["decode_seconds"],
            "prefill_tokens_per_s": ratio("prompt_tokens", "prefill_seconds"),
            "prefill_occupancy": ratio("prompt_tokens", "prefill_rows"),
            "decode_tokens_per_s": ratio("tokens", "decode_seconds"),
            "tokens_per_s": n["tokens"] / ((n["prefill_seconds"] + n["decode_seconds"]) or 1.0),
            "occupancy": ratio("useful_slot_steps", "slot_steps"),
            "occupancy_queued": ratio("queued_useful_slot_steps", "queued_slot_steps"),
            "tokens_per_slot_step": ratio("tokens", "active_slot_steps"),  # above 1 with drafts
            "cache_overhead": ratio("page_tokens", "tokens_in_flight"),
            "pages_most": n["pages_most"],
            "preemptions": float(scheduler.preemptions),
            "shared_prefix_tokens": float(scheduler.shared_tokens),
            "device_waited_s": n["device_waited_s"],
            "compilations": n["compilations"],
            "nan": n["nan"],
        }

    def release_memory(self) -> None:
        """Gives the memory of weights and cache back until the next load_weights(), for an optimizer step to use.

        The cache stays where completions under way are to keep theirs.
        """
        self._halt("release_memory()")
        self._params = None
        if self.settings.kv_cache == "keep" and any(self._scheduler.slots):
            return
        self._scheduler.put_back()
        self._cache = None

    def close(self) -> None:
        """Drops all that is under way, and gives the memory back. The engine is of no further use."""
        self._collect()
        self._scheduler = Scheduler(self.settings, self.programs.replicas)
        self._ended, self._params, self._cache = [], None, None

    def _halt(self, asked: str) -> None:
        """What the device is decoding comes in. More may be under way only where weights change in flight."""
        if self.busy and not self.settings.kv_cache:
            raise RuntimeError(f"{asked} while requests are under way: drain() them first")
        self._collect()

    # --- a round

    def _collect(self) -> None:
        """Takes in what the device decoded, and ends the completions that are complete."""
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        began = flight.departed
        if flight.prefilled is not None:
            jax.block_until_ready(flight.prefilled)
            began = time.perf_counter()
            self._counts["prefill_seconds"] += began - flight.departed
        was_active_NxS = np.asarray(flight.was_active_NxS)  # waits for the device
        self._free_since = time.perf_counter()
        self._counts["decode_seconds"] += self._free_since - began
        drawn = jax.tree.map(np.asarray, flight.drawn)
        count_S = was_active_NxS.sum(axis=0)
        self._scheduler.arrays.advance(flight.rows, drawn.token, count_S)
        running = self._scheduler.running()
        row_B = np.argsort(flight.rows)[[slot for slot, _ in running]]
        of_running = [values_NxS[:, row_B].T.tolist() for values_NxS in drawn]
        for number, ((slot, sequence), count) in enumerate(zip(running, count_S[row_B].tolist())):
            for values, new in zip((sequence.tokens, sequence.logprobs, sequence.sampler_logprobs), of_running):
                values += new[number][:count]
            sequence.versions += [flight.version] * count
            self._end_if_complete(slot, sequence, count)
        self._count_flight(flight, was_active_NxS)

    def _end_if_complete(self, slot: int, sequence: Sequence, new: int) -> None:
        request, finish = sequence.request, None
        cut = len(sequence.tokens)
        if sequence.logprobs and not math.isfinite(sequence.logprobs[-1]):
            finish, cut = "nan", cut - 1
            self._counts["nan"] += 1
        elif sequence.tokens and sequence.tokens[-1] in request.stop_ids:
            finish = "stop"
        elif cut == request.max_new_tokens:
            finish = "length"
        if at := self._cut_at_stop(request, sequence.tokens, new, cut):
            finish, cut = "stop", at
        if request.repetition_stop:
            at = cut_at_repetition(sequence.tokens[:cut], new - (len(sequence.tokens) - cut), request.repetition_stop)
            if at is not None and (at < cut or not finish):
                finish, cut = "repetition", at
        if finish:
            sequence.cut(cut)
            self._ended.append(self._scheduler.end(slot).rollout(finish))

    def _cut_at_stop(self, request: Request, tokens: list[int], new: int, cut: int) -> int | None:
        """Where a stop string ends that the last `new` tokens, of the first `cut`, have completed."""
        completing, stops = self._completing, request.stop_strings
        if completing is None or not stops:
            return None
        if cut < len(tokens):
            tokens, new = tokens[:cut], new - (len(tokens) - cut)
        if not completing.may_end(tokens, new, stops):
            return None
        return cut_at_stop_string(completing.decode_text, tokens, new, stops, request.stop_after)

    def _admit(self) -> None:
        """Fills free slots: what is new of each prompt is computed, and the page decoding goes on in is copied."""
        placements = []
        while placement := self._scheduler.place():
            placements.append(placement)
        if placements:
            self._read(placements)
            self._copy(placements)

    def _read(self, placements: list[Placement]) -> None:
        """Prefills what is new, in order, each replica its own prompts; calls of one shape go side by side."""
        replicas, together = range(self.programs.replicas), self.settings.prefill_rows
        todo = [
            deque(one for p in placements if p.replica == replica for one in pieces.readings(p, together))
            for replica in replicas
        ]
        while any(todo):
            rows = next(waiting[0].rows for waiting in todo if waiting)
            call = self._no_prefill(rows)
            for replica, waiting in enumerate(todo):
                self._counts["prompt_tokens"] += pieces.fill(call, replica, waiting, self.programs.tile or 1)
            self._counts["prefill_rows"] += call.token.size
            self._device_busy()
            self._run_prefill(call)

    def _copy(self, placements: list[Placement]) -> None:
        from_RxC = np.zeros((self.programs.replicas, self.programs.slots), np.int32)
        to_RxC = np.full_like(from_RxC, self.programs.pages)
        number = [0] * self.programs.replicas
        for placement in placements:
            if placement.copy:
                at = placement.replica, number[placement.replica]
                from_RxC[at], to_RxC[at] = placement.copy
                number[placement.replica] += 1
        if any(number):
            self._cache = self._watched(
                "copy", self.programs.copy, self._cache, *self.programs.place((from_RxC, to_RxC))
            )
        for placement in placements:
            self._scheduler.copied(placement)

    def _depart(self) -> None:
        """Sends the device off to decode the next tokens; does not wait for it."""
        self._scheduler.grow(self.settings.decode_steps)
        if self.settings.draft_tokens:
            self._scheduler.grow_ahead(self.settings.decode_steps * (1 + self.settings.draft_tokens))
        if not any(self._scheduler.slots):
            self._free_since = None
            return
        queued, rows = bool(self._scheduler.waiting), self._scheduler.longest_first()
        threshold = self._refill_threshold(queued)
        args = (self._params, self._cache, self._state(rows), self._key, threshold, self._dropped)
        self._device_busy()
        self._cache, drawn, was_active_NxS, *steps = self._watched("decode", self.programs.decode, *args)
        steps_Rx2 = steps[0] if steps else None
        self._flight = _Flight(
            rows, drawn, was_active_NxS, steps_Rx2, self._iteration, queued, self._busy_since, self._prefilled
        )
        self._prefilled = None

    def _device_busy(self) -> None:
        """It has something to do from now on, if it had not yet."""
        if self._prefilled is None:
            self._busy_since = time.perf_counter()
        if self._free_since is not None:
            self._counts["device_waited_s"] += self._busy_since - self._free_since
            self._free_since = None

    def _refill_threshold(self, queued: bool) -> jax.Array:
        """How many slots may fall free before the device stops to have them filled; all of them if nobody waits."""
        slots = len(self._scheduler.slots)
        return self.programs.place(np.int32(max(1, slots // PATIENCE) if queued else slots + 1), EVERYWHERE)

    def _state(self, rows: np.ndarray) -> State:
        """Of the slots in this order, for the device."""
        return self.programs.place(self._scheduler.arrays.in_order(rows))

    # --- compiling and counting

    def _warm_up(self) -> None:
        """Compiles every program by running it on nothing, so that later rounds compile none."""
        for rows in self.settings.prefill_shapes:
            self._run_prefill(self._no_prefill(rows))
        nowhere_RxC = np.full((self.programs.replicas, self.programs.slots), self.programs.pages, np.int32)
        nowhere = self.programs.place((np.zeros_like(nowhere_RxC), nowhere_RxC))
        self._cache = self._watched("copy", self.programs.copy, self._cache, *nowhere)
        state = self._state(self._scheduler.longest_first())
        args = (self._params, self._cache, state, self._key, self._refill_threshold(False), self._dropped)
        self._cache = jax.block_until_ready(self._watched("decode", self.programs.decode, *args))[0]
        self._counts = dict.fromkeys(COUNTS, 0.0)
        self._warm, self._prefilled = True, None

    def _no_prefill(self, rows: int) -> pieces.Call:
        settings = self.settings
        return pieces.nothing(self.programs.replicas, rows, settings.prefill_pieces, settings.pages_per_slot)

    def _run_prefill(self, call: pieces.Call) -> None:
        args = (self._params, self._cache, self.programs.place(call))
        name = f"prefill of {call.token.shape[1]} tokens"
        self._cache, self._prefilled = self._watched(name, self.programs.prefill, *args)

    def _watched(self, name: str, program: Any, *args: object) -> PyTree:
        """Calls a jitted program; a compilation after warm-up is counted and named."""
        before = program._cache_size()
        with jax.set_mesh(self.programs.mesh):
            out = program(*args)
        if program._cache_size() > before and self._warm:
            self._counts["compilations"] += 1
            log.warning("compiled after warm-up: %s; all shapes should be known before the first round", name)
        return out

    def _count_flight(self, flight: _Flight, was_active_NxS: np.ndarray) -> None:
        n, rounds, useful = self._counts, int(was_active_NxS.any(axis=1).sum()), int(was_active_NxS.sum())
        active_steps = useful
        if flight.steps_Rx2 is not None:
            rounds_R, active_steps_R = np.asarray(flight.steps_Rx2).T
            rounds, active_steps = int(rounds_R.max()), int(active_steps_R.sum())
        n["active_slot_steps"] += active_steps
        all_steps = rounds * len(self._scheduler.slots)
        n["tokens"] += useful
        n["useful_slot_steps"] += useful
        n["slot_steps"] += all_steps
        if flight.queued:
            n["queued_useful_slot_steps"] += useful
            n["queued_slot_steps"] += all_steps
        in_use, state = self._scheduler.pages_in_use, self._scheduler.arrays.state
        n["page_tokens"] += in_use * self.settings.page_size
        n["tokens_in_flight"] += int((state.position + state.active).sum())
        n["pages_most"] = max(n["pages_most"], in_use)
