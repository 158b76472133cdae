"""Which rope a config.json asks for, read as transformers reads it, or refused by name.

Two places hold it: `rope_parameters` (folders written by transformers 5) and `rope_scaling` (older ones, and what model
cards tell people to add). Where both stand, transformers takes `rope_scaling` and forgets the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from azr_jax.models.fields import Fields, UnsupportedModel

ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's stretching of rope: wavelengths beyond the original context are lengthened by `factor`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


def read_rope(config: Fields, default_theta: float, max_positions: int) -> tuple[float, Llama3Rope | None]:
    """Theta and scaling."""
    scaling, parameters = config.table("rope_scaling"), config.table("rope_parameters")
    rope = scaling or parameters or Fields({}, "rope_parameters")
    for name, value in rope.values.items():
        if isinstance(value, dict):
            raise rope.refuse(name, "a number: rope that differs between kinds of layers is not supported")
    theta = (rope if "rope_theta" in rope else config).number("rope_theta", default_theta)
    if scaling and parameters and (lost := parameters.number("rope_theta", theta)) != theta:
        raise UnsupportedModel(
            f"rope_parameters.rope_theta={lost:g} beside rope_scaling, which takes its place and leaves theta at "
            f"{theta:g}: should be one of the two, rope_parameters with the scaling in it"
        )
    for fields in (rope, config):
        if "partial_rotary_factor" in fields and fields.number("partial_rotary_factor") != 1:
            value = fields.number("partial_rotary_factor")
            raise UnsupportedModel(f"partial_rotary_factor={value} is not supported: it should be 1")
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UnsupportedModel(f"rope_type={kind!r} is not supported: it should be 'default' or 'llama3'")
    missing = [f for f in ("factor", "low_freq_factor", "high_freq_factor") if rope.values.get(f) is None]
    if missing:
        raise UnsupportedModel(f"rope_type='llama3' lacks {', '.join(missing)}")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if not low < high:
        raise rope.refuse("high_freq_factor", f"above low_freq_factor={low:g}")
    given = [fields.whole(ORIGINAL) for fields in (config, rope) if ORIGINAL in fields] or [max_positions]
    if given[0] != given[-1]:
        raise UnsupportedModel(
            f"{ORIGINAL}={given[0]} beside {given[-1]} of the rope's own, of which transformers takes the first: "
            "should be given once, with the rope"
        )
    return theta, Llama3Rope(rope.number("factor"), low, high, given[0])
