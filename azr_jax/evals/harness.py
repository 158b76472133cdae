"""Rows in, judged samples out: the rollout engine and the judges side by side, resumable at any moment.

All rows of all suites wait in the engine's queue, so its slots stay full; the n samples of a row share its prompt's
cache. A completion goes to a judge's thread as soon as it ends, and its line is written when the verdict is there.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from azr_jax.evals.code import BrokenTest
from azr_jax.evals.models import Found
from azr_jax.evals.questions import first_answer
from azr_jax.evals.records import JUDGE_FAILED, Results
from azr_jax.evals.suites import Graded, Item
from azr_jax.models.endings import stop_ids
from azr_jax.rollout.engine import Engine, EngineSettings, Request, Rollout
from azr_jax.tasks.prompts import Prompt

PAGE_SIZE = 64  # of the cache, as the recipes have it; with pages of 16 tokens a CPU samples a fifth slower
Weights = Callable[[str], tuple[Any, Any]]  # of a dtype: graphdef and parameters
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


@dataclass(frozen=True)
class Asked:
    """A row as the engine gets it."""

    number: int  # request id
    item: Item
    tokens: tuple[int, ...]
    max_new_tokens: int  # 0: the prompt alone is too long for the model


class Tokenizing:
    """Prompts to tokens and completions to text, for one model."""

    def __init__(self, tokenizer: Any, model: Found):
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids(tokenizer, model.folder)

    def tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.messages:
            if not getattr(self.tokenizer, "chat_template", None):
                raise NoTemplate("--style=boxed: this model has no chat template; --style=completion or think would do")
            return tuple(self.tokenizer.encode(prompt.render(self._template), add_special_tokens=False))
        return tuple(self.tokenizer.encode(prompt.render()))

    def text(self, prompt: Prompt, rollout: Rollout) -> str:
        tokens = list(rollout.tokens)
        if tokens and tokens[-1] in self.stop_ids:
            tokens.pop()
        return prompt.prefix + self.tokenizer.decode(tokens)

    def _template(self, messages: list[dict[str, str]]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


class NoTemplate(ValueError):
    """The style needs what the model's tokenizer does not have."""


def fit(
    items: Sequence[tuple[int, Item]], tokenizing: Tokenizing, context: int, new: int
) -> tuple[list[Asked], list[str]]:
    """The rows as requests, and what to tell about those that the model's context is too short for."""
    asked = []
    for number, item in items:
        tokens = tokenizing.tokens(item.prompt)
        left = min(new, context - len(tokens))
        asked.append(Asked(number, item, tokens, left if left >= min(new, LEAST_NEW) else 0))
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
    def __init__(self, settings: SampleSettings, results: Results, tokenizing: Tokenizing, digests: dict[str, str]):
        self.settings, self.results, self.tokenizing, self.digests = settings, results, tokenizing, digests
        self.figures: dict[str, float] = {}  # of what this process sampled, once it has
        self._verdicts: queue.SimpleQueue[tuple[Asked, Rollout, str, Graded, float]] = queue.SimpleQueue()
        self._out = 0  # completions whose verdict is not there yet

    def to_do(self, asked: Sequence[Asked]) -> list[Asked]:
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
        todo: Sequence[Asked],
        threads: int,
        show: Callable[[str, int, int], None],
    ) -> None:
        """Samples and judges everything; what is written when it is stopped stays written."""
        if not todo:
            return
        engine = self._engine(model, weights, todo)
        total, done = len(todo) * self.settings.n, 0
        by_number = {each.number: each for each in todo}
        pool = ThreadPoolExecutor(threads, "judge")
        try:
            for each in todo:
                engine.submit(self._request(each))
            sampled, last_sample = 0, time.perf_counter()
            while engine.busy or self._out:
                if engine.busy:
                    for rollout in engine.step():
                        sampled += 1
                        self._judge(pool, by_number[rollout.request.id], rollout)
                    show("sampled", sampled, total)
                    last_sample = time.perf_counter()
                done += self._collect(wait=not engine.busy)
                show("judged", done, total)
            names = ("tokens", "tokens_per_s", "occupancy_queued", "occupancy")
            self.figures = {name: value for name, value in engine.metrics().items() if name in names}
            self.figures["judging_after_sampling_s"] = time.perf_counter() - last_sample
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            engine.close()

    def _engine(self, model: Found, weights: Weights, todo: Sequence[Asked]) -> Engine:
        graphdef, params = weights(self.settings.dtype)
        sizes = EngineSettings(
            slots=min(self.settings.slots, len(todo) * self.settings.n),
            max_prompt_tokens=max(len(each.tokens) for each in todo),
            max_new_tokens=max(each.max_new_tokens for each in todo),
            page_size=PAGE_SIZE,
            dtype=self.settings.dtype,
            never=model.never,
        )
        engine = Engine(
            graphdef, model.spec, sizes, seed=self.settings.seed, decode_text=self.tokenizing.tokenizer.decode
        )
        engine.begin(params, 0)
        return engine

    def _request(self, each: Asked) -> Request:
        s = self.settings
        return Request(
            id=each.number,
            prompt=each.tokens,
            max_new_tokens=each.max_new_tokens,
            n=s.n,
            temperature=s.temperature,
            top_p=s.top_p,
            stop_ids=self.tokenizing.stop_ids,
            stop_strings=each.item.prompt.stop,
            stop_after=each.item.prompt.stop_after,
        )

    def _judge(self, pool: ThreadPoolExecutor, each: Asked, rollout: Rollout) -> None:
        text = self.tokenizing.text(each.item.prompt, rollout)
        self._out += 1

        def work() -> None:
            started = time.perf_counter()
            try:
                graded = each.item.grade(first_answer(text, self.settings.style))
            except BrokenTest as broken:
                graded = Graded(0.0, "cannot be judged", str(broken))
            except Exception as error:  # one odd completion must not end an evaluation of hours
                graded = Graded(0.0, JUDGE_FAILED, f"{type(error).__name__}: {error}")
            self._verdicts.put((each, rollout, text, graded, time.perf_counter() - started))

        pool.submit(work)

    def _collect(self, *, wait: bool) -> int:
        """Writes the verdicts that are there; with `wait`, for one at least."""
        count = 0
        while self._out:
            try:
                each, rollout, text, graded, seconds = self._verdicts.get(block=wait)
            except queue.Empty:
                break
            wait = False
            self._out -= 1
            count += 1
            more = {
                "text": text,
                "finish": rollout.finish,
                "tokens": len(rollout.tokens),
                "judged_s": round(seconds, 3),
            }
            self._write(each, rollout.sample, graded, more)
        return count

    def _write(self, each: Asked, sample: int, graded: Graded, more: dict[str, Any]) -> None:
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
