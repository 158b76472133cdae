"""What a model is: its sizes and the facts that tell one family from another, read from a Hugging Face config.json.

A family is a row of facts (`FAMILIES`), not a class: Qwen2 and Qwen2.5 add biases to q, k and v; Qwen3 normalises the
heads of q and k; Llama 3.x (and SmolLM2, which is one) does neither. Whatever changes the numbers and is not supported
is refused by name here, before a weight is read: sliding windows in use, rope types other than `default` and `llama3`,
experts, quantised weights, other activations.

`ModelSpec.weights()` is the one table of parameters: where each stands in the Transformer, what Hugging Face calls it,
its shape, and the logical axes that parallel/mesh.py maps to devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Init = Literal["normal", "ones", "zeros"]


class UnsupportedModel(ValueError):
    """A config.json that describes something the Transformer would compute wrongly, or not at all."""


@dataclass(frozen=True)
class Family:
    """What the members of one Hugging Face `model_type` share."""

    architecture: str
    qkv_bias: bool
    qk_norm: bool
    head_dim: int | None  # where config.json does not say; None: width / heads
    rope_theta: float  # where config.json does not say
    max_positions: int


FAMILIES = {
    "qwen2": Family("Qwen2ForCausalLM", True, False, None, 10_000.0, 32_768),
    "qwen3": Family("Qwen3ForCausalLM", False, True, 128, 10_000.0, 32_768),
    "llama": Family("LlamaForCausalLM", False, False, None, 10_000.0, 2_048),
}


@dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's stretching of rope: wavelengths beyond the original context are lengthened by `factor`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class Weight:
    """One parameter. With `per_layer`, `name` holds `{}` for the layer and the array has a leading axis over layers."""

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: Init = "normal"
    per_layer: bool = True


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and facts of one decoder. `tied`: the unembedding is the embedding."""

    family: str
    vocab: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    tied: bool
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: Llama3Rope | None = None
    max_positions: int = 32_768

    def __post_init__(self):
        for field in ("vocab", "width", "depth", "heads", "kv_heads", "head_dim", "mlp", "max_positions"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise UnsupportedModel(f"{field}={value!r}: should be a whole number of at least 1")
        if self.family not in FAMILIES:
            raise UnsupportedModel(f"family={self.family!r}: should be one of {', '.join(FAMILIES)}")
        if self.heads % self.kv_heads:
            raise UnsupportedModel(f"heads={self.heads} does not divide into kv_heads={self.kv_heads} groups")
        if self.head_dim % 2:
            raise UnsupportedModel(f"head_dim={self.head_dim}: should be even, rope turns pairs")

    @property
    def qkv_bias(self) -> bool:
        """q, k and v have biases."""
        return FAMILIES[self.family].qkv_bias

    @property
    def qk_norm(self) -> bool:
        """Each head of q and k is RMS-normalised before rope."""
        return FAMILIES[self.family].qk_norm

    @property
    def layer_matrices(self) -> int:
        """Numbers in the matrices of all layers: what a token is multiplied with, but for the unembedding."""
        return self.depth * self.width * (2 * self.head_dim * (self.heads + self.kv_heads) + 3 * self.mlp)

    def weights(self) -> tuple[Weight, ...]:
        """Every parameter, in the order of a Hugging Face file."""
        heads, groups, k, d, f = self.heads, self.kv_heads, self.head_dim, self.width, self.mlp

        def layer(path: str, name: str, shape: tuple[int, ...], axes: tuple[str, ...], init: Init = "normal") -> Weight:
            return Weight(("layers", path), f"model.layers.{{}}.{name}", shape, axes, init)

        table = [
            Weight(("embed",), "model.embed_tokens.weight", (self.vocab, d), ("vocab", "embed"), per_layer=False),
            layer("attn_norm", "input_layernorm.weight", (d,), ("norm",), "ones"),
            layer("q", "self_attn.q_proj.weight", (heads, k, d), ("heads", "head", "embed")),
            layer("k", "self_attn.k_proj.weight", (groups, k, d), ("kv_heads", "head", "embed")),
            layer("v", "self_attn.v_proj.weight", (groups, k, d), ("kv_heads", "head", "embed")),
            layer("o", "self_attn.o_proj.weight", (d, heads, k), ("embed", "heads", "head")),
        ]
        if self.qkv_bias:
            table += [
                layer("q_bias", "self_attn.q_proj.bias", (heads, k), ("heads", "head"), "zeros"),
                layer("k_bias", "self_attn.k_proj.bias", (groups, k), ("kv_heads", "head"), "zeros"),
                layer("v_bias", "self_attn.v_proj.bias", (groups, k), ("kv_heads", "head"), "zeros"),
            ]
        if self.qk_norm:
            table += [
                layer("q_norm", "self_attn.q_norm.weight", (k,), ("norm",), "ones"),
                layer("k_norm", "self_attn.k_norm.weight", (k,), ("norm",), "ones"),
            ]
        table += [
            layer("mlp_norm", "post_attention_layernorm.weight", (d,), ("norm",), "ones"),
            layer("gate", "mlp.gate_proj.weight", (f, d), ("mlp", "embed")),
            layer("up", "mlp.up_proj.weight", (f, d), ("mlp", "embed")),
            layer("down", "mlp.down_proj.weight", (d, f), ("embed", "mlp")),
            Weight(("final_norm",), "model.norm.weight", (d,), ("norm",), "ones", per_layer=False),
        ]
        if not self.tied:
            table.append(Weight(("unembed",), "lm_head.weight", (self.vocab, d), ("vocab", "embed"), per_layer=False))
        return tuple(table)

    def parameters(self) -> int:
        """How many numbers the model holds, a tied unembedding counted once."""
        total = 0
        for weight in self.weights():
            size = self.depth if weight.per_layer else 1
            for n in weight.shape:
                size *= n
            total += size
        return total


# Random weights for tests: big enough to divide over eight devices, small enough to train in a second.
PRESETS = {
    "tiny": ModelSpec("qwen2", 512, 64, 2, heads=4, kv_heads=2, head_dim=16, mlp=128, tied=True, max_positions=4_096),
}


def load_spec(folder: str | Path) -> ModelSpec:
    """The spec of the model in a Hugging Face folder."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise UnsupportedModel(f"{path} does not exist: a model folder holds config.json and *.safetensors") from None
    except json.JSONDecodeError as error:
        raise UnsupportedModel(f"{path} is not JSON: {error}") from None
    try:
        return spec_from_config(config)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The spec a parsed config.json describes, or UnsupportedModel naming the field that stands in the way."""
    family_name = config.get("model_type")
    if family_name not in FAMILIES:
        raise UnsupportedModel(
            f"model_type={family_name!r} is not supported: it should be one of {', '.join(FAMILIES)}"
        )
    family = FAMILIES[family_name]
    _refuse_what_changes_the_numbers(config, family)

    def need(field: str) -> Any:
        if config.get(field) is None:
            raise UnsupportedModel(f"{field} is missing")
        return config[field]

    width, heads = need("hidden_size"), need("num_attention_heads")
    head_dim = config.get("head_dim") or family.head_dim
    if head_dim is None:
        if width % heads:
            raise UnsupportedModel(f"hidden_size={width} does not divide by num_attention_heads={heads}")
        head_dim = width // heads
    theta, scaling = _rope(config, family)
    return ModelSpec(
        family=family_name,
        vocab=need("vocab_size"),
        width=width,
        depth=need("num_hidden_layers"),
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        mlp=need("intermediate_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        rope_theta=theta,
        rope_scaling=scaling,
        max_positions=config.get("max_position_embeddings") or family.max_positions,
    )


def _refuse_what_changes_the_numbers(config: Mapping[str, Any], family: Family) -> None:
    architectures = config.get("architectures") or [family.architecture]
    if family.architecture not in architectures:
        raise UnsupportedModel(
            f"architectures={architectures} is not supported: it should be [{family.architecture!r}]"
        )
    wanted = {
        "hidden_act": ("silu", None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "partial_rotary_factor": (1, None),
        "quantization_config": (None,),
    }
    for field, allowed in wanted.items():
        if config.get(field) not in allowed:
            raise UnsupportedModel(f"{field}={config[field]!r} is not supported: it should be {allowed[0]!r} or absent")
    depth = config.get("num_hidden_layers") or 0
    windowed = [kind for kind in config.get("layer_types") or () if kind != "full_attention"]
    if config.get("use_sliding_window") and config.get("sliding_window") and "layer_types" not in config:
        windowed += [f"sliding_window={config['sliding_window']}"] * max(0, depth - config.get("max_window_layers", 28))
    if windowed:
        raise UnsupportedModel(
            f"{windowed[0]} is used by {len(windowed)} of {depth} layers and is not supported: "
            "every layer should use full attention (use_sliding_window=false)"
        )


def _rope(config: Mapping[str, Any], family: Family) -> tuple[float, Llama3Rope | None]:
    """Theta and scaling, from `rope_parameters` (newer files) or `rope_theta` and `rope_scaling` (older ones)."""
    rope = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or family.rope_theta)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if rope.get("partial_rotary_factor", 1) != 1:
        raise UnsupportedModel(
            f"partial_rotary_factor={rope['partial_rotary_factor']} is not supported: it should be 1"
        )
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UnsupportedModel(f"rope_type={kind!r} is not supported: it should be 'default' or 'llama3'")
    fields = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [field for field in fields if rope.get(field) is None]
    if missing:
        raise UnsupportedModel(f"rope_type='llama3' lacks {', '.join(missing)}")
    factor, low, high, original = (rope[field] for field in fields)
    return theta, Llama3Rope(float(factor), float(low), float(high), int(original))


def config_from_spec(spec: ModelSpec) -> dict[str, Any]:
    """A config.json for this spec: what `spec_from_config` reads back, and transformers loads."""
    rope = None
    if spec.rope_scaling is not None:
        rope = {
            "rope_type": "llama3",
            "factor": spec.rope_scaling.factor,
            "low_freq_factor": spec.rope_scaling.low_freq_factor,
            "high_freq_factor": spec.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": spec.rope_scaling.original_max_positions,
        }
    return {
        "architectures": [FAMILIES[spec.family].architecture],
        "model_type": spec.family,
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.mlp,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_positions,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "rope_scaling": rope,
        "tie_word_embeddings": spec.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "torch_dtype": "float32",
    }
