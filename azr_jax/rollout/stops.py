"""Where a completion ends for what it says: at a stop string, or where it only repeats itself. Counted in tokens.

Only the end is looked at: what is new since the last look, and before it no more than what ends there may begin in.
How many tokens come at a time changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MARGIN = 8  # tokens before the ones looked at, so that the text is not cut inside a character or a merged space
UNREADABLE = "\ufffd"  # what bytes that are no character are decoded to

LONGEST_PHRASE = 64  # tokens; what repeats itself more slowly is not noticed

DecodeText = Callable[[Sequence[int]], str]


class Completing:
    """Where a stop string may be complete, by the text that each token has alone: only there is a whole text decoded.

    The text of many tokens is their texts in a row, except that white space comes and goes where they meet, so none is
    looked at, and that bytes unreadable alone may be part of any character, but for ASCII's, which are one byte each.
    So it is with byte-level BPE and sentencepiece; not with WordPiece, whose "##er" is "er" behind another token, but
    no model here has that.
    """

    def __init__(self, decode_text: DecodeText):
        self.decode_text = decode_text
        self._texts: dict[int, str] = {}  # of single tokens, without white space
        # For each set of strings: tokens that complete none behind any text, and what tokens want before them.
        self._known: dict[tuple[str, ...], tuple[set[int], dict[int, list[str]]]] = {}

    def may_end(self, tokens: Sequence[int], new: int, stops: tuple[str, ...]) -> bool:
        """Whether one of the last `new` tokens may complete a stop string."""
        cannot, wanted = self._known.setdefault(stops, (set(), {}))
        begin = len(tokens) - new
        if cannot.issuperset(tokens[begin:]):
            return False
        for at in range(begin, len(tokens)):
            token = tokens[at]
            if token in cannot:
                continue
            if token not in wanted:
                wanted[token] = _wanted_before(self._text(token), stops)
            if not wanted[token]:
                cannot.add(token)
            elif any(self._may_end_with(end, tokens, at) for end in wanted[token]):
                return True
        return False

    def _may_end_with(self, end: str, tokens: Sequence[int], count: int) -> bool:
        """Whether the text of the first `count` tokens may end so."""
        while end and count:
            count -= 1
            text = self._text(tokens[count])
            if text.endswith(end) or _may_be_part(text, end):
                return True
            if not end.endswith(text):
                return False
            end = end.removesuffix(text)
        return not end

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = _without_space(self.decode_text([token]))
        return self._texts[token]


def _wanted_before(text: str, stops: Sequence[str]) -> list[str]:
    """Ends of a text, each of which lets the next token, of this text, complete a stop string; "" is any text's."""
    if any(stop[-1].isspace() or UNREADABLE in stop or _may_be_part(text, stop) for stop in stops):
        return [""]
    bare = [_without_space(stop) for stop in stops]
    if any(stop in text for stop in bare):
        return [""]
    begins = [text[:size] for size in range(1, len(text) + 1)]
    return [stop.removesuffix(begin) for stop in bare for begin in begins if stop.endswith(begin)]


def _may_be_part(text: str, stop: str) -> bool:
    """Whether bytes that are unreadable in a token's text may be some of the stop string's."""
    return UNREADABLE in text and not stop.isascii()


def _without_space(text: str) -> str:
    return "".join(text.split())


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
