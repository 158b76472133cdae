"""Rows in, judged samples out: the rollout engine and the judges side by side, resumable at any moment.

Each row is a job: all of them wait in the engine's queue, so its slots stay full; the n samples of a row share its
prompt's cache. A completion is judged as soon as it ends, and its line is written when the verdict is there.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flax import nnx

from azr_jax.evals.code import BrokenTest
from azr_jax.evals.models import Found
from azr_jax.evals.questions import first_answer
from azr_jax.evals.records import JUDGE_FAILED, Results
from azr_jax.evals.suites import Graded, Item, Judges
from azr_jax.models.products import product_dtype
from azr_jax.rollout.attention_check import check_attention
from azr_jax.rollout.engine import Engine, EngineSettings, Request, Rollout
from azr_jax.selfplay.event_loop import EventLoop, Job, Sample
from azr_jax.selfplay.prompting import PromptCodec

PAGE_SIZE = 64  # of the cache, as the recipes have it; with pages of 16 tokens a CPU samples a fifth slower
Weights = Callable[[str], tuple[nnx.GraphDef, nnx.State]]  # of a dtype: graphdef and parameters
AT_ONCE = 2 * (os.cpu_count() or 1)  # samples being judged
LEAST_NEW = 16  # tokens that must be left for an answer, or the row does not fit the model
SAME_SUITE = 1 << 20  # request ids of one suite: the number of its row is below


@dataclass(frozen=True)
class SampleSettings:
    style: str
    n: int
    temperature: float  # 0: greedy
    top_p: float
    max_new_tokens: int
    seed: int
    dtype: str
    slots: int
    matmul_dtype: str = "same"


@dataclass(frozen=True)
class AskedRow:
    """A row as the engine gets it."""

    number: int  # request id
    item: Item
    tokens: tuple[int, ...]
    max_new_tokens: int  # 0: the prompt alone is too long for the model


class NoTemplate(ValueError):
    """The style needs what the model's tokenizer does not have."""


def fit(
    items: Sequence[tuple[int, Item]], codec: PromptCodec, context: int, new: int
) -> tuple[list[AskedRow], list[str]]:
    """The rows as requests, and what to tell about those that the model's context is too short for."""
    if any(item.prompt.messages for _, item in items) and not getattr(codec.tokenizer, "chat_template", None):
        raise NoTemplate("--style=boxed: this model has no chat template; --style=completion or think would do")
    asked = []
    for number, item in items:
        tokens = codec.tokens(item.prompt)
        left = min(new, context - len(tokens))
        asked.append(AskedRow(number, item, tokens, left if left >= min(new, LEAST_NEW) else 0))
    told = []
    for suite in dict.fromkeys(each.item.suite for each in asked):
        rows = [each for each in asked if each.item.suite == suite]
        cut = [each.max_new_tokens for each in rows if 0 < each.max_new_tokens < new]
        out = sum(not each.max_new_tokens for each in rows)
        if cut:
            told.append(
                f"{suite}: {len(cut)} of {len(rows)} prompts leave less than --max_new_tokens={new} of the model's "
                f"context of {context}: their answers are cut at what is left ({min(cut)} tokens at the least)"
            )
        if out:
            told.append(
                f"{suite}: {out} of {len(rows)} prompts do not fit the model's context of {context}: these rows are "
                "not asked and count as wrong"
            )
    return asked, told


class Harness:
    def __init__(self, settings: SampleSettings, results: Results, codec: PromptCodec, digests: dict[str, str]):
        self.settings, self.results, self.codec, self.digests = settings, results, codec, digests
        self.figures: dict[str, float] = {}  # of what this process sampled, once it has
        self._show: Callable[[str, int, int], None] = lambda name, done, total: None
        self._sampled: deque[tuple[AskedRow, Rollout]] = deque()  # not yet being judged
        self._at_judging, self._last_sample = 0, 0.0
        self._counts = Counter[str]()

    def to_do(self, asked: Sequence[AskedRow]) -> list[AskedRow]:
        """Rows of which some sample is missing; those that do not fit are settled at once."""
        rest = []
        for each in asked:
            done = self.results.done[each.item.suite]
            if all((each.item.id, sample) in done for sample in range(self.settings.n)):
                continue
            if each.max_new_tokens:
                rest.append(each)
            else:
                for sample in range(self.settings.n):
                    self._write(each, sample, Graded(0.0, "prompt too long"), {})
        return rest

    def run(
        self,
        model: Found,
        weights: Weights,
        todo: Sequence[AskedRow],
        judges: Judges,
        show: Callable[[str, int, int], None],
    ) -> None:
        """Samples and judges everything; what is written when it is stopped stays written."""
        if not todo:
            return
        total, self._counts = len(todo) * self.settings.n, Counter()
        self._show = lambda name, done, _: show(name, done, total)
        engine = self._engine(model, weights, todo)
        try:
            EventLoop(engine, judges).run([self._row(each) for each in todo])
            names = ("tokens", "tokens_per_s", "occupancy_queued", "occupancy")
            self.figures = {name: value for name, value in engine.metrics().items() if name in names}
            self.figures["judging_after_sampling_s"] = time.perf_counter() - self._last_sample
        finally:
            engine.close()

    def _engine(self, model: Found, weights: Weights, todo: Sequence[AskedRow]) -> Engine:
        graphdef, params = weights(product_dtype(self.settings.dtype, self.settings.matmul_dtype).name)
        sizes = EngineSettings(
            slots=min(self.settings.slots, len(todo) * self.settings.n),
            max_prompt_tokens=max(len(each.tokens) for each in todo),
            max_new_tokens=max(each.max_new_tokens for each in todo),
            page_size=PAGE_SIZE,
            dtype=self.settings.dtype,
            matmul_dtype=self.settings.matmul_dtype,
            never=model.never,
        )
        engine = Engine(graphdef, model.spec, sizes, seed=self.settings.seed, decode_text=self.codec.tokenizer.decode)
        check_attention(engine.programs)
        engine.load_weights(params, 0)
        return engine

    # --- jobs

    def _row(self, each: AskedRow) -> Job[None]:
        s = self.settings
        request = Request(
            id=each.number,
            prompt=each.tokens,
            max_new_tokens=each.max_new_tokens,
            n=s.n,
            temperature=s.temperature,
            top_p=s.top_p,
            stop_ids=self.codec.stop_ids,
            stop_strings=each.item.prompt.stop,
            stop_after=each.item.prompt.stop_after,
        )
        yield Sample(request, partial(self._judge, each))

    def _judge(self, each: AskedRow, rollout: Rollout) -> Job[None]:
        """Judges it now, or leaves it to whoever is through first: the tests of many samples would fill the memory."""
        self._sampled.append((each, rollout))
        self._last_sample = time.perf_counter()
        self._count("sampled")
        if self._at_judging == AT_ONCE:
            return
        self._at_judging += 1
        while self._sampled:
            each, rollout = self._sampled.popleft()
            started, text = time.perf_counter(), self.codec.text(each.item.prompt, rollout)
            graded = yield from self._graded(each.item, text)
            more = {"text": text, "finish": rollout.finish, "tokens": len(rollout.tokens)}
            more["judged_s"] = round(time.perf_counter() - started, 3)
            self._write(each, rollout.sample, graded, more)
            self._count("judged")
        self._at_judging -= 1

    def _graded(self, item: Item, text: str) -> Job[Graded]:
        try:
            graded = item.grade(first_answer(text, self.settings.style))
            return (yield from graded) if isinstance(graded, Generator) else graded
        except BrokenTest as broken:
            return Graded(0.0, "cannot be judged", str(broken))
        except Exception as error:  # one odd completion must not end an evaluation of hours
            return Graded(0.0, JUDGE_FAILED, f"{type(error).__name__}: {error}")

    def _count(self, name: str) -> None:
        self._counts[name] += 1
        self._show(name, self._counts[name], 0)

    def _write(self, each: AskedRow, sample: int, graded: Graded, more: dict[str, Any]) -> None:
        item = each.item
        line = {
            "id": item.id,
            "sample": sample,
            "score": graded.score,
            "reason": graded.reason,
            "detail": graded.detail,
            "base": graded.base,
            "answer": graded.answer,
            "category": item.category,
            "prompt_tokens": len(each.tokens),
            "data": self.digests[item.suite],
        }
        self.results.add(item.suite, line | more)
