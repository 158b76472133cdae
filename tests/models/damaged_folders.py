"""A small whole model folder, and the many ways in which people's folders turn out to be damaged.

Each row of `DAMAGE` does one thing to a whole folder and says what the refusal has to name.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from azr_jax.models import random_folder
from azr_jax.models.hf import names, their_shape
from azr_jax.models.spec import config_from_spec, spec_from_config

CONFIG = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2_048,
    "tie_word_embeddings": True,
    "eos_token_id": 256,
}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def whole_folder(folder: Path) -> Path:
    """Two layers of random weights, a tokenizer of bytes, a chat template, a generation config."""
    folder.mkdir(parents=True)
    spec = spec_from_config(CONFIG)
    write(folder / "config.json", config_from_spec(spec) | {"eos_token_id": 256})
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(their_shape(weight)).astype(np.float32)
        for weight in spec.weights()
        for name in names(weight, spec.depth)
    }
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    random_folder._write_tokenizer(folder)
    change(folder / "tokenizer_config.json", chat_template=TEMPLATE)
    write(folder / "generation_config.json", {"eos_token_id": [256]})
    return folder


def write(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def change(path: Path, **fields) -> None:
    write(path, json.loads(path.read_text()) | fields)


Damage = Callable[[Path], None]


def config(**fields) -> Damage:
    return lambda folder: change(folder / "config.json", **fields)


def without(name: str, *fields: str) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        write(folder / name, {key: value for key, value in content.items() if key not in fields})

    return damage


def text(name: str, content: str | bytes) -> Damage:
    return lambda folder: (
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def endings(value) -> Damage:
    return lambda folder: write(folder / "generation_config.json", {"eos_token_id": value})


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def tensors(edit: Callable[[dict[str, np.ndarray]], object]) -> Damage:
    def damage(folder: Path) -> None:
        arrays = load_file(folder / SINGLE)
        edit(arrays)
        save_file(arrays, folder / SINGLE, metadata={"format": "pt"})

    return damage


def header(edit: Callable[[dict], object]) -> Damage:
    """The JSON at the head of the weights, the numbers behind it left alone."""

    def damage(folder: Path) -> None:
        content = (folder / SINGLE).read_bytes()
        length = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + length])
        edit(entries)
        head = json.dumps(entries).encode()
        (folder / SINGLE).write_bytes(len(head).to_bytes(8, "little") + head + content[8 + length :])

    return damage


def index(content) -> Damage:
    """An index instead of the single file, which is renamed."""

    def damage(folder: Path) -> None:
        (folder / SINGLE).rename(folder / "one.safetensors")
        text(INDEX, content if isinstance(content, (str, bytes)) else json.dumps(content))(folder)

    return damage


def tokenizer(edit: Callable[[dict], object]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        edit(content)
        write(folder / "tokenizer.json", content)

    return damage


NORM, EMBED = "model.norm.weight", "model.embed_tokens.weight"
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

# What is damaged -> (how, what the refusal says).
DAMAGE: dict[str, tuple[Damage, str]] = {
    # config.json as a file
    "config is gone": (gone("config.json"), r"has no config\.json"),
    "config is empty": (text("config.json", ""), r"config\.json is not JSON"),
    "config is cut": (cut("config.json", 0.5), r"config\.json is not JSON"),
    "config is a list": (text("config.json", "[]"), r"config\.json holds \[\]: should be an object"),
    "config is null": (text("config.json", "null"), r"config\.json holds None: should be an object"),
    "config is a string": (text("config.json", '"llama"'), r"config\.json holds 'llama'"),
    "config is Latin-1": (
        text("config.json", '{"né": 1}'.encode("latin-1")),
        r"config\.json is not UTF-8 text: byte 0xe9",
    ),
    "config is nested deeply": (text("config.json", "[" * 100_000), r"config\.json is not JSON"),
    # its fields
    "no family": (without("config.json", "model_type"), "model_type=None is not supported"),
    "family is a number": (config(model_type=7), "model_type=7 is not supported"),
    "family is a list": (config(model_type=["llama"]), r"model_type=\['llama'\] is not supported"),
    "another family": (config(model_type="gemma3"), "'gemma3' is not supported, it needs a vision model to leave out"),
    "hybrid family": (config(model_type="qwen3_5_text"), "it needs gated linear attention"),
    "another head": (config(architectures=["LlamaForTokenClassification"]), "architectures="),
    "architectures is a word": (
        config(architectures="LlamaForCausalLM"),
        "architectures=.*should be a list of strings",
    ),
    "no width": (without("config.json", "hidden_size"), "hidden_size is missing"),
    "width is text": (config(hidden_size="16"), "hidden_size='16': should be a whole number"),
    "width is a fraction": (config(hidden_size=16.5), "hidden_size=16.5: should be a whole number"),
    "width is true": (config(hidden_size=True), "hidden_size=True: should be a whole number"),
    "depth is zero": (config(num_hidden_layers=0), "num_hidden_layers=0: should be a whole number of at least 1"),
    "depth is huge": (config(num_hidden_layers=10**8), "depth=100000000: should be at most 10000"),
    "depth is beyond int32": (config(num_hidden_layers=10**30), "num_hidden_layers=1000"),
    "heads do not divide": (config(num_attention_heads=3, head_dim=None), "hidden_size=16 does not divide"),
    "groups do not divide": (config(num_attention_heads=3, num_key_value_heads=2), "heads=3 does not divide"),
    "head is odd": (config(head_dim=7), "head_dim=7: should be even"),
    "head is a list": (config(head_dim=[8]), r"head_dim=\[8\]: should be a whole number"),
    "eps is a word": (config(rms_norm_eps="small"), "rms_norm_eps='small': should be a number above 0"),
    "eps is negative": (config(rms_norm_eps=-1e-6), "rms_norm_eps=-1e-06: should be a number above 0"),
    "eps is infinite": (
        text("config.json", json.dumps(CONFIG)[:-1] + ', "rms_norm_eps": Infinity}'),
        "rms_norm_eps=inf",
    ),
    "tied is a word": (config(tie_word_embeddings="false"), "tie_word_embeddings='false': should be true or false"),
    "theta is a word": (config(rope_theta="10000"), "rope_theta='10000': should be a number above 0"),
    "theta is null": (config(rope_theta=None), "rope_theta is missing"),
    "scaling is a word": (config(rope_scaling="yarn"), "rope_scaling='yarn': should be an object"),
    "yarn": (config(rope_scaling={"rope_type": "yarn", "factor": 4.0}), "rope_type='yarn' is not supported"),
    "llama3 without factor": (config(rope_scaling={"rope_type": "llama3"}), "rope_type='llama3' lacks factor"),
    "llama3, a word": (config(rope_scaling=LLAMA3 | {"factor": "8"}), "rope_scaling.factor='8': should be a number"),
    "llama3 upside down": (
        config(rope_scaling=LLAMA3 | {"high_freq_factor": 0.5}),
        "high_freq_factor=0.5: should be above",
    ),
    "thetas": (
        config(rope_scaling=LLAMA3, rope_parameters={"rope_theta": 5e5}),
        "rope_parameters.rope_theta=500000 beside rope_scaling",
    ),
    "context is a word": (config(max_position_embeddings="4k"), "max_position_embeddings='4k'"),
    "layer kinds": (config(layer_types=["full_attention"]), "layer_types=.*should be a list of num_hidden_layers=2"),
    "windows": (config(layer_types=["full_attention", "sliding_attention"]), "sliding_attention is used by 1 of 2"),
    "quantised": (config(quantization_config={"bits": 4}), "quantization_config=.*is not supported"),
    "other activation": (config(hidden_act="gelu"), "hidden_act='gelu' is not supported"),
    # the weights
    "no weights": (gone(SINGLE), r"has no \*\.safetensors"),
    "weights are cut": (cut(SINGLE, 0.7), r"model\.safetensors: has .* cut off or damaged"),
    "weights are cut in the header": (cut(SINGLE, 0.01), r"model\.safetensors: is cut off"),
    "weights are empty": (text(SINGLE, b""), r"model\.safetensors: is cut off or not a safetensors file: 0 bytes"),
    "weights are a web page": (text(SINGLE, "<html>not found</html>" * 9), r"model\.safetensors: is cut off or not"),
    "weights are a pointer": (
        text(SINGLE, "version https://git-lfs.github.com/spec/v1\n"),
        r"model\.safetensors: is cut",
    ),
    "a tensor is missing": (tensors(lambda t: t.pop(NORM)), f"{NORM} is missing"),
    "a tensor too many": (tensors(lambda t: t.update(x=np.zeros(1, np.float32))), "x is not a tensor of this model"),
    "a shape": (
        tensors(lambda t: t.update({NORM: np.ones(8, np.float32)})),
        r"has shape \[8\], config\.json asks for \[16\]",
    ),
    "another vocabulary": (config(vocab_size=300), r"has shape \[260, 16\], config\.json asks for \[300, 16\]"),
    "another depth": (config(num_hidden_layers=1), r"model\.layers\.1\.\S+ is not a tensor of this model"),
    "tied apart": (tensors(lambda t: t.update({"lm_head.weight": t[EMBED] + 1})), "lm_head.weight differs from"),
    "tied, another shape": (
        tensors(lambda t: t.update({"lm_head.weight": t[NORM]})),
        r"lm_head\.weight has shape \[16\]",
    ),
    "integers": (
        tensors(lambda t: t.update({NORM: np.ones(16, np.int32)})),
        "type I32: it should be one of F32, F16, BF16",
    ),
    "header is a list": (text(SINGLE, (2).to_bytes(8, "little") + b"[]"), r"model\.safetensors: the header is damaged"),
    "header, shape of words": (header(lambda h: h[NORM].update(shape=["16"])), f"{NORM} has offsets"),
    "header, negative shape": (header(lambda h: h[NORM].update(shape=[-4, -4])), f"{NORM} has offsets"),
    "header, no offsets": (header(lambda h: h[NORM].pop("data_offsets")), "the header is damaged: KeyError"),
    "index is no JSON": (index("{"), r"index\.json is not JSON"),
    "index is a list": (index([]), r"index\.json holds \[\]"),
    "index without a map": (index({"metadata": {}}), "weight_map=None: should be an object of tensors"),
    "index with numbers": (index({"weight_map": {NORM: 1}}), f"weight_map.{NORM}=1: should be a"),
    "index leads out": (
        index({"weight_map": {NORM: "../x.safetensors"}}),
        r"should be a \*\.safetensors of this folder",
    ),
    "index names absent shards": (index({"weight_map": {NORM: "two.safetensors"}}), "lacks 1 of 1 weight files"),
    "index knows one tensor": (
        index({"weight_map": {NORM: "one.safetensors"}}),
        "does not name .* which is in the files",
    ),
    # the tokenizer
    "no tokenizer": (gone("tokenizer.json"), "has no tokenizer"),
    "tokenizer is cut": (cut("tokenizer.json", 0.5), r"tokenizer\.json is not JSON"),
    "tokenizer is a list": (text("tokenizer.json", "[]"), r"tokenizer\.json holds \[\]: should be an object"),
    "tokenizer without a model": (
        tokenizer(lambda t: t.pop("model")),
        r"tokenizer\.json: is damaged at KeyError 'model'",
    ),
    "tokenizer, an unknown model": (tokenizer(lambda t: t["model"].update(type="X")), "the tokenizer cannot be read"),
    "tokenizer, ids of words": (
        tokenizer(lambda t: t["model"].update(vocab={"a": "0"})),
        r"tokenizer\.json: is damaged",
    ),
    "tokenizer, ids too large": (tokenizer(lambda t: t["added_tokens"][0].update(id=300)), "has a token with id 300"),
    "tokenizer config is cut": (cut("tokenizer_config.json", 0.5), r"tokenizer_config\.json is not JSON"),
    "tokenizer config is a list": (text("tokenizer_config.json", "[1]"), r"tokenizer_config\.json holds \[1\]"),
    "chat template": (
        lambda folder: change(folder / "tokenizer_config.json", chat_template="{% for"),
        "has a chat template that cannot be rendered: TemplateSyntaxError",
    ),
    "special tokens": (text("special_tokens_map.json", "nonsense"), r"special_tokens_map\.json is not JSON"),
    # what ends a text
    "generation config is cut": (text("generation_config.json", '{"eos'), r"generation_config\.json is not JSON"),
    "generation config is a list": (text("generation_config.json", "[2]"), r"generation_config\.json holds \[2\]"),
    "generation config is a string": (text("generation_config.json", '"eos"'), r"generation_config\.json holds 'eos'"),
    "end is a word": (
        endings("<|end|>"),
        r"generation_config\.json: eos_token_id='<\|end\|>': should be a token's number",
    ),
    "ends are lists": (endings([[1]]), r"eos_token_id=\[\[1\]\]: should be"),
    "end is negative": (endings(-1), "eos_token_id=-1: should be"),
    "end is beyond the vocabulary": (
        endings([256, 260]),
        "eos_token_id=260: should be below config.json's vocab_size=260",
    ),
    "never to be sampled": (
        lambda folder: change(folder / "generation_config.json", suppress_tokens=7),
        r"generation_config\.json: suppress_tokens=7: should be a list of token ids",
    ),
    "nine ends": (endings(list(range(9))), "name 10 tokens that end a text: should be at most 8"),
}
