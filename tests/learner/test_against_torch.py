"""Loss and gradients against an independent implementation, live, where torch and transformers are installed."""

import jax
import numpy as np
import pytest
from flax import nnx

from azr_jax.learner.packing import TrainingSample, pack
from azr_jax.learner.step import LearnerSettings, init_state, make_step
from azr_jax.learner.terms import Objective
from azr_jax.models.spec import ModelSpec
from azr_jax.models.transformer import Transformer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SPEC = ModelSpec("llama", 64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp=64, tied=True, max_positions=256)
TEMPERATURE, ENTROPY = 0.7, 0.05


def torch_model(params):
    """The same weights under Hugging Face's names."""
    config = transformers.LlamaConfig(
        vocab_size=SPEC.vocab,
        hidden_size=SPEC.width,
        num_hidden_layers=SPEC.depth,
        num_attention_heads=SPEC.heads,
        num_key_value_heads=SPEC.kv_heads,
        head_dim=SPEC.head_dim,
        intermediate_size=SPEC.mlp,
        rms_norm_eps=SPEC.norm_eps,
        rope_theta=SPEC.rope_theta,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict({name: torch.tensor(array) for name, array in named(params).items()}, strict=False)
    return model


def named(tree):
    """{Hugging Face's name: array}, heads and their numbers joined."""
    arrays = {}
    for weight in SPEC.weights():
        array = tree
        for part in weight.path:
            array = array[part]
        array = np.asarray(array[...] if hasattr(array, "get_value") else array)
        for layer, one in enumerate(array) if weight.per_layer else [(0, array)]:
            joined = {"q": (-1, SPEC.width), "k": (-1, SPEC.width), "v": (-1, SPEC.width), "o": (SPEC.width, -1)}
            arrays[weight.name.format(layer)] = one.reshape(joined.get(weight.path[-1], one.shape))
    return arrays


def test_loss_and_gradients_are_those_of_torch():
    random = np.random.default_rng(0)
    samples = [
        TrainingSample(random.integers(0, 64, p).tolist(), random.integers(0, 64, c).tolist(), [-4.0] * c, float(a))
        for p, c, a in [(5, 7, 1.3), (3, 2, -0.4), (9, 4, -1.1), (2, 8, 0.6)]
    ]
    graphdef, params = nnx.split(Transformer(SPEC, rngs=nnx.Rngs(0)))
    model = torch_model(params)

    tokens = sum(len(sample.completion) for sample in samples)
    loss = torch.zeros(())
    for sample in samples:
        ids = torch.tensor([[*sample.prompt, *sample.completion]])
        logits = model(ids).logits[0, len(sample.prompt) - 1 : -1] / TEMPERATURE
        log_p = torch.log_softmax(logits, -1)
        chosen = log_p[torch.arange(len(sample.completion)), torch.tensor(sample.completion)]
        entropy = -(log_p.exp() * log_p).sum(-1)
        gain = torch.exp(chosen - chosen.detach()) * sample.advantage + ENTROPY * entropy
        loss = loss - gain.sum() / tokens
    loss.backward()

    settings = LearnerSettings(Objective(entropy=ENTROPY), grad_clip=1e9, temperature=TEMPERATURE)
    state, metrics = make_step(graphdef, settings)(init_state(params, settings), pack(samples, 16))
    assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=1e-6)
    moments = jax.tree.map(lambda m: np.asarray(m) / (1 - settings.optimizer.b1), state.optimizer[0].mu)
    theirs = dict(model.named_parameters())
    for name, gradient in named(moments).items():
        np.testing.assert_allclose(gradient, theirs[name].grad.numpy(), atol=2e-6, err_msg=name)
