"""What config.json of Gemma 3 says beyond the fields of every family: kinds of layers, two ropes, the scale of scores.

Most layers see a window of the last tokens and turn by a small theta, every sixth sees all and turns by a large one,
which the larger models stretch. Text models alone (`gemma3_text`); what the numbers do in a layer is in transformer.py.
"""

from __future__ import annotations

from typing import Any

from azr_jax.models.fields import Fields, UnsupportedModel

LOCAL, GLOBAL = "sliding_attention", "full_attention"
PATTERN = 6  # without layer_types, every sixth layer sees all


def read(fields: Fields, depth: int) -> dict[str, Any]:
    """The fields of ModelSpec that are Gemma's own."""
    fields.one_of("hidden_activation", ("gelu_pytorch_tanh",))
    fields.one_of("use_bidirectional_attention", (False, None))
    for name in ("final_logit_softcapping", "attn_logit_softcapping"):
        fields.one_of(name, (None,))
    theta, factor, local_theta = _ropes(fields)
    return {
        "windowed": _windowed(fields, depth),
        "window": fields.whole("sliding_window", 4_096),
        "rope_theta": theta,
        "rope_factor": factor,
        "local_rope_theta": local_theta,
        "score_scalar": fields.whole("query_pre_attn_scalar", 256),
    }


def _windowed(fields: Fields, depth: int) -> tuple[int, ...]:
    kinds = fields.texts("layer_types")
    if kinds is None:
        pattern = fields.whole("sliding_window_pattern", PATTERN)
        return tuple(layer for layer in range(depth) if (layer + 1) % pattern)
    if len(kinds) != depth or not {*kinds} <= {LOCAL, GLOBAL}:
        raise fields.refuse("layer_types", f"a list of num_hidden_layers={depth} times '{LOCAL}' or '{GLOBAL}'")
    return tuple(layer for layer, kind in enumerate(kinds) if kind == LOCAL)


def _ropes(fields: Fields) -> tuple[float, float, float]:
    """Theta and stretching of the layers that see all, theta of the others.

    Older folders: `rope_theta`, `rope_local_base_freq` and `rope_scaling`; newer ones: `rope_parameters` for each kind.
    """
    both = fields.table("rope_parameters") or Fields({}, "rope_parameters")
    if strays := [name for name in both.values if name not in (LOCAL, GLOBAL)]:
        raise UnsupportedModel(f"rope_parameters.{strays[0]}: should be under '{GLOBAL}' or '{LOCAL}'")
    local, whole = (both.table(kind) or Fields({}, f"rope_parameters.{kind}") for kind in (LOCAL, GLOBAL))
    if scaling := fields.table("rope_scaling"):
        if both.values or "rope_type" not in scaling:  # there, the first is lost and a `type` is passed over
            raise fields.refuse("rope_scaling", "a rope_type with its factor, without rope_parameters beside it")
        whole = scaling
    for rope, kinds in ((local, ("default",)), (whole, ("default", "linear"))):
        rope.one_of("partial_rotary_factor", (1.0, 1, None))
        if rope.values.get("rope_type", rope.values.get("type", "default")) not in kinds:
            raise rope.refuse("rope_type", f"{' or '.join(map(repr, kinds))}: others are not supported")
    stretched = whole.values.get("rope_type", whole.values.get("type")) == "linear"
    return (
        (whole if "rope_theta" in whole else fields).number("rope_theta", 1_000_000.0),
        whole.number("factor") if stretched else 1.0,
        local.number("rope_theta") if "rope_theta" in local else fields.number("rope_local_base_freq", 10_000.0),
    )


def written(spec: Any) -> dict[str, Any]:
    """The same fields for a config.json, as older folders have them, which all readers take."""
    kinds = [LOCAL if layer in spec.windowed else GLOBAL for layer in range(spec.depth)]
    scaling = {"rope_type": "linear", "factor": spec.rope_factor} if spec.rope_factor != 1 else None
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": kinds,
        "sliding_window": spec.window,
        "rope_local_base_freq": spec.local_rope_theta,
        "rope_scaling": scaling,
        "query_pre_attn_scalar": spec.score_scalar,
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
    }
