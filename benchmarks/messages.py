"""Random and mutated messages of a child through the protocol and the codec: what gets out, and how long one takes.

    python benchmarks/messages.py [--count 1000000] [--seed 0]

What a child leaves in its pipe is made of real messages, one a line (values of every type), then cut, repeated,
spliced, and changed byte by byte or token by token, or built to be slow: colliding keys, unclosed quotes, brackets,
digits, NaN. It goes the way a real one goes: lines, values decoded, compared, turned into keys and shown. Counted are
exceptions other than the codec's refusal (there must be none), and messages that took more than 50 ms of this thread's
processor time, the reading of the whole pipe being one more. What takes over 5 ms is done up to four times again and
its least time counts: a busy machine, or a collection of this script's own garbage, is no property of a message.
One table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import random
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.executor.cases import UNFIT, read_lines, told
from azr_jax.executor.child import END, PIPE_BYTES
from azr_jax.executor.equality import key, same
from azr_jax.executor.values import MAX_CHARS, Refused, as_json, decode, encode, show

SLOW_S = 0.05
TAGS = ("i", "f", "c", "b", "t", "d", "s", "z", "r", "C", "O", "D", "q", "F", "m", "date", "time", "datetime", "delta")
TOKENS = [
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"\n", b"null", b"true", b"-", b"0", b"1", b"9" * 20, b"1.5",
    b"NaN", b"\\u0000",
    b"\\ud800", b'\\"', b"\xff", b"\x00", b'["end"]\n', b'["loaded",-1]\n', b'["value",0,"', b'",null]\n',
    *(f'{{\\"{tag}\\":'.encode() for tag in TAGS), *(f'{{"{tag}":[]}}'.encode() for tag in TAGS),
]  # fmt: skip
P = 2**61 - 1  # whole numbers hash to themselves modulo this


class Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.dear = {n: self.texts(n) for n in (500, 5_000, 100_000)}
        self.known = [self.made() for _ in range(200)]

    def value(self, depth: int = 0) -> Any:
        rng = self.rng
        kind = rng.randrange(24 if depth < 4 else 14)
        if kind < 14:
            return self.atom(kind)
        few = range(rng.choice((0, 1, 2, 3, 8) if depth else (1, 8, 40, 200)))
        if kind < 18:
            each = [self.value(depth + 1) for _ in few]
            return (each, tuple(each), deque(each, maxlen=rng.choice((None, 300))), [each])[kind - 14]
        hashable = [self.atom(rng.randrange(14)) for _ in few]
        if kind < 20:
            return (set, frozenset)[kind - 18](hashable)
        pairs = {k: self.value(depth + 2) for k in hashable}
        makers = (
            dict,
            OrderedDict,
            lambda d: Counter({k: rng.randrange(3) for k in d}),
            lambda d: defaultdict(list, d),
        )
        return makers[kind - 20](pairs)

    def atom(self, kind: int) -> Any:
        rng = self.rng
        text = "".join(rng.choices('ab"\\\n\0é\ud800☃🙂[]{}', k=rng.randrange(12)))
        moment = datetime.datetime(rng.randint(1, 9999), 2, 3, 4, 5, 6, rng.randrange(10**6))
        if rng.random() < 0.3:
            moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=rng.randint(-900, 900))))
        return (
            None, rng.random() < 0.5, rng.randint(-9, 9), rng.getrandbits(rng.choice((60, 200, 14_000))) - 1,
            rng.choice((0.0, -0.0, 1.5, float("nan"), float("inf"), 1e300)), complex(rng.random(), float("nan")), text,
            text.encode("utf-8", "surrogatepass"), Fraction(rng.randint(-99, 99), rng.randint(1, 99)),
            Decimal(rng.choice(("1.50", "NaN", "Infinity", "1E+999999", "-0"))), range(rng.randint(-5, 5), 10**18, 3),
            moment, rng.choice((moment.date(), moment.time())), datetime.timedelta(rng.randint(-9, 9), 5, 7),
        )[kind]  # fmt: skip

    def encoded(self) -> str:
        """One of those at hand, now and then a new one: to make them costs more than to read them."""
        place = self.rng.randrange(len(self.known))
        if self.rng.random() < 0.03:
            self.known[place] = self.made()
        return self.known[place]

    def made(self) -> str:
        for _ in range(5):
            with contextlib.suppress(Refused):
                return encode(self.value())
        return "1"

    def line(self) -> bytes:
        rng = self.rng
        words = ("E", "x" * rng.randrange(300), "\x1b[2J", "\ud800", "é")
        given = rng.choice((None, self.encoded()))
        lines: list[list[Any]] = [
            ["loaded", -1],
            ["program", -1, "def f(x): return x", rng.random() < 0.5, False, True, ""],
            ["value", rng.randrange(4), self.encoded(), given],
            ["value", rng.randrange(4), self.encoded(), given],
            ["value", rng.randrange(4), self.encoded(), given],
            ["raised", rng.randrange(4), rng.choice(words), rng.choice(words), True, given],
            ["bad input", 0, rng.choice(words), rng.choice(words), False],
            ["unplain", 0, rng.choice(words), given],
            ["unfit", -1, rng.choice(sorted(UNFIT)), rng.choice(words)],
            ["broken", -1, "E", rng.choice(words), True],
        ]
        return as_json(rng.choice(lines)).encode()

    def message(self) -> bytes:
        rng = self.rng
        draw = rng.random()
        if draw < 0.01:
            return self.slow()
        if draw < 0.03:
            return rng.randbytes(rng.randrange(400))
        data = b"\n".join([*(self.line() for _ in range(rng.choice((1, 1, 2, 5)))), END, b""])
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            data = self.mutated(data)
        return data[:PIPE_BYTES]

    def mutated(self, data: bytes) -> bytes:
        rng = self.rng
        at, to = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        change = rng.randrange(8)
        if change == 0:
            return data[:at]
        if change == 1:
            return data[:at] + rng.choice(TOKENS) + data[at:]
        if change == 2:
            return data[:at] + rng.choice(TOKENS) * rng.choice((2, 60, 3_000)) + data[at:]
        if change == 3:
            return data[:at] + data[to:]
        if change == 4:
            return data[:at] + data[at:to] * rng.choice((2, 3, 50)) + data[to:]
        if change == 5:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        if change == 6:  # another tag for one that is there
            return data.replace(rng.choice(TAGS).encode(), rng.choice(TAGS).encode(), rng.choice((1, -1)))
        return data[to:] + data[:at]

    @staticmethod
    def texts(n: int) -> tuple[str, ...]:
        """What its reader would take longest for, as far as the pipe, or the limit of a value, lets it."""
        colliding = [f'{{"i":"{k * P:x}"}}' for k in range(1, 640)]
        nans = ",".join(f'{{"t":[{{"f":"nan"}},{k}]}}' for k in range(560))
        texts = (
            "[" * n, "[]," * n, '{"t":[' * n, '"' + '\\"' * n, "[" * 61 + '"' + '\\"' * n, "1" * n, "-" * n, " " * n,
            '{"s":[' + ",".join(colliding) + "]}", '{"d":[' + ",".join(f"[{k},0]" for k in colliding[:550]) + "]}",
            '{"z":[' + ",".join(f'{{"z":[{k}]}}' for k in colliding[:450]) + "]}", '{"s":[' + nans + "]}",
            '{"d":[' + ",".join(f"[{k},1]" for k in nans.split(",{")) + "]}", '{"m":"' + "9" * n + '"}',
            '{"m":"1E+' + "9" * 18 + '"}', '{"F":[{"i":"' + "f" * 3_000 + '"},{"i":"' + "e" * 3_000 + '"}]}',
            '{"r":[0,{"i":"' + "f" * 3_400 + '"},1]}', '{"f":"' + "1" * n + '"}', '{"b":"' + "00" * n + '"}',
            '{"t":[' * 60 + '{"f":"nan"}' + "]}" * 60,
            '{"C":[' + ",".join(f"[{k},{k}]" for k in colliding[:300]) + "]}",
        )  # fmt: skip
        return texts

    def slow(self) -> bytes:
        rng = self.rng
        text = rng.choice(self.dear[rng.choice((500, 5_000, 100_000))])
        if rng.random() < 0.5:
            text = text[:MAX_CHARS]
        line = as_json(["value", 0, text, text]).encode()
        count = rng.choice((1, 1, PIPE_BYTES // (len(line) + 1)))
        return (
            b"\n".join([*[line] * count, END, b""])[:PIPE_BYTES] if rng.random() < 0.8 else text.encode()[:PIPE_BYTES]
        )


def use(kind: str, parts: list[Any]) -> None:
    """Everything the trainer does with one message: what judging does with one case."""
    values = []
    for part in parts:
        if isinstance(part, str):
            told(part).encode()
            if kind in ("value", "raised", "unplain"):
                with contextlib.suppress(Refused):
                    values.append(decode(part))
    for one in values:
        same(one, values[0])
        with contextlib.suppress(TypeError):
            hash(key(one))
        show(one).encode("utf-8", "surrogatepass")


def cpu_s(work: Callable[[], Any]) -> float:
    """Of several readings the shortest, where the first was slow."""
    times: list[float] = []
    while not times or (len(times) < 5 and min(times) > SLOW_S / 10):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return min(times)


def run(count: int, seed: int) -> dict[str, Any]:
    """Until so many messages have been read; the pipes they came in are read on top."""
    maker = Maker(random.Random(seed))
    escaped: Counter[str] = Counter()
    slow, longest, most, messages, pipes, whole = 0, 0.0, b"", 0, 0, 0
    while messages < count:
        data = maker.message()
        try:
            lines, closed = read_lines(data, 67)
            spent = [cpu_s(lambda data=data: read_lines(data, 67))]
            spent += [cpu_s(lambda kind=kind, parts=parts: use(kind, parts)) for kind, _, *parts in lines]
        except BaseException as error:
            escaped[f"{type(error).__name__}: {error}"[:80]] += 1
            continue
        pipes, whole, messages = pipes + 1, whole + closed, messages + max(1, len(lines))
        slow += sum(each > SLOW_S for each in spent)
        if max(spent) > longest:
            longest, most = max(spent), data
    return {
        "messages": messages,
        "pipes": pipes,
        "pipes_with_an_end": whole,
        "exceptions": dict(escaped),
        "slower_than_50_ms": slow,
        "longest_ms": 1e3 * longest,
        "longest_bytes": len(most),
        "longest_begins": repr(most[:60]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = run(options.count, options.seed)
    for name, value in report.items():
        print(f"{name:20} {value}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
