"""The model against the NumPy reference, on weights that are all far from their initial values."""

import numpy as np
import pytest
import torch
from conftest import BLOCK, HEADS, LAYERS, VOCAB, WIDTH
from reference import cross_entropy, logits

from model.gpt2 import GPT2, GPT2Config, attention
from model.pretrained import TRANSPOSED
from model.speed.attention import fused_attention
from train.loop import next_token_loss
from train.speed.chunked_loss import chunked_next_token_loss

CONFIG = GPT2Config(VOCAB, BLOCK, LAYERS, HEADS, WIDTH)


def with_weights(config, official_weights) -> GPT2:
    """The model in float64 with the reference's weights, put in by hand: the loader has its own tests."""
    model = GPT2(config).double().eval()
    assert {name for name, _ in model.named_parameters()} == set(official_weights)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            w = torch.tensor(official_weights[name])
            parameter.copy_(w.T if name.endswith(TRANSPOSED) else w)
    return model


@pytest.fixture
def model(official_weights):
    return with_weights(CONFIG, official_weights)


@pytest.fixture
def tokens():
    return torch.tensor(np.random.default_rng(2).integers(VOCAB, size=(3, BLOCK + 1)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (2, 3, 7, 4), (1, 4, 5, 16), (3, 2, 33, 8)])
def test_attention_written_out_equals_pytorchs(shape):
    """Values and gradients, for (B, H, T, D)."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, weights = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(4))
    results = []
    for attend in (attention, fused_attention):
        inputs = [z.clone().requires_grad_() for z in (q, k, v)]
        y = attend(*inputs)
        results.append([y, *torch.autograd.grad((weights * y).sum(), inputs)])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_model_with_fused_attention_computes_the_same(model, tokens):
    tokens = tokens[:, :-1]
    assert model.attend is attention
    with torch.no_grad():
        written_out, model.attend = model(tokens), fused_attention
        torch.testing.assert_close(written_out, model(tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 7, BLOCK])
def test_logits_equal_the_reference(model, tokens, official_weights, length):
    tokens = tokens[:, :length]
    expected = logits(official_weights, tokens.numpy(), LAYERS, HEADS)
    with torch.no_grad():
        found = model(tokens)
    assert found.shape == (3, length, VOCAB)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


def test_the_norms_epsilon_comes_from_the_config(official_weights, tokens):
    model = with_weights(GPT2Config(VOCAB, BLOCK, LAYERS, HEADS, WIDTH, layer_norm_epsilon=0.3), official_weights)
    with torch.no_grad():
        found = model(tokens[:1, :5]).numpy()
    expected = logits(official_weights, tokens[:1, :5].numpy(), LAYERS, HEADS, eps=0.3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss_of", [next_token_loss, chunked_next_token_loss])
def test_loss_and_gradient_of_every_parameter(model, tokens, official_weights, loss_of, monkeypatch):
    """The gradient along a random direction is the reference's difference quotient in that direction."""
    monkeypatch.setattr("train.speed.chunked_loss.CHUNK_ROWS", 7)  # 18 rows: whole chunks and a rest
    inputs, targets = tokens[:, :6], tokens[:, 1:7]
    loss = loss_of(model, inputs, targets)
    expected = cross_entropy(official_weights, inputs.numpy(), targets.numpy(), LAYERS, HEADS)
    assert loss.item() == pytest.approx(expected, abs=1e-10)
    (3 * loss).backward()  # 3: a gradient that comes in from further on must be passed through
    rng = np.random.default_rng(3)
    step = 1e-5
    for name, parameter in model.named_parameters():
        direction = rng.normal(size=official_weights[name].shape)
        sides = []
        for sign in (1, -1):
            moved = official_weights | {name: official_weights[name] + sign * step * direction}
            sides.append(cross_entropy(moved, inputs.numpy(), targets.numpy(), LAYERS, HEADS))
        quotient = 3 * (sides[0] - sides[1]) / (2 * step)
        ours = parameter.grad.T if name.endswith(TRANSPOSED) else parameter.grad
        slope = (ours.numpy() * direction).sum()
        assert slope == pytest.approx(quotient, rel=1e-6, abs=1e-8), name


def test_chunked_loss_in_bfloat16_sums_in_float32():
    """As long as sums are made in float32, a loss over 6,144 rows is as exact as its rows are."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=500, block_size=64, n_layer=1, n_head=2, n_embd=16))
    tokens = torch.randint(500, (32, 65))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    exact = next_token_loss(model, inputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_next_token_loss(model, inputs, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)


def test_nothing_depends_on_the_future(model, tokens):
    changed = tokens[:, :-1].clone()
    changed[:, 10] = (changed[:, 10] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(tokens[:, :-1]), model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] - after[:, 10:]).abs().amax(-1).min() > 1e-6  # and everything later does change


def test_longer_than_the_context_is_refused(model, tokens):
    assert tokens.shape[1] == BLOCK + 1
    with pytest.raises(ValueError, match=f"{BLOCK + 1} tokens .* context of {BLOCK}"):
        model(tokens)


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((12, 12, 768), 124_439_808),
        ((24, 16, 1024), 354_823_168),
        ((36, 20, 1280), 774_030_080),
        ((48, 25, 1600), 1_557_611_200),
    ],
)
def test_the_four_sizes(sizes, parameters):
    n_layer, n_head, n_embd = sizes
    with torch.device("meta"):
        model = GPT2(GPT2Config(n_layer=n_layer, n_head=n_head, n_embd=n_embd))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_initial_weights():
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=500, block_size=200, n_layer=8, n_head=4, n_embd=128))
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight"):
            expected = 0.02 / np.sqrt(2 * 8)
        elif name == "wpe.weight":
            expected = 0.01
        elif parameter.dim() == 2:
            expected = 0.02
        else:
            assert torch.equal(
                parameter, torch.full_like(parameter, float("ln" in name and name.endswith("weight")))
            ), name
            continue
        assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
        assert abs(parameter.mean().item()) < expected / 10, name


def test_dropout_only_in_training():
    torch.manual_seed(0)
    model = GPT2(GPT2Config(VOCAB, BLOCK, LAYERS, HEADS, WIDTH, dropout=0.5))
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert not torch.equal(model.train()(tokens), model(tokens))
        assert torch.equal(model.eval()(tokens), model(tokens))
        plain = GPT2(CONFIG)
        plain.load_state_dict(model.state_dict())
        assert torch.equal(plain.train()(tokens), model(tokens))


@pytest.mark.parametrize("module", ["drop", "h.0.attn.resid_dropout", "h.0.mlp.dropout"])
def test_each_dropout_is_used(module):
    torch.manual_seed(0)
    model = GPT2(GPT2Config(VOCAB, BLOCK, 1, HEADS, WIDTH, dropout=0.5)).eval()
    before = model(torch.arange(8)[None])
    model.get_submodule(module).train()
    assert not torch.equal(before, model(torch.arange(8)[None]))


def test_attention_weights_are_dropped_too():
    torch.manual_seed(0)
    model = GPT2(GPT2Config(VOCAB, BLOCK, 1, HEADS, WIDTH, dropout=0.5)).eval()
    attention = model.h[0].attn
    x = torch.randn(1, 8, WIDTH)
    before = attention(x)
    attention.training = True  # resid_dropout stays in eval mode
    assert not torch.equal(before, attention(x))
