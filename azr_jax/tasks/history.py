"""What was ever kept of one kind, evicted or not: how near a task comes to it, and how rare an answer is in it.

A task is what its proposer wrote, as its kind tells it: the program, by its pq-grams, or the inputs found for one.
Tasks are kept as sketches of these: one hash function deals the parts into bins, the least of each bin stays, and two
sketches agree in a bin as often as the sets overlap. A new task is compared with those that share two neighbouring bins
with it, the newest NEAR of each pair. Near copies are found almost surely; what is far from everything is told as 1.
How often a sketch agrees with all of them on average is counted exactly. A look costs the same however much is
remembered: about 2.5 kB a task.

Left out on purpose: the tasks themselves, and an exact distance to them.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from azr_jax.tasks.kind import asked
from azr_jax.tasks.types import Kind, Task

BINS = 32
BANDS = BINS // 2
NEAR = 16  # how many tasks of a band are compared with
EMPTY = 1 << 32
# Where an empty bin takes its value from: the first filled bin of its list. The same lists in every run.
ELSEWHERE = [random.Random(i).sample(range(BINS), BINS) for i in range(BINS)]


class History:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._sketches: list[int] = []  # a byte of every bin
        self._having = array("l", [0]) * (BINS << 8)  # how many sketches have this byte in this bin
        self._newest: dict[int, int] = {}  # band -> the newest task that has it
        self._before = array("i")  # BANDS numbers per task: the one before it in the same band, or -1
        self._answers: Counter[int] = Counter()
        self._answers_total = 0

    def __len__(self) -> int:
        return len(self._sketches)

    def add(self, task: Task) -> None:
        bins, number, given = _bins(self.kind, task), len(self._sketches), self._answers_to(task)
        for band in _bands(bins):
            self._before.append(self._newest.get(band, -1))
            self._newest[band] = number
        self._sketches.append(_bytes(bins))
        for place, value in enumerate(_each_byte(self._sketches[-1])):
            self._having[place << 8 | value] += 1
        self._answers.update(map(hash, given))
        self._answers_total += len(given)

    def nearest(self, task: Task) -> float:
        """Estimated distance (of programs that of their trees) to the nearest task ever added; 1 when none is near."""
        bins = _bins(self.kind, task)
        own, near = _bytes(bins), set[int]()
        for place, band in enumerate(_bands(bins)):
            number = self._newest.get(band, -1)
            for _ in range(NEAR):
                if number < 0:
                    break
                near.add(number)
                number = self._before[number * BANDS + place]
        return _distance(max((_agreeing(own, self._sketches[number]) for number in near), default=0) / BINS)

    def mean_distance(self, task: Task) -> float:
        """Distance at the mean overlap with all that was ever added; 1 when nothing was."""
        if not self._sketches:
            return 1.0
        own = _each_byte(_bytes(_bins(self.kind, task)))
        agreeing = sum(self._having[place << 8 | value] for place, value in enumerate(own))
        return _distance(agreeing / BINS / len(self._sketches))

    def surprise(self, task: Task) -> float:
        """1 - p, where p is how often the task's answer was the answer so far; 1 when nothing was."""
        given = self._answers_to(task)
        if not self._answers_total:
            return 1.0
        return 1.0 - sum(self._answers[hash(answer)] for answer in given) / len(given) / self._answers_total

    def _answers_to(self, task: Task) -> tuple[str, ...]:
        return asked(self.kind, "answers", task, gives=tuple)


@lru_cache(maxsize=512)  # a task is looked up twice and then added
def _bins(kind: Kind, task: Task) -> tuple[int, ...]:
    """The least mark of every bin, an empty one filled from elsewhere."""
    least = [EMPTY] * BINS
    for gram, count in asked(kind, "written", task, gives=Counter).items():
        text = gram.encode("utf-8", "surrogatepass")
        mark = zlib.crc32(text)
        for _ in range(count):
            mark = (mark * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF  # the second of two equal grams gets another mark
            where = mark >> 27
            least[where] = min(least[where], mark)
    if least.count(EMPTY) == BINS:
        return tuple(least)
    return tuple(
        value if value != EMPTY else next(least[other] for other in ELSEWHERE[i] if least[other] != EMPTY)
        for i, value in enumerate(least)
    )


def _bands(bins: Sequence[int]) -> list[int]:
    return [place << 66 | bins[2 * place] << 33 | bins[2 * place + 1] for place in range(BANDS)]


def _bytes(bins: Sequence[int]) -> int:
    return int.from_bytes(bytes((value * 0x85EBCA6B >> 13) & 0xFF for value in bins), "little")


def _each_byte(sketch: int) -> bytes:
    return sketch.to_bytes(BINS, "little")


def _distance(overlap: float) -> float:
    """Bins agree as often as the sets overlap; the distance of novelty.py counts what is shared twice."""
    return (1.0 - overlap) / (1.0 + overlap)


def _agreeing(one: int, other: int) -> int:
    return (one ^ other).to_bytes(BINS, "little").count(0)
