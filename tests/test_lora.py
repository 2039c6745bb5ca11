"""LoRA, the last exercise: equal to the base model at first, only A and B move, and merged it is a GPT-2 again."""

import pytest
import torch
import torch.nn as nn

from data.settings import Training
from model.gpt2 import GPT2, GPT2Config
from model.pretrained import load_pretrained, save_pretrained
from tests.exercise.lora import LoRALinear, add_lora, merge
from train.adamw import AdamW
from train.loop import finetune

CONFIG = GPT2Config(vocab_size=50, block_size=8, n_layer=2, n_head=2, n_embd=12)
TOKENS = torch.randint(50, (4, 8), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(3)
    return GPT2(CONFIG)


def train(model: GPT2, parameters: list[torch.Tensor]) -> None:
    """Three steps."""
    settings = Training(samples=3, batch_size=4, seq_len=8)
    list(finetune(model, TOKENS.flatten(), AdamW(parameters, lr=0.1), settings))


def test_a_and_b_are_parameters():
    names = {name for name, _ in LoRALinear(nn.Linear(3, 5), rank=2, alpha=6.0).named_parameters()}
    assert {"A", "B"} <= names


def test_a_and_b_have_these_shapes():
    layer = LoRALinear(nn.Linear(3, 5), rank=2, alpha=6.0)
    assert layer.A.shape == (2, 3) and layer.B.shape == (5, 2)


def test_b_is_zero_at_first():
    assert not LoRALinear(nn.Linear(3, 5), rank=2, alpha=6.0).B.any()


def test_the_layer_begins_as_the_linear_layer():
    linear, x = nn.Linear(3, 5), torch.randn(4, 3)
    layer = LoRALinear(linear, rank=2, alpha=6.0)
    nn.init.zeros_(layer.B)
    torch.testing.assert_close(layer(x), linear(x), rtol=0, atol=0)


def added(rank: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer adds to its linear layer, and B A x."""
    linear, x = nn.Linear(3, 5), torch.randn(4, 7, 3)
    layer = LoRALinear(linear, rank, alpha)
    nn.init.normal_(layer.B)
    return layer(x) - linear(x), x @ (layer.B @ layer.A).T


def test_the_layer_adds_b_a_x():
    """With alpha = r = 1 the scale is 1."""
    torch.testing.assert_close(*added(1, 1.0))


def test_the_scale_is_alpha_over_rank():
    found, product = added(2, 6.0)
    torch.testing.assert_close(found, 3 * product)


def test_all_but_a_and_b_is_frozen(model):
    add_lora(model)
    assert not any(p.requires_grad for name, p in model.named_parameters() if not name.endswith((".A", ".B")))


def test_a_and_b_can_be_trained(model):
    parameters = add_lora(model)
    assert parameters and all(p.requires_grad for p in parameters)


def test_merge_puts_the_linear_layers_back(model):
    names = [name for name, _ in model.named_parameters()]
    add_lora(model)
    merge(model)
    assert [name for name, _ in model.named_parameters()] == names


def test_after_merge_all_can_be_trained(model):
    add_lora(model)
    merge(model)
    assert all(p.requires_grad for p in model.parameters())


def test_the_layer_is_its_equation():
    linear = nn.Linear(3, 5)
    layer = LoRALinear(linear, rank=2, alpha=6.0)
    assert layer.A.shape == (2, 3) and layer.B.shape == (5, 2)
    nn.init.normal_(layer.B)
    x = torch.randn(4, 7, 3)
    torch.testing.assert_close(layer(x), x @ (linear.weight + 3 * layer.B @ layer.A).T + linear.bias)


def test_it_begins_as_the_base_model(model):
    before = model(TOKENS)
    add_lora(model)
    torch.testing.assert_close(model(TOKENS), before, rtol=0, atol=0)


def test_a_is_random_with_a_variance_of_one_over_the_inputs():
    """If A were zero too, neither would get a gradient."""
    A = LoRALinear(nn.Linear(1000, 1), rank=100, alpha=1.0).A
    assert abs(A.mean()) < 1e-3 and A.var().item() == pytest.approx(1 / 1000, rel=0.03)


def test_what_is_trained_is_every_a_and_b(model):
    parameters = add_lora(model)
    widths = [(12, 36), (12, 12), (12, 48), (48, 12)]  # inputs and outputs of the four linear layers of a block
    expected = [shape for inputs, outputs in widths for shape in ((8, inputs), (outputs, 8))] * 2
    assert sorted(p.shape for p in parameters) == sorted(expected)


def test_rank_and_alpha_reach_the_layers(model):
    train(model, add_lora(model, rank=2, alpha=6.0))
    found, expected = model.h[0].mlp.c_fc, LoRALinear(nn.Linear(12, 48), rank=2, alpha=6.0)
    expected.load_state_dict(found.state_dict())
    x = torch.randn(5, 12)
    torch.testing.assert_close(found(x), expected(x), rtol=0, atol=0)


def test_only_a_and_b_move(model):
    parameters = add_lora(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, parameters)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != name.endswith((".A", ".B")), name


def test_merged_weights_give_the_same_logits(model):
    names = [name for name, _ in model.named_parameters()]
    train(model, add_lora(model, rank=2, alpha=6.0))
    before = model(TOKENS)
    merge(model)
    torch.testing.assert_close(model(TOKENS), before, rtol=1e-4, atol=1e-4)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == names


def test_a_merged_model_can_be_saved(model, tmp_path):
    train(model, add_lora(model))
    merge(model)
    save_pretrained(model, tmp_path, end_of_text=49)
    torch.testing.assert_close(load_pretrained(tmp_path)(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)
