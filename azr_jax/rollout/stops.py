"""Stop strings: where a completion's text first holds one, counted in tokens. Only the end of the text is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MARGIN = 8  # tokens before the ones looked at, so that the text is not cut inside a character or a merged space

DecodeText = Callable[[Sequence[int]], str]


def cut_at_stop_string(decode_text: DecodeText, tokens: Sequence[int], new: int, stops: Sequence[str]) -> int | None:
    """The fewest tokens whose text holds a stop string, or None. Only the last `new` tokens can have completed it."""
    if not stops or not new:
        return None

    def holds(count: int) -> bool:
        text = decode_text(tokens[:count])
        return any(stop in text for stop in stops)

    # A token stands for at least one byte, a character for at most four: so far back can the stop string begin.
    back = new + MARGIN + 4 * max(map(len, stops))
    end = decode_text(tokens[-back:])
    if not any(stop in end for stop in stops) or not holds(len(tokens)):
        return None
    low, high = len(tokens) - new + 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
