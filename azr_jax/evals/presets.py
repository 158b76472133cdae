"""What others report, in one word: which suites, how many samples of each, put to the model how.

    paper   the table of the Absolute Zero paper
    2026    what papers on self-play compare today

A flag given by hand wins over what the preset says of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, replace

from azr_jax.evals.asked import Asked
from azr_jax.evals.sources import DATASETS
from azr_jax.evals.suites import GROUPS, SUITES, named


class BadRequest(ValueError):
    """No such preset, or samples that would all be the same."""


@dataclass(frozen=True)
class Sampling:
    n: int = 1
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    max_new_tokens: int = 16_000


@dataclass(frozen=True)
class Preset:
    meaning: str
    style: str
    suites: tuple[str, ...]
    usual: Sampling = Sampling()
    other: dict[str, Sampling] = field(default_factory=dict)  # of single suites
    since: str = ""  # of suites with dates
    until: str = ""

    def sampling(self, suite: str) -> Sampling:
        return self.other.get(suite, self.usual)


_CONTESTS = ("amc23", "aime24", "aime25", "aime26")
PRESETS = {
    "paper": Preset(
        "the table of the Absolute Zero paper: all greedy, in the conversation of training",
        "think",
        GROUPS["paper"],
        other=dict.fromkeys(("humaneval_plus", "mbpp_plus", "livecodebench_v5"), Sampling(max_new_tokens=8096)),
    ),
    "2026": Preset(
        "what papers on self-play compare today: contests as avg@32, LiveCodeBench v6 of Aug 2024 to May 2025 as "
        "avg@8, all else greedy, in the model's own chat template",
        "boxed",
        (
            "math500", "minerva", "olympiadbench", "gsm8k", *_CONTESTS,
            "humaneval_plus", "mbpp_plus", "livecodebench_v6", "mmlu_pro", "supergpqa", "bbeh",
        ),
        other=dict.fromkeys(_CONTESTS, Sampling(32, 0.6, 0.95, 32_768))
        | {"livecodebench_v6": Sampling(8, 0.6, 0.95, 32_768)},
        since="2024-08-01",
        until="2025-05-01",
    ),
}  # fmt: skip


def in_parts(asked: Asked, preset: str, given: Collection[str]) -> list[Asked]:
    """The request as its preset completes it, a part for each way of sampling. `given`: the fields set by hand."""
    parts = [asked]
    if preset:
        if preset not in PRESETS:
            raise BadRequest(f"--preset={preset}: should be of {', '.join(PRESETS)}; --list says what they mean")
        parts = list(_completed(asked, PRESETS[preset], given))
    for part in parts:
        if part.n > 1 and not part.temperature:
            raise BadRequest(
                f"--n={part.n}: greedy samples are all the same; give a --temperature above 0, or --n=1"
                + (f" ({', '.join(part.suites)})" if len(parts) > 1 else "")
            )
    return parts


def _completed(asked: Asked, preset: Preset, given: Collection[str]) -> Iterator[Asked]:
    common = {name: getattr(preset, name) for name in ("style", "since", "until") if name not in given}
    by_hand = {each.name: getattr(asked, each.name) for each in fields(Sampling) if each.name in given}
    suites = [suite.name for suite in named(asked.suites if "suites" in given else preset.suites)]
    how = {suite: replace(preset.sampling(suite), **by_hand) for suite in suites}
    for sampling in dict.fromkeys(how.values()):
        together = tuple(suite for suite in suites if how[suite] == sampling)
        yield replace(asked, suites=together, **common, **vars(sampling))


def told() -> str:
    """Presets, groups and suites, as text."""
    lines = ["Presets (--preset=NAME; a flag given by hand wins):"]
    for name, preset in PRESETS.items():
        lines += ["", f"  {name}: {preset.meaning}", f"    --style={preset.style}"]
        if preset.since:
            lines.append(f"    --since={preset.since} --until={preset.until}, of suites with dates")
        for sampling in dict.fromkeys(map(preset.sampling, preset.suites)):
            flags = " ".join(f"--{each.name}={getattr(sampling, each.name):g}" for each in fields(Sampling))
            together = [suite for suite in preset.suites if preset.sampling(suite) == sampling]
            lines += [f"    --suite={','.join(together)}", f"      {flags}"]
    lines += ["", "Groups (--suite=NAME):", *(f"  {name}: {', '.join(each)}" for name, each in GROUPS.items())]
    lines += ["", "Suites (--suite=NAME[,NAME]), their rows, and their files under --data_dir:"]
    for name, suite in SUITES.items():
        files = DATASETS[suite.dataset].choices[0]
        where = ", ".join(file.local for file in files)
        lines.append(f"  {name:<24}{suite.area:<17}{sum(file.rows for file in files):>6}  {where}")
    return "\n".join(lines)
