"""Where a completion ends for what it says: at a stop string, or where it only repeats itself. Counted in tokens.

Only the end is looked at, and of it only what is new since the last look; how many tokens that is changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MARGIN = 8  # tokens before the ones looked at, so that the text is not cut inside a character or a merged space
UNREADABLE = "\ufffd"  # what bytes that are no character are decoded to

LONGEST_PHRASE = 64  # tokens; what repeats itself more slowly is not noticed

DecodeText = Callable[[Sequence[int]], str]


class Completing:
    """Which tokens can complete a stop string, each asked of the tokenizer once: the others need no decoding.

    The last character of the string is of one token's text, or of bytes that are unreadable by themselves. White space
    is not asked about: tokenizers add and drop it at the ends of a text.
    """

    def __init__(self, decode_text: DecodeText):
        self.decode_text = decode_text
        self._known: dict[tuple[str, ...], tuple[set[int], set[int]]] = {}  # for each set of strings: can, and cannot

    def may_end(self, new: Sequence[int], stops: tuple[str, ...]) -> bool:
        can, cannot = self._known.setdefault(stops, (set(), set()))
        if not can.isdisjoint(new):
            return True
        if cannot.issuperset(new):
            return False
        last = {stop[-1] for stop in stops} | {UNREADABLE}
        if any(sign.isspace() for sign in last):
            return True
        for token in set(new) - cannot:
            (cannot if last.isdisjoint(self.decode_text([token])) else can).add(token)
        return not can.isdisjoint(new)


def cut_at_stop_string(
    decode_text: DecodeText, tokens: Sequence[int], new: int, stops: Sequence[str], after: str = ""
) -> int | None:
    """The fewest tokens whose text holds a stop string, or None. Only the last `new` tokens can have completed it.

    With `after` a stop string counts only behind the first place where that stands.
    """
    if not stops or not new:
        return None
    # A token stands for at least one byte, a character for at most four: so far back can the stop string begin.
    back = 1 + MARGIN + 4 * max(map(len, stops))

    def near(count: int) -> bool:
        """Whether there may be a stop string at the end of the first `count` tokens."""
        for byte in range(4):  # a text that begins within a character made of single bytes may be unreadable as a whole
            text = decode_text(tokens[max(count - back - byte, 0) : count])
            if any(stop in text for stop in stops):
                return True
            if UNREADABLE not in text:
                break
        return False

    def holds(count: int) -> bool:
        text = decode_text(tokens[:count])
        begins = text.find(after)
        return begins >= 0 and any(text.find(stop, begins + len(after)) >= 0 for stop in stops)

    end = decode_text(tokens[-(back + new) :])
    if UNREADABLE not in end and not any(stop in end for stop in stops):
        return None
    # One token after the other, for a text may lose what it held: a newline as a byte cannot be read while the bytes
    # behind it are no whole character yet. So it ends at the same token however many come at a time.
    counts = range(len(tokens) - new + 1, len(tokens) + 1)
    return next((count for count in counts if near(count) and holds(count)), None)


def cut_at_repetition(tokens: Sequence[int], new: int, times: int) -> int | None:
    """The fewest tokens that end in one phrase, `times` times in a row, or None; the end is among the last `new`."""
    if not new:
        return None
    tail = np.array(tokens[-(new + LONGEST_PHRASE * times) :])
    begins, ends = len(tail) - new, []
    for period in range(1, min(LONGEST_PHRASE, len(tail) // times) + 1):
        wanted = period * (times - 1)  # tokens in a row, each the same as the one a period before
        if wanted >= new and begins >= period and tail[begins] != tail[begins - period]:
            continue  # the row would have to go through the first of the new ones
        same = tail[period:] == tail[:-period]
        last_other = np.maximum.accumulate(np.where(same, -1, np.arange(len(same))))
        row = np.arange(len(same)) - last_other
        found = np.flatnonzero((row >= wanted) & (np.arange(len(same)) + period >= begins))
        if len(found):
            ends.append(int(found[0]) + period + 1)
    return len(tokens) - len(tail) + min(ends) if ends else None
