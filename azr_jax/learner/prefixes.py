"""What prompts have in common at their beginnings, to be read once for all samples of a row.

Sorted by prompt, samples that share most stand side by side, and whatever two of them have in common all between them
have too. So a token of a row is seen by a run of samples: from the one in whose segment it stands, the first that has
it, to the last. That covers attempts at one task as well as the instructions that all prompts of a kind begin with.

Completions are never shared, though two may be the same: each token of them has a loss of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

Tokens = Sequence[int]


def common(one: Tokens, other: Tokens) -> int:
    """Tokens at the beginning that are the same."""
    count = 0
    for a, b in zip(one, other):
        if a != b:
            break
        count += 1
    return count


def rows(samples: Sequence[tuple[Tokens, Tokens]], row_tokens: int) -> list[list[int]]:
    """Of samples given as prompt and completion, which go into a row together, in that order.

    Each goes where the sample before it in sorted order stands, if its own part fits, or else begins a row. All
    completion tokens of a row stand a second time in arrays of its length, so they have to fit too: with a short
    prompt shared by many they are more than what is read.
    """
    order = sorted(range(len(samples)), key=lambda index: ([int(token) for token in samples[index][0]], index))
    found: list[list[int]] = []
    read = written = 0
    for index in order:
        prompt, completion = samples[index]
        own = len(prompt) + len(completion) - 1
        shared = common(samples[found[-1][-1]][0], prompt) if found else 0
        if found and read + own - shared <= row_tokens and written + len(completion) <= row_tokens:
            found[-1].append(index)
            read, written = read + own - shared, written + len(completion)
        else:
            found.append([index])
            read, written = own, len(completion)
    return found
