"""Mathematical answers: found in a completion, and compared with the gold in processes that can be killed."""

from __future__ import annotations

import json
import os
import queue
import re
import select
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_jax.evals.records import JUDGE_FAILED
from azr_jax.evals.spelling import compound, plain
from azr_jax.tasks.parsing import answer_part, blocks
from azr_jax.tasks.types import Verdict

LIMIT_S = 3.0  # of one comparison; beyond, the answer counts as wrong
_START_S = 120.0
_ROOT = Path(__file__).resolve().parents[2]
LONGEST = 1_000  # characters of an answer; longer ones are no final answers
_NUMBER = re.compile(
    r"(?<![\d.])(?:(?<![\w)\]])-)?\$?"  # a minus behind a digit, or before a blank, takes away
    r"(?:\d{1,3}(?:(?:,|\\,|[ \u00a0\u202f_])\d{3})+(?!\d)|\d[\d,]*|(?=\.\d))"  # in groups of three, or as they come
    r"(?:\.\d+)?(?:/\d+)?"
)
_ITEM = re.compile(r"^[ \t]*(?:(?i:step)[ \t]+\d+\b|\d+[.)](?=\s|$))", re.MULTILINE)  # numbers of steps, not of things
_CALLED = re.compile(
    rf"(?i:\banswer(?:\s+is|\s*:)):?[\s*]*(?:\\\(|\$)?({_NUMBER.pattern})(?![.,]?\d)(?!\s*[-+*/=\u00d7])"
)
_AND_A_PART = re.compile(r"\d and (?:a|one) (?:half|third|quarter)[^\d]*$")
_GROUPS = re.compile(r"\$|\\,|[,_\s]")  # what may stand inside of a number, but is no part of it
_BOXED = re.compile(r"\\(?:f?boxed|fbox)\s*(\{|[-+]?[^\s{}$\\]+)")
_SAID = re.compile(r"^(?i:(?:so |thus |therefore,? |hence )?(?:the )?(?:final )?answer(?: is|:))[:\s]*")
_SAID_IN_TEXT = re.compile(r"^\\text\{\s*(?i:(?:the )?(?:final )?answer is:?)\s*")
_ONE_OF = re.compile(r"\\l?or\b|\\vee\b|\u2228|\bor\b")


@dataclass(frozen=True)
class Compare:
    """Gives a Verdict on the answer."""

    gold: str
    answer: str


class MathJudge:
    """A few workers, each with one comparison at a time; `judge` may be called from any thread, and waits."""

    def __init__(self, workers: int = 1, limit_s: float = LIMIT_S):
        self.limit_s = limit_s
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._count = workers
        # Workers die with the thread that started them, so that is one which lives as long as this judge.
        self._starter = ThreadPoolExecutor(1, "math-starter")
        self._waiting = ThreadPoolExecutor(workers, "math-judge")
        for _ in range(workers):
            self._idle.put(None)  # started when first needed: loading sympy takes seconds

    def submit(self, job: Compare) -> Future[Verdict]:
        return self._waiting.submit(self._verdict, job)

    def _verdict(self, asked: Compare) -> Verdict:
        try:
            return self.judge(asked.gold, asked.answer)
        except Exception as error:  # as where no worker could be started: whoever waits for it goes on
            return Verdict(0.0, JUDGE_FAILED, f"{type(error).__name__}: {error}")

    def judge(self, gold: str, answer: str) -> Verdict:
        if len(answer) > LONGEST:
            return Verdict(0.0, "too long")
        worker, kept = self._idle.get(), None
        try:
            worker = worker or self._starter.submit(_Worker).result()
            found = worker.ask([plain(gold), plain(answer)], self.limit_s)
            kept = worker
        except TimeoutError:
            return Verdict(0.0, "timeout")
        except (OSError, ValueError) as error:
            return Verdict(0.0, "crashed", str(error))
        finally:
            if kept is None and worker is not None:
                worker.kill()
            self._idle.put(kept)
        if found is True:
            return Verdict(1.0, "correct")
        return Verdict(0.0, "wrong value") if found is False else Verdict(0.0, "no comparison", str(found))

    def start(self) -> None:
        """Starts a worker now, to know that it can be done. Raises RuntimeError."""
        worker = self._idle.get()
        try:
            worker = worker or self._starter.submit(_Worker).result()
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        self._waiting.shutdown(cancel_futures=True)
        for _ in range(self._count):
            worker = self._idle.get()
            if worker is not None:
                worker.kill()
        self._starter.shutdown()


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "azr_jax.evals.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            start_new_session=True,
        )
        try:
            ready = self._line(_START_S) == b"ready\n"
        except TimeoutError:
            ready = False
        if not ready:
            self.kill()
            raise RuntimeError("the process that compares answers did not start; is `math-verify` installed?")

    def ask(self, pair: list[str], limit_s: float) -> object:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(pair).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._line(limit_s))

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        reading, _, _ = select.select([self._process.stdout], [], [], limit_s)
        if not reading:
            raise TimeoutError
        return os.read(self._process.stdout.fileno(), 4_096)  # an answer is one short line, written at once

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _quietly(pipe.close)


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except OSError:  # what was still to be written to a process that is gone
        return


def last_boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...}, braces inside it matched, or behind a \boxed without braces."""
    starts = list(_BOXED.finditer(text))
    if not starts:
        return None
    begin = starts[-1].end()
    if starts[-1][1] != "{":
        return starts[-1][1].rstrip(".,;:")
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0) if text[place - 1] != "\\" else 0
        if not depth:
            return text[begin:place].strip()
    return None


def final_answer(text: str, *, numbers: bool = False) -> str | None:
    r"""The last <answer> block's text, or the last \boxed; with `numbers`, else the last number there is."""
    if "<answer>" in text:
        found = answer_part(text) or ""
        fenced = [block.text for block in blocks(found) if block.text]
        inside = last_boxed(found)
        plain = inside if inside is not None else (fenced[-1] if fenced else found.strip())
        return _undressed(plain) or None
    inside = last_boxed(text)
    if inside is not None:
        return _undressed(inside) or None
    if "<think>" in text and "</think>" not in text:
        return None
    if numbers:
        found = _CALLED.findall(text) or _NUMBER.findall(_ITEM.sub("", text))
        return _GROUPS.sub("", found[-1]) if found and not _AND_A_PART.search(text) else None
    return None


def only_number(answer: str) -> str | None:
    """The one number of an answer such as "18 dollars"; None where there are several, or none."""
    found = _NUMBER.findall(answer)
    return _GROUPS.sub("", found[0]) if len(found) == 1 else None


def hedged(gold: str, answer: str) -> bool:
    """Whether an answer names several numbers where one is asked for, which math-verify would take."""
    if not _NUMBER.fullmatch(gold.strip()):
        return False
    if compound(answer):
        return True
    sides = [_GROUPS.sub("", side) for side in answer.split("=")]
    numbers = [float(side) for side in sides if re.fullmatch(r"-?\d+(?:\.\d+)?", side)]
    apart = bool(numbers) and max(numbers) - min(numbers) > 0.01 * max(map(abs, numbers))  # more than by rounding
    return apart or bool(_ONE_OF.search(answer))


def _undressed(text: str) -> str:
    """Without the words before it and the marks around all of it."""
    text = _SAID_IN_TEXT.sub(r"\\text{", _SAID.sub("", text.strip())).removeprefix(r"\text{}").strip()
    if not text.endswith("\\right."):
        text = text.removesuffix(".").rstrip()
    for mark in ("**", "`", "$$", "$"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            inner = text[len(mark) : -len(mark)]
            return inner.strip().removesuffix(".") if mark not in inner else text
    return text


def gold_of(suite: str, fields: dict[str, Any]) -> str:
    """The gold answer of a row, as each benchmark keeps it."""
    if suite in ("math500", "minerva"):
        return last_boxed(fields["solution"]) or ""
    if suite == "olympiadbench":
        return _undressed(fields["final_answer"][0].replace("$", ""))
    if suite == "gsm8k":
        return fields["answer"].rsplit("####", 1)[1].strip().replace(",", "")
    if suite == "amc23":
        return f"{fields['answer']:g}"
    return str(fields["answer"]).strip()
