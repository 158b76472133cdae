"""What was ever kept of one kind, evicted or not: how near a program comes to it, and how rare an answer is in it.

Programs are kept as sketches of their pq-grams: one hash function deals the grams into bins, the least of each bin
stays, and two sketches agree in a bin as often as the sets overlap. A new program is compared with those that share
two neighbouring bins with it, the newest NEAR of each pair. Near copies are found almost surely; what is far from
everything is told as 1. A look costs the same however much is remembered: about 2.5 kB a program.

Left out on purpose: the programs themselves, and an exact distance to them.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence

from azr_jax.tasks.novelty import grams
from azr_jax.tasks.types import InductionTask, Kind, Task

BINS = 32
BANDS = BINS // 2
NEAR = 16  # how many programs of a band are compared with
EMPTY = 1 << 32
# Where an empty bin takes its value from: the first filled bin of its list. The same lists in every run.
ELSEWHERE = [random.Random(i).sample(range(BINS), BINS) for i in range(BINS)]


class History:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._sketches: list[int] = []  # a byte of every bin
        self._newest: dict[int, int] = {}  # band -> the newest program that has it
        self._before = array("i")  # BANDS numbers per program: the one before it in the same band, or -1
        self._answers: Counter[int] = Counter()
        self._answers_total = 0

    def __len__(self) -> int:
        return len(self._sketches)

    def add(self, task: Task) -> None:
        bins, number = _bins(task.program), len(self._sketches)
        for band in _bands(bins):
            self._before.append(self._newest.get(band, -1))
            self._newest[band] = number
        self._sketches.append(_bytes(bins))
        given = answers(self.kind, task)
        self._answers.update(map(hash, given))
        self._answers_total += len(given)

    def nearest(self, program: str) -> float:
        """Estimated AST distance to the nearest program ever added; 1 when none is near."""
        bins = _bins(program)
        own, near = _bytes(bins), set[int]()
        for place, band in enumerate(_bands(bins)):
            number = self._newest.get(band, -1)
            for _ in range(NEAR):
                if number < 0:
                    break
                near.add(number)
                number = self._before[number * BANDS + place]
        most = max((_agreeing(own, self._sketches[number]) for number in near), default=0)
        # Bins agree as often as the sets overlap; the distance of novelty.py counts what is shared twice.
        return (BINS - most) / (BINS + most)

    def surprise(self, task: Task) -> float:
        """1 - p, where p is how often the task's answer was the answer so far; 1 when nothing was."""
        given = answers(self.kind, task)
        if not self._answers_total:
            return 1.0
        return 1.0 - sum(self._answers[hash(answer)] for answer in given) / len(given) / self._answers_total


def answers(kind: Kind, task: Task) -> tuple[str, ...]:
    """What a solver has to find, as text; for induction what its program has to return."""
    if isinstance(task, InductionTask):
        return task.outputs
    return (task.input,) if kind == Kind.ABDUCTION else (task.output,)


def _bins(program: str) -> list[int]:
    """The least mark of every bin, an empty one filled from elsewhere."""
    least = [EMPTY] * BINS
    for gram, count in grams(program).items():
        text = gram.encode("utf-8", "surrogatepass")
        mark = zlib.crc32(text)
        for _ in range(count):
            mark = (mark * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF  # the second of two equal grams gets another mark
            where = mark >> 27
            least[where] = min(least[where], mark)
    if least.count(EMPTY) == BINS:
        return least
    return [
        value if value != EMPTY else next(least[other] for other in ELSEWHERE[i] if least[other] != EMPTY)
        for i, value in enumerate(least)
    ]


def _bands(bins: Sequence[int]) -> list[int]:
    return [place << 66 | bins[2 * place] << 33 | bins[2 * place + 1] for place in range(BANDS)]


def _bytes(bins: Sequence[int]) -> int:
    return int.from_bytes(bytes((value * 0x85EBCA6B >> 13) & 0xFF for value in bins), "little")


def _agreeing(one: int, other: int) -> int:
    return (one ^ other).to_bytes(BINS, "little").count(0)
