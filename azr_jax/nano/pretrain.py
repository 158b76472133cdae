"""Makes the base model: text about generated programs, one pass of next-token training, a Hugging Face folder.

    python -m azr_jax.nano.pretrain --out=azr_jax/nano/base --workdir=<scratch>

The learner's own packing and step do the work: with advantage 1 on every token, no entropy bonus and one step per
batch, the gradient of the policy loss is that of the next-token loss. The first steps read whole texts, prompts too:
programs are most of the text, and what they teach (names, copying, layout) is what answers are made with. Then only
completions are trained on, each with the same weight: an answer is a few tokens, a program many.

It leaves room on purpose. The last steps read text like that which is found rather than made: a part of its answers is
wrong. The base knows more than it says then, and which of its guesses are right is what self-play has to find.

A run that was stopped goes on from its last checkpoint under `--workdir`. Which batch comes at which step follows from
the seed and the step alone.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from flax import nnx
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.learner.checkpoint import Checkpointer
from azr_jax.learner.optimizer import OptimizerSettings
from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, make_step
from azr_jax.learner.terms import Objective
from azr_jax.models.hf import their_tensors
from azr_jax.models.spec import ModelSpec, spec_from_config
from azr_jax.models.transformer import Transformer
from azr_jax.nano import tokenizer as tokens
from azr_jax.nano.texts import Text, draw
from azr_jax.nano.world import LEVEL_SHARE, Known, execute, held_out, write
from azr_jax.tasks.types import Kind, Role

FLAGS = flags.FLAGS
RECIPE = "recipe.json"  # in the folder: what the base was made from
INPUTS = 10  # drawn for a program; FEWEST of them must work
FEWEST = 6
TOKENIZER_STEPS = 100  # whose texts its words are counted in
SAVE_EVERY = 100  # steps
# How often each text is drawn. Answers are short, and understanding programs is what they teach.
TEXT_SHARE = {
    (Role.PROPOSE, Kind.DEDUCTION): 1,
    (Role.PROPOSE, Kind.ABDUCTION): 1,
    (Role.PROPOSE, Kind.INDUCTION): 1,
    (Role.SOLVE, Kind.DEDUCTION): 10,
    (Role.SOLVE, Kind.ABDUCTION): 4,
    (Role.SOLVE, Kind.INDUCTION): 3,
}


@dataclass(frozen=True)
class Recipe:
    """What the base follows from, besides the code."""

    seed: int = 0
    programs: int = 40_000
    steps: int = 24_000  # that the learning rate falls over
    stop: int = 24_500  # those after `steps` read mistaken texts, at a rate of their own
    mistaken: float = 0.14  # of those texts: the answer, or the proposed input, is that of another program
    mistaken_lr: float = 1e-4
    reading: int = 500  # the first of them, that learn prompts as well
    texts: int = 32  # of a step
    row_tokens: int = 192
    rows: int = 3  # of a microbatch
    lr: float = 2e-3
    warmup: int = 50
    width: int = 160
    depth: int = 4
    heads: int = 5
    mlp: int = 448


def corpus(seed: int, programs: int, executor: Executor) -> list[Known]:
    """Programs to learn from; none is a held-out one."""
    rng = random.Random(f"{seed}/pretrain")
    levels = rng.choices(list(LEVEL_SHARE), list(LEVEL_SHARE.values()), k=programs)
    written = [write(rng, level, INPUTS) for level in levels]
    return list(execute(executor, [little for little in written if not held_out(little.program)], FEWEST))


def batch_texts(recipe: Recipe, known: Sequence[Known], step: int) -> list[Text]:
    rng = random.Random(f"{recipe.seed}/{step}")
    chosen = rng.choices(list(TEXT_SHARE), list(TEXT_SHARE.values()), k=recipe.texts)
    mistaken = recipe.mistaken if step >= recipe.steps else 0.0
    return [draw(rng, known, role, kind, mistaken) for role, kind in chosen]


def sample_of(tokenizer: Tokenizer, text: Text, *, reading: bool = False) -> TrainingSample:
    """Prompt and completion are encoded apart, as they will be when the completion is sampled."""
    prompt = tokenizer.encode(text.prompt).ids
    completion = [*tokenizer.encode(text.completion).ids, tokenizer.token_to_id(tokens.END)]
    if reading:
        prompt, completion = prompt[:1], prompt[1:] + completion
    return TrainingSample(prompt, completion, [0.0] * len(completion), 1.0)


def config_of(recipe: Recipe, tokenizer: Tokenizer) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": recipe.width,
        "intermediate_size": recipe.mlp,
        "num_hidden_layers": recipe.depth,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.heads,
        "head_dim": recipe.width // recipe.heads,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "eos_token_id": tokenizer.token_to_id(tokens.END),
        "pad_token_id": tokenizer.token_to_id(tokens.PAD),
        "torch_dtype": "bfloat16",
    }


def settings_of(recipe: Recipe, *, mistaken: bool = False) -> LearnerSettings:
    optimizer = OptimizerSettings(
        lr=recipe.lr, schedule="cosine", warmup=recipe.warmup, steps=recipe.steps, b2=0.98, weight_decay=0.01
    )
    if mistaken:
        optimizer = replace(optimizer, lr=recipe.mistaken_lr, schedule="constant", warmup=0, steps=0)
    return LearnerSettings(objective=Objective(entropy=0.0), optimizer=optimizer, loss="sequence_mean", dtype="float32")


def train(recipe: Recipe, spec: ModelSpec, known: Sequence[Known], tokenizer: Tokenizer, workdir: Path) -> Transformer:
    """The trained model; goes on from the newest checkpoint of `workdir`."""
    graphdef, params = nnx.split(Transformer(spec, rngs=nnx.Rngs(recipe.seed)))
    state = init_state(params, settings_of(recipe))
    checkpointer = Checkpointer(workdir, keep=1, keep_every=0)
    begun = 0
    if checkpointer.iterations():
        restored = checkpointer.restore(state)
        state, begun = restored.state, restored.iteration
    step, mistaken_step = (make_step(graphdef, settings_of(recipe, mistaken=last)) for last in (False, True))
    started = time.perf_counter()
    for number in range(begun, recipe.stop):
        reading = number < recipe.reading
        samples = [sample_of(tokenizer, text, reading=reading) for text in batch_texts(recipe, known, number)]
        samples = [s if s.inputs <= recipe.row_tokens else TrainingSample(s.prompt, (), (), 0.0) for s in samples]
        batch = pack(samples, recipe.row_tokens, rows=recipe.rows)
        state, metrics = (step if number < recipe.steps else mistaken_step)(state, batch)
        done = number + 1
        if done % 20 == 0:
            pace = (time.perf_counter() - started) / (done - begun)
            print(f"step {done}/{recipe.stop}  logprob {float(metrics['logprob']):.3f}  {pace:.2f} s/step", flush=True)
        if done % SAVE_EVERY == 0 or done == recipe.stop:
            checkpointer.save(done, state, {})
    checkpointer.close()
    return nnx.merge(graphdef, state.params)


def write_folder(model: Transformer, config: dict, tokenizer: Tokenizer, out: Path) -> None:
    """An ordinary Hugging Face folder; weights in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(tensor.astype(jnp.bfloat16)) for name, tensor in their_tensors(model)}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    ends = {name: config[name] for name in ("eos_token_id", "pad_token_id")}
    (out / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n")
    tokens.save(tokenizer, out)


def make(recipe: Recipe, out: Path, workdir: Path, workers: int) -> None:
    """From the recipe to the folder, with what it took beside it."""
    started = time.perf_counter()
    with Executor(ExecutorSettings(workers=workers)) as executor:
        known = corpus(recipe.seed, recipe.programs, executor)
    print(f"{len(known)} programs in {time.perf_counter() - started:.0f} s", flush=True)
    tokenizer = tokens.build(text for step in range(TOKENIZER_STEPS) for text in batch_texts(recipe, known, step))
    config = config_of(recipe, tokenizer)
    model = train(recipe, spec_from_config(config), known, tokenizer, workdir)
    write_folder(model, config, tokenizer, out)
    (out / RECIPE).write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    print(f"{out}: {sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))} parameters")
    print(f"{time.perf_counter() - started:.0f} s, {time.process_time():.0f} s of processor time")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"arguments are flags, found {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells every file it touches
    make(Recipe(seed=FLAGS.seed, stop=FLAGS.stop), Path(FLAGS.out), Path(FLAGS.workdir), FLAGS.workers)


if __name__ == "__main__":
    flags.DEFINE_string("out", "azr_jax/nano/base", "folder the model is written to")
    flags.DEFINE_string("workdir", None, "scratch folder for checkpoints; a stopped run goes on from it", required=True)
    flags.DEFINE_integer("seed", Recipe.seed, "everything follows from it")
    flags.DEFINE_integer("stop", Recipe.stop, "optimizer steps")
    flags.DEFINE_integer("workers", 1, "programs run side by side while the text is generated")
    app.run(main)
