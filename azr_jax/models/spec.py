"""What a model is: its sizes and the facts that tell one family from another, read from a Hugging Face config.json.

A family is a row of facts (`FAMILIES`), not a class: Qwen2 and Qwen2.5 add biases to q, k and v; Qwen3 normalises the
heads of q and k; Llama 3.x (and SmolLM2, which is one) and Mistral do neither; SmolLM3 leaves rope out of every fourth
layer; Gemma 3 (gemma.py) has windows of attention in most layers, norms on both sides of attention and mlp, and another
activation. A field means what it means to transformers, and where it is absent, its default there. Whatever changes the
numbers and is not supported is refused by name here, before a weight is read: windows of other families, rope types
other than `default` and `llama3`, experts, quantised weights, other activations, families that need other layers.

`ModelSpec.weights()` is the one table of parameters: where each stands in the Transformer, what Hugging Face calls it,
its shape, and the logical axes that models/sharding.py maps to devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from azr_jax.models import gemma
from azr_jax.models.fields import Fields, UnsupportedModel, read_json, shown
from azr_jax.models.rope import Llama3Rope, read_rope

Init = Literal["normal", "ones", "zeros"]
DEEPEST = 10_000  # layers: more are a slip of the pen, and their names alone would fill the memory


@dataclass(frozen=True)
class Family:
    """What the members of one Hugging Face `model_type` share, and what an absent field of their config.json means."""

    architecture: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None  # None: width / heads
    kv_heads: int | None = None  # None: as many as heads
    rope_theta: float = 10_000.0
    max_positions: int = 32_768
    tied: bool = False
    window: int | None = None  # sliding_window
    window_flag: bool = True  # windows are used only with use_sliding_window
    nope: bool = False  # some layers have no rope
    gemma: bool = False  # windows, two ropes and all else that transformer.py does for ModelSpec.gemma


FAMILIES = {
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, kv_heads=32, window=4_096),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_dim=128, kv_heads=32, window=4_096),
    "llama": Family("LlamaForCausalLM", max_positions=2_048),
    "mistral": Family("MistralForCausalLM", kv_heads=8, max_positions=131_072, window=4_096, window_flag=False),
    "smollm3": Family("SmolLM3ForCausalLM", kv_heads=4, rope_theta=2_000_000.0, tied=True, nope=True),
    "gemma3_text": Family(
        "Gemma3ForCausalLM", qk_norm=True, head_dim=256, kv_heads=4, max_positions=131_072, tied=True, gemma=True
    ),
}

# Families that people ask for and that need more than a row: what it would take.
_GATED = "gated linear attention in three layers of four, and a sampler that keeps its state beside the cache"
NEEDS = {
    "gemma3": "a vision model to leave out: its text model as a folder of its own, gemma3_text, is supported",
    "qwen3_5": f"{_GATED}; and a vision model to leave out",
    "qwen3_5_text": _GATED,
    "qwen3_5_moe": f"{_GATED}; and experts",
    "qwen3_next": f"{_GATED}; and experts",
    "qwen3_moe": "experts",
    "qwen2_moe": "experts",
    "mixtral": "experts",
}


# How many of a layer matrix's dimensions are outputs; the others are inputs. Weights are (out..., in...).
OUTPUTS = {"q": 2, "k": 2, "v": 2, "o": 1, "gate": 1, "up": 1, "down": 1}


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
    without_rope: tuple[int, ...] = ()  # numbers of the layers that rope leaves alone
    windowed: tuple[int, ...] = ()  # numbers of the layers that see the last `window` tokens alone
    window: int = 0
    rope_factor: float = 1.0  # rope of the layers that see all is slowed by it
    local_rope_theta: float = 10_000.0  # of the layers with a window
    score_scalar: int | None = None  # scores are divided by its root; None: by that of head_dim

    def __post_init__(self):
        for field in ("vocab", "width", "depth", "heads", "kv_heads", "head_dim", "mlp", "max_positions"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise UnsupportedModel(f"{field}={value!r}: should be a whole number of at least 1")
        if self.depth > DEEPEST:
            raise UnsupportedModel(f"depth={self.depth}: should be at most {DEEPEST}")
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
    def gemma(self) -> bool:
        """Norms behind attention and mlp too, all of them times 1 + w; tanh-gelu; embedding times the root of width."""
        return FAMILIES[self.family].gemma

    @property
    def layer_matrices(self) -> int:
        """Numbers in the matrices of all layers: what a token is multiplied with, but for the unembedding."""
        return self.depth * self.width * (2 * self.head_dim * (self.heads + self.kv_heads) + 3 * self.mlp)

    def weights(self) -> tuple[Weight, ...]:
        """Every parameter, in the order of a Hugging Face file."""
        heads, groups, k, d, f = self.heads, self.kv_heads, self.head_dim, self.width, self.mlp

        def layer(path: str, name: str, shape: tuple[int, ...], axes: tuple[str, ...], init: Init = "normal") -> Weight:
            return Weight(("layers", path), f"model.layers.{{}}.{name}", shape, axes, init)

        scale: Init = "zeros" if self.gemma else "ones"

        def norm(path: str, name: str, size: int = d) -> Weight:
            return layer(path, name, (size,), ("norm",), scale)

        table = [
            Weight(("embed",), "model.embed_tokens.weight", (self.vocab, d), ("vocab", "embed"), per_layer=False),
            norm("attn_norm", "input_layernorm.weight"),
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
                norm("q_norm", "self_attn.q_norm.weight", k),
                norm("k_norm", "self_attn.k_norm.weight", k),
            ]
        if self.gemma:
            table += [
                norm("attn_out_norm", "post_attention_layernorm.weight"),
                norm("mlp_norm", "pre_feedforward_layernorm.weight"),
                norm("mlp_out_norm", "post_feedforward_layernorm.weight"),
            ]
        else:
            table.append(norm("mlp_norm", "post_attention_layernorm.weight"))
        table += [
            layer("gate", "mlp.gate_proj.weight", (f, d), ("mlp", "embed")),
            layer("up", "mlp.up_proj.weight", (f, d), ("mlp", "embed")),
            layer("down", "mlp.down_proj.weight", (d, f), ("embed", "mlp")),
            Weight(("final_norm",), "model.norm.weight", (d,), ("norm",), scale, per_layer=False),
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
    if not path.exists():
        raise UnsupportedModel(f"{path} does not exist: a model folder holds config.json and *.safetensors")
    config = read_json(path)
    try:
        return spec_from_config(config)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The spec a parsed config.json describes, or UnsupportedModel naming the field that stands in the way."""
    fields, name = Fields(config), config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        needs = f", it needs {NEEDS[name]}" if isinstance(name, str) and name in NEEDS else ""
        raise UnsupportedModel(
            f"model_type={shown(name)} is not supported{needs}: it should be one of {', '.join(FAMILIES)}"
        )
    family = FAMILIES[name]
    _refuse_what_changes_the_numbers(fields, family)
    width, heads, depth = (fields.whole(field) for field in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    head_dim = fields.whole("head_dim") if config.get("head_dim") is not None else family.head_dim
    if head_dim is None:
        if width % heads:
            raise UnsupportedModel(f"hidden_size={width} does not divide by num_attention_heads={heads}")
        head_dim = width // heads
    given = config.get("num_key_value_heads", family.kv_heads)  # null, unlike absence, always means: as many
    max_positions = fields.whole("max_position_embeddings", family.max_positions)
    without_rope = _without_rope(fields, depth) if family.nope else ()
    if family.gemma:
        further = gemma.read(fields, depth)
    else:
        theta, scaling = read_rope(fields, family.rope_theta, max_positions)
        further = {"rope_theta": theta, "rope_scaling": scaling}
        _refuse_windows(fields, family, depth, without_rope)
    return ModelSpec(
        family=name,
        vocab=fields.whole("vocab_size"),
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=heads if given is None else fields.whole("num_key_value_heads", family.kv_heads),
        head_dim=head_dim,
        mlp=fields.whole("intermediate_size"),
        tied=fields.flag("tie_word_embeddings", family.tied),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        max_positions=max_positions,
        without_rope=without_rope,
        **further,
    )


def _refuse_what_changes_the_numbers(fields: Fields, family: Family) -> None:
    architectures = fields.texts("architectures") or [family.architecture]
    if family.architecture not in architectures:
        raise UnsupportedModel(
            f"architectures={shown(architectures)} is not supported: it should be [{family.architecture!r}]"
        )
    if not family.gemma:
        fields.one_of("hidden_act", ("silu", None))
    fields.one_of("attention_bias", (False, None))
    fields.one_of("mlp_bias", (False, None))
    fields.one_of("quantization_config", (None,))


def _without_rope(fields: Fields, depth: int) -> tuple[int, ...]:
    """SmolLM3: `no_rope_layers` has a 1 for every layer with rope; without it every fourth has none."""
    flags = fields.values.get("no_rope_layers")
    if flags is None:
        interval = fields.whole("no_rope_layer_interval", 4)
        return tuple(range(interval - 1, depth, interval))
    if not isinstance(flags, list) or len(flags) < depth or any(flag not in (0, 1) for flag in flags):
        raise fields.refuse("no_rope_layers", f"a list of {depth} times 1 (rope) or 0 (none)")
    return tuple(layer for layer, flag in enumerate(flags[:depth]) if not flag)


def _refuse_windows(fields: Fields, family: Family, depth: int, without_rope: tuple[int, ...]) -> None:
    """Which layers would use a sliding window, as transformers sees it."""
    kinds = fields.texts("layer_types")
    if kinds is not None and len(kinds) != depth:
        raise fields.refuse("layer_types", f"a list of num_hidden_layers={depth} kinds")
    windowed = [kind for kind in kinds or () if kind != "full_attention"]
    window = fields.values.get("sliding_window", family.window)
    in_use = fields.flag("use_sliding_window", False) or not family.window_flag
    if in_use and window is not None and (kinds is None or not family.window_flag):
        layers = range(depth)
        if family.nope:
            layers = without_rope
        elif family.window_flag:
            layers = range(min(depth, fields.whole("max_window_layers", 28, least=0)), depth)
        windowed = [f"sliding_window={shown(window)}"] * len(layers)
    if windowed:
        raise UnsupportedModel(
            f"{windowed[0]} is used by {len(windowed)} of {depth} layers and is not supported: every layer should use "
            f"full attention ({'use_sliding_window=false' if family.window_flag else 'sliding_window=null'})"
        )


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
    family = FAMILIES[spec.family]
    own = {"no_rope_layers": [int(i not in spec.without_rope) for i in range(spec.depth)]} if family.nope else {}
    own |= gemma.written(spec) if family.gemma else {"hidden_act": "silu", "sliding_window": None, "rope_scaling": rope}
    return own | {
        "architectures": [family.architecture],
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
        "tie_word_embeddings": spec.tied,
        "attention_bias": False,
        "bos_token_id": None,  # a family's own numbers may be beyond this vocabulary
        "eos_token_id": None,
        "pad_token_id": None,
        "torch_dtype": "float32",
    }
