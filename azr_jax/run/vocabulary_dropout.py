"""Vocabulary dropout on the proposer: in each iteration it does without a share of its words, drawn anew.

What it would say again and again it has to say otherwise. What a program or the form of an answer cannot do without
stays: everything without a letter (digits, brackets, operators, blanks, pieces of characters), Python's keywords, added
tokens, and the words of tags and blocks. Which words are gone follows from the seed and the iteration, so that sampler
and learner, every process and a resumed run all do without the same.
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass

import numpy as np

from azr_jax.models.endings import HfTokenizer

TAGS = ("think", "answer", "python", "input", "output", "message", "f", "g")
AROUND = ("{}", " {}", "\n{}", "<{}>", "</{}>", "```{}\n", "def {}(x")  # how they stand in a text


@dataclass(frozen=True)
class Dropout:
    droppable_V: np.ndarray
    share: float
    seed: int

    def of(self, iteration: int) -> np.ndarray:
        """What is gone in this iteration [V]."""
        drawn_V = np.random.default_rng([self.seed, iteration]).random(len(self.droppable_V))
        return self.droppable_V & (drawn_V < self.share)


def droppable(tokenizer: HfTokenizer, size: int) -> np.ndarray:
    """Which of the model's `size` tokens may be dropped."""
    words = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    needed = {*keyword.kwlist, *keyword.softkwlist, *TAGS}
    may_V = np.zeros(size, bool)
    for token, word in enumerate(words[:size]):
        may_V[token] = any(letter.isalpha() for letter in word) and word.strip() not in needed
    kept = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    for word in needed:  # some are written in pieces
        for text in AROUND:
            kept |= set(tokenizer.encode(text.format(word), add_special_tokens=False))
    may_V[[token for token in kept if token < size]] = False
    return may_V
