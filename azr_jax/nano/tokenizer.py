"""The base model's tokenizer: byte-level BPE in which a token is a byte, a whole word, or a fixed piece of a prompt.

Letters inside strings and all digits stay single, because what programs do to strings and numbers they do to
characters. The words are the most frequent of the programs; pieces of words are not tokens (`ignore_merges`). Whatever
stands between the parts of a prompt that vary, headings, fences and the worked example, is one token each: found by
rendering prompts around a mark and cutting there, so the form of the prompts is not written down a second time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from azr_jax.nano.texts import INDUCTION_INPUTS, INDUCTION_SHOWN, KINDS, REFERENCES, Text, proposing, solving, task_of
from azr_jax.nano.world import Known
from azr_jax.tasks.types import Kind

END, PAD = "<|end|>", "<|pad|>"
VOCABULARY = 512
MARK = "\ue000"  # a private character: in no prompt and no program
SPLIT = r" ?[A-Za-z_]+|[0-9]|\n *|, | ?[-+*/%<>=!:]+ ?|."


def build(texts: Iterable[Text]) -> Tokenizer:
    """A tokenizer for texts like these."""
    pieces = fixed_pieces()
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts: Counter[str] = Counter()
    for text in texts:
        # What stands in quotes is data: its letters must not become words.
        bare = re.sub(r"'[^'\n]*'", "''", text.completion)
        counts.update(word for word, _ in splitter.pre_tokenize_str(bare) if len(word) > 1)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = VOCABULARY - len(alphabet) - len(pieces) - 2
    words = [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:room]]
    vocabulary = {token: number for number, token in enumerate([*alphabet, *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (END, PAD)])
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in pieces])
    return tokenizer


def fixed_pieces() -> list[str]:
    """What stands between the varying parts of all prompts and completions."""
    marks = (MARK,) * INDUCTION_INPUTS
    known = Known(1, f"def f({MARK}", MARK, marks, marks, marks)
    reference = task_of(Kind.DEDUCTION, known, 0)
    texts = [solving(kind, known, 0) for kind in KINDS]
    texts += [proposing(kind, known, 0, [reference] * n) for kind in KINDS for n in range(REFERENCES + 1)]
    assert INDUCTION_SHOWN < INDUCTION_INPUTS
    pieces = {piece for text in texts for part in (text.prompt, text.completion) for piece in part.split(MARK)}
    return sorted(piece for piece in pieces if len(piece) > 1)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
