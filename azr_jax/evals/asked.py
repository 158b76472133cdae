"""One way of asking: which suites, put and sampled how, judged under which limits. Its results have one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from azr_jax.evals.harness import SampleSettings
from azr_jax.evals.models import Found


@dataclass(frozen=True)
class Asked:
    suites: tuple[str, ...]
    style: str
    n: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    dtype: str
    slots: int
    limit: int
    shard: tuple[int, int]
    data_dir: str | None
    out: Path | str  # a folder, or a gs:// address
    timeout_s: float
    memory_mb: int
    allow_weak: bool
    since: str = ""  # dates; without one there is no end on that side
    until: str = ""
    examples: str = "one"  # worked ones, of the reasoning tasks
    matmul_dtype: str = "same"  # or bfloat16: twice the speed of float32 on a CPU
    packages: tuple[str, ...] = ()  # installed ones that judged programs may import

    def sampling(self) -> SampleSettings:
        names = SampleSettings.__dataclass_fields__
        return SampleSettings(**{name: getattr(self, name) for name in names})

    @property
    def measure(self) -> str:
        """What pass@1 is a mean of."""
        if self.n > 1:
            return f"avg@{self.n}"
        return "one sample" if self.temperature else "greedy"

    def folder(self, model: Found) -> str:
        examples = "" if self.examples == "one" else f"-{self.examples}"
        how = f"{self.style}{examples}-n{self.n}-t{self.temperature:g}-{self.max_new_tokens}"
        return f"{self.out}/{model.slug}/{how}"
