"""Low-rank corrections as a folder in PEFT's format, and back.

    adapter_config.json         rank, scale, which modules, the base model's name
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, in] and lora_B.weight [out, r], each layer

Ours have no scale: what is written says lora_alpha = r, and a scale that is read is folded into B. What other adapters
may hold and these corrections cannot be (DoRA, biases, whole modules, ranks that differ) is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from azr_jax.learner.lora import Corrections
from azr_jax.models.fields import Fields, UnsupportedModel, read_json, shown
from azr_jax.models.hf import building, check_free
from azr_jax.models.spec import OUTPUTS, ModelSpec, Weight
from azr_jax.models.tensors import TYPES, BadWeights, LocalFile, Planned, read_header, write_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NOT_OURS = (
    "use_dora", "use_qalora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias",
    "alora_invocation_tokens", "arrow_config", "layer_replication", "target_parameters", "trainable_token_indices",
)  # fmt: skip


def save_adapter(
    corrections: Corrections, spec: ModelSpec, out: str | Path, *, base: str, overwrite: bool = False
) -> Path:
    """A complete folder at `out`. `base` is what the model they correct is called."""
    out, modules = Path(out), _modules(spec)
    check_free(out, overwrite, mark=CONFIG)
    rank = next(iter(corrections.values()))["a"].shape[1]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(_leaf(modules[name]) for name in corrections),
        "inference_mode": True,
    }
    tensors = dict(_their_tensors(corrections, modules))
    plan = [Planned(key, TYPES["F32"], value.shape) for key, value in tensors.items()]
    with building(out) as made:
        (made / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        write_file(made / WEIGHTS, plan, iter(tensors.values()))
    return out


def load_adapter(folder: str | Path, spec: ModelSpec) -> Corrections:
    """The corrections in `folder` for a model of this shape. Raises UnsupportedModel or BadWeights."""
    folder, modules = Path(folder), _modules(spec)
    scale, rank, targets = _read_config(folder / CONFIG, modules)
    if not (folder / WEIGHTS).is_file():
        raise BadWeights(f"{folder}: holds no {WEIGHTS}")
    tensors = read_header(LocalFile(folder / WEIGHTS))
    found: Corrections = {}
    wanted = set()
    for name in targets:
        weight = modules[name]
        outs, ins = weight.shape[: OUTPUTS[name]], weight.shape[OUTPUTS[name] :]
        for factor, shape, ours in (
            ("A", (rank, math.prod(ins)), (rank, *ins)),
            ("B", (math.prod(outs), rank), (*outs, rank)),
        ):
            layers = []
            for layer in range(spec.depth):
                key = _key(weight, layer, factor)
                if key not in tensors or tensors[key].shape != shape:
                    there = list(tensors[key].shape) if key in tensors else "absent"
                    raise BadWeights(f"{folder / WEIGHTS}: {key} is {there}: should be {list(shape)}")
                wanted.add(key)
                layers.append(tensors[key].read((slice(None), slice(None))).astype(np.float32).reshape(ours))
            if not np.isfinite(layers).all():
                raise BadWeights(f"{folder / WEIGHTS}: lora_{factor} of {name} hold NaN or infinity: should be numbers")
            value = np.stack(layers) * (np.float32(scale) if factor == "B" else np.float32(1))
            found.setdefault(name, {})[factor.lower()] = jnp.asarray(value)
    strays = sorted(tensors.keys() - wanted)
    if strays:
        raise BadWeights(f"{folder / WEIGHTS}: {strays[0]} corrects nothing in target_modules of a {spec.family} model")
    return found


def _read_config(path: Path, modules: Mapping[str, Weight]) -> tuple[float, int, list[str]]:
    """(what B is multiplied with, the rank, our names of the corrected weights)."""
    fields = Fields(read_json(path))
    try:
        if fields.values.get("peft_type") != "LORA":
            raise fields.refuse("peft_type", "'LORA'")
        if fields.values.get("bias", "none") != "none":
            raise fields.refuse("bias", "'none'")
        for name in NOT_OURS:
            if fields.values.get(name):
                raise fields.refuse(name, "absent: such adapters are not supported")
        rank, alpha = fields.whole("r"), fields.number("lora_alpha")
        asked = fields.texts("target_modules")
        names = {_leaf(weight): name for name, weight in modules.items()}
        if not asked or set(asked) - names.keys():
            raise fields.refuse("target_modules", f"a list of some of {', '.join(names)}")
        scale = alpha / (math.sqrt(rank) if fields.flag("use_rslora", False) else rank)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from None
    return scale, rank, sorted(names[each] for each in set(asked))


def _modules(spec: ModelSpec) -> dict[str, Weight]:
    """Our name of each weight that can be corrected."""
    return {weight.path[-1]: weight for weight in spec.weights() if weight.per_layer and weight.path[-1] in OUTPUTS}


def _leaf(weight: Weight) -> str:
    """`q_proj` of `model.layers.{}.self_attn.q_proj.weight`."""
    return weight.name.removesuffix(".weight").rsplit(".", 1)[1]


def _key(weight: Weight, layer: int, factor: str) -> str:
    return f"base_model.model.{weight.name.format(layer).removesuffix('.weight')}.lora_{factor}.weight"


def _their_tensors(corrections: Corrections, modules: Mapping[str, Weight]) -> Iterator[tuple[str, np.ndarray]]:
    """Heads and the numbers of a head are one axis there."""
    for name in sorted(corrections):
        for factor in ("a", "b"):
            for layer, value in enumerate(np.asarray(corrections[name][factor], np.float32)):
                shape = (value.shape[0], -1) if factor == "a" else (-1, value.shape[-1])
                yield _key(modules[name], layer, factor.upper()), value.reshape(shape)


def base_of(folder: Path) -> str:
    """The name of the model that an adapter corrects."""
    name = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UnsupportedModel(
            f"{folder / CONFIG}: base_model_name_or_path={shown(name)}: should be the name or folder of a model"
        )
    return name
