"""A small whole model folder, and the many ways in which people's folders turn out to be damaged.

Each row of `DAMAGE` does one thing to a whole folder and says what the refusal has to name.
"""

import json
import os
import shutil
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


def in_place_of(name: str, make: Callable[[Path], object]) -> Damage:
    """Something stands there that is no file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def marked(name: str) -> Damage:
    """As some editors save it."""
    return lambda folder: (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes()) and None


def as_written(field: str, *values: str) -> Damage:
    """One name in config.json with values that json.dumps does not write, or with several."""

    def damage(folder: Path) -> None:
        without("config.json", field)(folder)
        more = "".join(f', "{field}": {value}' for value in values)
        (folder / "config.json").write_text((folder / "config.json").read_text()[:-1] + more + "}")

    return damage


def tensors(edit: Callable[[dict[str, np.ndarray]], object]) -> Damage:
    def damage(folder: Path) -> None:
        arrays = load_file(folder / SINGLE)
        edit(arrays)
        save_file(arrays, folder / SINGLE, metadata={"format": "pt"})

    return damage


def head(text: bytes) -> Damage:
    """Another header before the numbers."""

    def damage(folder: Path) -> None:
        content = (folder / SINGLE).read_bytes()
        length = int.from_bytes(content[:8], "little")
        (folder / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return damage


def lie(length: int) -> Damage:
    """The header is said to be so long."""
    return lambda folder: (
        (folder / SINGLE).write_bytes(length.to_bytes(8, "little") + (folder / SINGLE).read_bytes()[8:]) and None
    )


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
    # what stands there is no file, or not of this machine
    "config is a folder": (in_place_of("config.json", Path.mkdir), r"has no config\.json"),
    "config leads to itself": (in_place_of("config.json", to_itself), r"has no config\.json"),
    "generation config leads nowhere": (
        in_place_of("generation_config.json", to_nothing),
        r"generation_config\.json cannot be read: No such file",
    ),
    "generation config is a pipe": (
        in_place_of("generation_config.json", os.mkfifo),
        r"generation_config\.json cannot be read: it is a folder or a device",
    ),
    "tokenizer config leads to itself": (
        in_place_of("tokenizer_config.json", to_itself),
        r"tokenizer_config\.json cannot be read: Too many levels",
    ),
    "tokenizer config is a folder": (
        in_place_of("tokenizer_config.json", Path.mkdir),
        r"tokenizer_config\.json cannot be read: it is a folder",
    ),
    "tokenizer is a folder": (in_place_of("tokenizer.json", Path.mkdir), "has no tokenizer"),
    "template leads nowhere": (in_place_of("chat_template.jinja", to_nothing), r"chat_template\.jinja cannot be read"),
    "template is Latin-1": (
        text("chat_template.jinja", "é".encode("latin-1")),
        r"chat_template\.jinja is not UTF-8 text",
    ),
    "weights are a folder": (in_place_of(SINGLE, Path.mkdir), r"model\.safetensors cannot be read: it is a folder"),
    "weights are a pipe": (in_place_of(SINGLE, os.mkfifo), r"model\.safetensors cannot be read"),
    "weights lead to themselves": (in_place_of(SINGLE, to_itself), r"has no \*\.safetensors"),
    "weights lead nowhere": (in_place_of(SINGLE, to_nothing), r"has no \*\.safetensors"),
    "weights of another name": (lambda folder: (folder / SINGLE).rename(folder / "w.bin"), r"has no \*\.safetensors"),
    "the folder is empty": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), r"has no config\.json"),
    "the folder is a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "is no folder"),
    "the folder leads to itself": (lambda folder: (shutil.rmtree(folder), to_itself(folder)), "is no folder"),
    "the folder is gone": (shutil.rmtree, "there is none"),
    # texts
    "config has a mark": (marked("config.json"), r"config\.json is not JSON: Unexpected UTF-8 BOM"),
    "tokenizer has a mark": (marked("tokenizer.json"), r"tokenizer\.json is not JSON: Unexpected UTF-8 BOM"),
    "config is UTF-16": (text("config.json", json.dumps(CONFIG).encode("utf-16")), r"config\.json is not UTF-8 text"),
    "generation config is zeros": (text("generation_config.json", b"\0" * 64), r"generation_config\.json is not JSON"),
    "two vocabularies": (
        as_written("vocab_size", "260", "300"),
        r"config\.json: 'vocab_size' is given twice, as 260 and 300",
    ),
    "a number of 5,000 digits": (as_written("vocab_size", "9" * 5_000), r"config\.json is not JSON: Exceeds the limit"),
    "width is no number": (as_written("hidden_size", "NaN"), "hidden_size=nan: should be a whole number"),
    "theta is infinite": (as_written("rope_theta", "1e400"), "rope_theta=inf: should be a number"),
    "family has two lines": (config(model_type="lla\nma"), r"model_type='lla\\nma' is not supported"),
    # more fields
    "begin is a word": (config(bos_token_id="<s>"), r"config\.json: bos_token_id='<s>': should be a token's number"),
    "padding is a list": (config(pad_token_id=[1]), r"config\.json: pad_token_id=\[1\]: should be a token's number"),
    "type is a word": (config(torch_dtype="half"), r"config\.json: torch_dtype='half' is not supported"),
    "type is a number": (config(dtype=16), r"config\.json: dtype=16 is not supported"),
    "bias is a word": (config(attention_bias="no"), r"attention_bias='no' is not supported"),
    "context is a fraction": (
        config(max_position_embeddings=1e3),
        r"max_position_embeddings=1000\.0: should be a whole",
    ),
    "vocabulary is empty": (config(vocab_size=0), "vocab_size=0: should be a whole number"),
    "groups are zero": (config(num_key_value_heads=0), "num_key_value_heads=0: should be a whole number"),
    "rope is a list": (config(rope_parameters=[1]), r"rope_parameters=\[1\]: should be an object"),
    "rope of lists": (config(rope_scaling={"rope_type": ["yarn"]}), r"rope_type=\['yarn'\] is not supported"),
    "original is a fraction": (
        config(rope_scaling=LLAMA3 | {"original_max_position_embeddings": 0.5}),
        r"original_max_position_embeddings=0\.5: should be a whole",
    ),
    # more of the weights
    "header longer than all": (lie(2**63), "is cut off or not a safetensors file"),
    "header of nothing": (lie(0), "the header is damaged"),
    "header is no text": (head(b"\xff\xfe{}"), "the header is damaged"),
    "header is nested deeply": (head(b'{"a":' * 100_000), "the header is damaged"),
    "header names nothing": (head(b"{}"), "its header asks for 10"),
    "header, two at one place": (
        header(lambda h: h["model.layers.0.mlp.up_proj.weight"].update(h["model.layers.0.mlp.gate_proj.weight"])),
        "begins at byte .* of the numbers, where it should be",
    ),
    "header, one name twice": (
        head(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {}}'),
        "'a' is given twice",
    ),
    "header, notes are a list": (header(lambda h: h.update(__metadata__=[1])), r"__metadata__ is \[1\]"),
    "header, huge": (header(lambda h: h[NORM].update(shape=[10**30])), f"{NORM} of shape"),
    "header, backwards": (header(lambda h: h[NORM]["data_offsets"].reverse()), f"{NORM} of shape .* has -64 bytes"),
    "header, three offsets": (header(lambda h: h[NORM].update(data_offsets=[0, 1, 2])), "the header is damaged"),
    "header, no type": (header(lambda h: h[NORM].update(dtype=None)), "has type None: it should be one of"),
    "eight bits": (header(lambda h: h[NORM].update(dtype="F8_E4M3")), "has type F8_E4M3: it should be one of"),
    "doubles": (tensors(lambda t: t.update({NORM: np.ones(16)})), "has type F64: it should be one of"),
    "a name of two lines": (tensors(lambda t: t.update({"a\nb": t[NORM]})), "a b is not a tensor of this model"),
    "more behind the end": (
        lambda folder: (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes() + b"more") and None,
        "cut off or damaged",
    ),
    "index of long names": (index({"weight_map": {NORM: "a" * 300 + ".safetensors"}}), "File name too long"),
    "index is a number": (index("7"), r"index\.json holds 7"),
    # more of the tokenizer
    "added tokens of words": (
        text("added_tokens.json", '{"<x>": "260"}'),
        r"added_tokens\.json: '<x>'='260': should be a token's number",
    ),
    "template is a number": (
        lambda folder: change(folder / "tokenizer_config.json", chat_template=7),
        "chat_template=7: should be a text",
    ),
    "templates without names": (
        lambda folder: change(folder / "tokenizer_config.json", chat_template=[{"template": "x"}]),
        "chat_template=.*should be a text, or a list of",
    ),
    "template that refuses": (
        lambda folder: change(folder / "tokenizer_config.json", chat_template="{{ raise_exception('no\nway') }}"),
        "cannot be rendered: TemplateError: no way",
    ),
    "tokenizer of no class": (
        lambda folder: change(folder / "tokenizer_config.json", tokenizer_class=7),
        "tokenizer_class=7: should be a name",
    ),
    "length of the tokenizer": (
        lambda folder: change(folder / "tokenizer_config.json", model_max_length="4k"),
        "model_max_length='4k': should be a number",
    ),
    "spaces by a word": (
        lambda folder: change(folder / "tokenizer_config.json", clean_up_tokenization_spaces="yes"),
        "clean_up_tokenization_spaces='yes': should be true or false",
    ),
    # more of how to generate
    "temperature is a word": (
        lambda folder: change(folder / "generation_config.json", temperature="hot"),
        "temperature='hot': should be a number",
    ),
    "sampling by a word": (
        lambda folder: change(folder / "generation_config.json", do_sample="yes"),
        "do_sample='yes': should be true or false",
    ),
    "never, beyond the vocabulary": (
        lambda folder: change(folder / "generation_config.json", suppress_tokens=[999]),
        "suppress_tokens=.*below config.json's vocab_size=260",
    ),
}
