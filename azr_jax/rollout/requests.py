"""What the engine is asked, and what it gives back: plain data. A wrong request is refused by name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from azr_jax.models.endings import STOP_IDS
from azr_jax.rollout.cache import chunk_shapes

LARGEST_ID = 2**64 - 1  # two halves, which go into the random key as 32 bits each, like the sample's number
TILE = 16  # a prefill call has whole tiles of rows; a backend may want more of them to be one prompt's
QUANTIZATIONS = ("none", "int8")
CACHE_DTYPES = ("same", "int8")
CACHES = ("keep", "recompute")  # of completions under way, where weights change beneath them


@dataclass(frozen=True)
class EngineSettings:
    """Sizes of the engine. Memory follows `pages`; everything else only shapes the compiled programs.

    Slots and pages are those of one replica: so a replica's programs, and how their sums round, are the same on one
    device and on many.
    """

    slots: int  # completions decoded side by side; two at least, see `rows`
    max_prompt_tokens: int
    max_new_tokens: int
    page_size: int = 16  # tokens per page of the key/value cache
    pages: int = 0  # 0: enough for every slot at its longest
    decode_steps: int = 16  # tokens decoded on the device between two looks of the host, at most
    prefill_tokens: int = 128  # a prompt is read in chunks of so many; common beginnings are shared in this unit
    prefill_rows: int = 0  # of a call that reads pieces of several prompts; 0: each call reads one chunk of one
    dtype: str = "float32"
    matmul_dtype: str = "same"  # of the weights, and of what they multiply
    quantization: str = "none"  # none | int8: of the layers' matrices (models/int8.py)
    kv_cache_dtype: str = "same"  # same | int8: of keys and values in the cache (eight_bits.py)
    attention: str = "auto"  # auto | xla | gpu | tpu | tpu_fused: who looks at the cache (attention.py)
    never: tuple[int, ...] = ()  # tokens that are never drawn: for sampler and learner they do not exist
    draft_tokens: int = 0  # guessed ahead where slots stand empty, at most (drafts.py); 0: none
    limits: bool = False  # whether requests may be limited; where not, the programs know nothing of it
    # Weights change at rest alone (empty), or beneath completions under way, whose cache they keep | recompute.
    kv_cache: str = ""

    def __post_init__(self):
        for field in ("slots", "max_prompt_tokens", "max_new_tokens", "page_size", "decode_steps", "prefill_tokens"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: should be at least 1")
        if self.quantization not in QUANTIZATIONS:
            right = f"should be one of {', '.join(QUANTIZATIONS)}"
            raise ValueError(f"quantization={self.quantization!r}: {right}")
        if self.kv_cache_dtype not in CACHE_DTYPES:
            right = f"should be one of {', '.join(CACHE_DTYPES)}"
            raise ValueError(f"kv_cache_dtype={self.kv_cache_dtype!r}: {right}")
        if self.draft_tokens < 0:
            raise ValueError(f"draft_tokens={self.draft_tokens}: should be 0 (none) or more")
        if self.kv_cache and self.kv_cache not in CACHES:
            raise ValueError(f"kv_cache={self.kv_cache!r}: should be empty, or one of {', '.join(CACHES)}")
        if self.prefill_rows < 0 or self.prefill_rows % TILE:
            right = f"0 (a call reads one piece) or a multiple of {TILE}"
            raise ValueError(f"prefill_rows={self.prefill_rows}: should be {right}")
        if self.pages < 0:
            raise ValueError(f"pages={self.pages}: should be 0 (enough for every slot) or more")

    @property
    def pool_dtype(self) -> str:
        """Of keys and values in the cache."""
        return self.dtype if self.kv_cache_dtype == "same" else self.kv_cache_dtype

    @property
    def chunk(self) -> int:
        """Tokens per prefill chunk: whole pages."""
        return -(-self.prefill_tokens // self.page_size) * self.page_size

    @property
    def prefill_shapes(self) -> tuple[int, ...]:
        """Rows that prefill calls are compiled for."""
        return (self.prefill_rows,) if self.prefill_rows else chunk_shapes(self.chunk, self.page_size)

    @property
    def prefill_pieces(self) -> int:
        """Pieces that a prefill call holds, at most."""
        return max(1, self.prefill_rows // TILE)

    def tile(self, most: int) -> int:
        """Rows of a prefill call that belong to one prompt, where a backend wants `most`: chunks and calls are whole
        tiles. 0: all of them do.
        """
        return math.gcd(most, self.chunk, self.prefill_rows) if self.prefill_rows else 0

    @property
    def longest(self) -> int:
        return self.max_prompt_tokens + self.max_new_tokens

    @property
    def pages_per_slot(self) -> int:
        return -(-self.longest // self.page_size)

    @property
    def rows(self) -> int:
        """Slots that are compiled for: a product with a single row is another program, whose sums round differently."""
        return max(2, self.slots)

    @property
    def pool(self) -> int:
        """Pages. By default one more than the slots can hold: what a completion copies from stays while it copies."""
        return self.pages or self.rows * self.pages_per_slot + 1


@dataclass(frozen=True)
class Request:
    """A prompt and how to continue it, `n` times. Its `id` and the sample's number decide the randomness.

    The upper half of an id is the iteration; 0: the one that the weights were loaded for. Of earlier ones goes first.
    """

    id: int
    prompt: tuple[int, ...]
    max_new_tokens: int
    n: int = 1
    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    stop_after: str = ""  # stop strings count only behind this; empty: anywhere
    repetition_stop: int = 0  # ends where the same phrase came so many times in a row; 0: never
    limited: bool = False  # does without the tokens that load_weights() was told: for its completions they do not exist

    @property
    def iteration(self) -> int:
        return int(self.id) >> 32

    @property
    def number(self) -> int:
        return int(self.id) & 0xFFFFFFFF


@dataclass(frozen=True)
class Rollout:
    """One completion, with the token that ended it."""

    request: Request
    sample: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # of the model, at temperature 1
    sampler_logprobs: tuple[float, ...]  # at the request's temperature, without its cuts (sampling.py); 0 where greedy
    finish: str  # stop | length | repetition | nan (the logits were not finite; tokens are those before)
    versions: tuple[int, ...] = ()  # of each token: the iteration that the weights which drew it were loaded for
    seconds: float = 0.0  # from its start in a slot to its end
    waited: float = 0.0  # from submit to its start

    @property
    def ended(self) -> bool:
        """By an end-of-text token or a stop string of its request."""
        return self.finish == "stop"

    @property
    def truncated(self) -> bool:
        """It would have gone on, and was not let."""
        return self.finish in ("length", "repetition")


def check(request: Request, settings: EngineSettings, vocab: int) -> None:
    """Refuses what the engine cannot do, naming the field, its value and what would be right."""

    def refuse(field: str, value: object, right: str) -> None:
        raise ValueError(f"request {request.id}: {field}={value}, should be {right}")

    if not 0 <= request.id <= LARGEST_ID:
        refuse("id", request.id, f"0 to {LARGEST_ID}")
    if not 1 <= len(request.prompt) <= settings.max_prompt_tokens:
        refuse("length of prompt", len(request.prompt), f"1 to {settings.max_prompt_tokens} tokens")
    wrong = next((token for token in request.prompt if not 0 <= token < vocab), None)
    if wrong is not None:
        refuse("token in prompt", wrong, f"0 to {vocab - 1}")
    if not 1 <= request.max_new_tokens <= settings.max_new_tokens:
        refuse("max_new_tokens", request.max_new_tokens, f"1 to {settings.max_new_tokens}")
    if request.n < 1:
        refuse("n", request.n, "at least 1")
    if not request.temperature >= 0:
        refuse("temperature", request.temperature, "0 (greedy) or more")
    if request.top_k < 0:
        refuse("top_k", request.top_k, "0 (off) or more")
    if not 0 < request.top_p <= 1:
        refuse("top_p", request.top_p, "above 0 and at most 1 (off)")
    if not 0 <= request.min_p <= 1:
        refuse("min_p", request.min_p, "0 (off) to 1")
    if len(request.stop_ids) > STOP_IDS:
        refuse("count of stop_ids", len(request.stop_ids), f"at most {STOP_IDS}")
    if request.limited and not settings.limits:
        refuse("limited", True, "False: this engine has no limits")
    if request.repetition_stop < 0 or request.repetition_stop == 1:
        refuse("repetition_stop", request.repetition_stop, "0 (off), or 2 or more")
    if not all(request.stop_strings):
        refuse("stop_strings", request.stop_strings, "free of empty strings")
    pages = -(-(len(request.prompt) + request.max_new_tokens) // settings.page_size) + 1
    if pages > (most := settings.pool):
        fits = (most - 1) * settings.page_size
        refuse("prompt + max_new_tokens", len(request.prompt) + request.max_new_tokens, f"at most {fits} (pages)")
