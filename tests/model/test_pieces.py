"""GPT-2 piece by piece, one idea a test: whoever writes a piece anew learns which of its ideas is not there yet."""

import numpy as np
import pytest
import torch
from reference import gelu_tanh

from model.gpt2 import GPT2, MLP, Block, CausalSelfAttention, GPT2Config, attention

CONFIG = GPT2Config(vocab_size=11, block_size=9, n_layer=1, n_head=2, n_embd=8)


def perturbed(module: torch.nn.Module) -> torch.nn.Module:
    """`module` in float64 with weights far from their initial values, which agree with too much."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in module.double().parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return module.eval()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def silence(*layers: torch.nn.Linear) -> None:
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


# Embedding and head


def test_a_token_and_its_place_are_added():
    model = perturbed(GPT2(CONFIG))
    x = model.embed(torch.tensor([[3, 3, 10], [0, 1, 2]]))
    same(x[0], model.wte.weight[[3, 3, 10]] + model.wpe.weight[:3])
    same(x[1], model.wte.weight[:3] + model.wpe.weight[:3])


def test_places_go_on_where_the_tokens_before_ended():
    model = perturbed(GPT2(CONFIG))
    same(model.embed(torch.tensor([[5, 6]]), start=5)[0], model.wte.weight[5:7] + model.wpe.weight[5:7])


def test_the_last_position_of_the_context_is_used():
    model = perturbed(GPT2(CONFIG))
    try:
        found = model.embed(torch.tensor([[5, 6]]), start=7)[0]
    except ValueError:
        pytest.fail("9 tokens fill the context of 9")
    same(found, model.wte.weight[5:7] + model.wpe.weight[7:9])


@pytest.mark.parametrize(("length", "start"), [(10, 0), (2, 8)])
def test_more_tokens_than_the_context_has_are_refused(length, start):
    with pytest.raises((ValueError, IndexError)) as error:
        perturbed(GPT2(CONFIG)).embed(torch.zeros(1, length, dtype=torch.long), start)
    assert error.type is ValueError and "10 tokens" in str(error.value)


def test_the_dropout_is_on_the_sum():
    """Every number of the sum is kept and doubled, or it is 0."""
    torch.manual_seed(0)
    model, tokens = perturbed(GPT2(GPT2Config(**(vars(CONFIG) | {"dropout": 0.5})))), torch.arange(9)[None]
    expected = 2 * model.embed(tokens)
    model.drop.train()
    found = model.embed(tokens)
    same(found, expected * (found != 0))


def test_a_logit_is_the_product_with_the_tokens_vector():
    model, x = perturbed(GPT2(CONFIG)), random(2, 3, 8)
    same(model.unembed(x), torch.stack([(x * vector).sum(-1) for vector in model.wte.weight], dim=-1))


def test_the_heads_gradient_reaches_the_embedding():
    model, x = perturbed(GPT2(CONFIG)), random(2, 3, 8).requires_grad_()
    model.unembed(x)[0, 0, 4].backward()
    assert model.wte.weight.grad is not None
    same(model.wte.weight.grad[4], x[0, 0])


# Attention


Q, K = random(2, 3, 4, 6, seed=1), random(2, 3, 4, 6, seed=2)  # B, H, T and D are four different numbers


def weights_of(q: torch.Tensor = Q, k: torch.Tensor = K) -> torch.Tensor:
    """The weights (B, H, T, T) of `attention`: they come out where the values are the rows of an identity matrix."""
    return attention(q, k, torch.eye(4, 6).double().expand_as(q))[..., :4]


# The last row sees all keys, so it tells of the scores and of the softmax whatever the mask does.


def test_attention_without_dropout_is_the_same_each_time():
    torch.testing.assert_close(weights_of(), weights_of(), rtol=0, atol=0, equal_nan=True)


def test_attention_has_no_nan_where_nothing_is_masked():
    assert not weights_of()[:, :, -1].isnan().any()


def test_attention_has_a_softmax_over_the_keys():
    same(weights_of()[:, :, -1].sum(-1), torch.ones(2, 3).double())


def test_attention_has_no_nan_in_the_first_row():
    assert not weights_of()[:, :, 0].isnan().any()


def test_attention_weights_sum_to_one():
    same(weights_of()[:, :, 1:].sum(-1), torch.ones(2, 3, 3).double())


def test_attention_hides_what_comes_later():
    """Queries, keys and values of later tokens are others, and the results of the earlier ones stay."""
    q, k, v = (random(1, 2, 6, 4, seed=seed) for seed in range(3))
    before = attention(q, k, v)
    q[:, :, 4:], k[:, :, 4:], v[:, :, 4:] = 3.0, 9.0, -9.0
    same(attention(q, k, v)[:, :, 1:4], before[:, :, 1:4])


def test_attention_sees_the_token_itself_and_all_before():
    weights = weights_of()
    for t in range(4):
        assert (weights[:, :, t, : t + 1] > 0).all(), t


def test_attention_asks_with_queries_and_answers_with_keys():
    """Logarithms of the weights of row t differ as its products with the keys do, up to one factor."""
    log_weights, products = weights_of()[:, :, -1].log(), (Q[:, :, -1:] * K).sum(-1)  # (B, H, T) each
    factors = log_weights[..., :-1].diff() / products[..., :-1].diff()
    same(factors, factors[0, 0, 0].expand_as(factors))


def test_attention_divides_by_the_root_of_the_width():
    log_weights, products = weights_of()[:, :, -1].log(), (Q[:, :, -1:] * K).sum(-1)  # (B, H, T) each
    same(log_weights[..., :-1].diff(), products[..., :-1].diff() / np.sqrt(6))


def test_attention_drops():
    torch.manual_seed(0)
    assert (attention(Q, K, torch.ones_like(Q), 0.5) - 1).abs().max() > 0.1  # all weights together make 1


def test_attention_drops_weights():
    """Values of 1 in all D places: what a weight loses is the same in all of them."""
    torch.manual_seed(0)
    found = attention(Q, K, torch.ones_like(Q), 0.5)
    same(found, found[..., :1].expand_as(found))


# Heads


class Asked(Exception):
    """The attention is stopped here, with its arguments."""


def asked(dropout: float = 0.0, training: bool = False) -> tuple[tuple, torch.Tensor]:
    """What `attend` is called with, (q, k, v, dropout), and what c_attn gives (B, T, 3C)."""
    attn, x = perturbed(CausalSelfAttention(GPT2Config(**(vars(CONFIG) | {"dropout": dropout})))), random(3, 5, 8)

    def attend(q, k, v, dropout=None):
        raise Asked(q, k, v, dropout)

    with pytest.raises(Asked) as stopped:
        attn.train(training)(x, attend)
    return stopped.value.args, attn.c_attn(x)


def test_the_heads_call_attend():
    asked()


def test_the_heads_have_a_shape_of_their_own():
    arguments, _ = asked()
    assert [tuple(z.shape) for z in arguments[:3]] == [(3, 2, 5, 4)] * 3


@pytest.mark.parametrize("which", ["queries", "keys", "values"])
def test_queries_keys_and_values_in_this_order(which):
    """The same numbers, however they are put into heads."""
    arguments, made = asked()
    part = ["queries", "keys", "values"].index(which)
    same(arguments[part].flatten().sort().values, made[..., 8 * part : 8 * part + 8].flatten().sort().values)


def test_each_head_has_neighbouring_columns_of_each_token():
    arguments, made = asked()
    for part, z in enumerate(arguments[:3]):
        for head in range(2):
            first = 8 * part + 4 * head
            same(z[:, head], made[..., first : first + 4])


def test_the_heads_are_projected():
    attn, x = perturbed(CausalSelfAttention(CONFIG)), random(3, 5, 8)
    same(attn(x, lambda q, k, v, dropout: torch.ones_like(v)), attn.c_proj(torch.ones_like(x)))


def test_the_heads_are_put_side_by_side():
    attn, y = perturbed(CausalSelfAttention(CONFIG)), random(3, 2, 5, 4)
    silence(attn.c_proj)
    with torch.no_grad():
        attn.c_proj.weight.copy_(torch.eye(8))
    found = attn(random(3, 5, 8, seed=1), lambda q, k, v, dropout: y)
    for head in range(2):
        same(found[..., 4 * head : 4 * head + 4], y[:, head])


@pytest.mark.parametrize(("training", "expected"), [(True, 0.5), (False, 0.0)], ids=["training", "eval"])
def test_the_weights_dropout_is_passed_on(training, expected):
    assert asked(dropout=0.5, training=training)[0][3] == expected


@pytest.mark.parametrize("part", ["heads", "mlp"])
def test_dropout_comes_last(part):
    """Every number that comes out is kept and doubled, or it is 0."""
    torch.manual_seed(0)
    module = {"heads": CausalSelfAttention, "mlp": MLP}[part](GPT2Config(**(vars(CONFIG) | {"dropout": 0.5})))
    module, x = perturbed(module), random(2, 5, 8)
    expected = 2 * module(x)
    (module.resid_dropout if part == "heads" else module.dropout).train()
    found = module(x)
    same(found, expected * (found != 0))


# MLP


def test_the_mlp_is_its_equation():
    mlp, x = perturbed(MLP(CONFIG)), random(2, 3, 8)
    w = {name: p.detach().numpy() for name, p in mlp.named_parameters()}
    inner = gelu_tanh(x.numpy() @ w["c_fc.weight"].T + w["c_fc.bias"])
    np.testing.assert_allclose(
        mlp(x).detach().numpy(), inner @ w["c_proj.weight"].T + w["c_proj.bias"], rtol=0, atol=1e-10
    )


def test_nothing_comes_after_the_second_layer():
    mlp, x = perturbed(MLP(CONFIG)), random(2, 3, 8)
    with torch.no_grad():
        mlp.c_proj.weight.zero_()
    same(mlp(x), mlp.c_proj.bias.expand_as(x))


def test_the_mlps_gelu_is_nearly_the_exact_one():
    """The two differ by less than 1e-3: who finds more has another function, or none."""
    mlp, x = perturbed(MLP(CONFIG)), random(2, 3, 8)
    exact = mlp.c_proj(torch.nn.functional.gelu(mlp.c_fc(x)))
    assert (mlp(x) - exact).abs().max() < 1e-2 * exact.abs().max()


# Block


def silent_block() -> Block:
    """Attention and MLP give zero, and a norm of zero is zero."""
    block = perturbed(Block(CONFIG))
    silence(block.attn.c_proj, block.mlp.c_proj)
    with torch.no_grad():
        block.ln_1.bias.zero_(), block.ln_2.bias.zero_()
    return block


def test_the_stream_itself_is_not_normalised():
    """If both parts give zero, three times the input gives three times the output; a norm would take the 3 away."""
    block, x = silent_block(), random(2, 5, 8)
    torch.testing.assert_close(block(3 * x), 3 * block(x), rtol=0, atol=1e-4)


def test_what_comes_in_is_passed_on():
    block, x = silent_block(), random(2, 5, 8)
    same(block(x), x)


def test_the_attention_reads_the_stream_after_ln_1():
    block, x = perturbed(Block(CONFIG)), random(2, 5, 8)
    silence(block.mlp.c_proj)
    same(block(x) - x, block.attn(block.ln_1(x)))


def test_the_mlp_reads_the_stream_after_ln_2():
    block, x = perturbed(Block(CONFIG)), random(2, 5, 8)
    silence(block.attn.c_proj)
    same(block(x) - x, block.mlp(block.ln_2(x)))


def test_the_mlp_reads_what_the_attention_has_added():
    block, x = perturbed(Block(CONFIG)), random(2, 5, 8)
    stream = x + block.attn(block.ln_1(x))
    same(block(x), stream + block.mlp(block.ln_2(stream)))


def test_a_block_hands_on_how_to_attend():
    block, x = perturbed(Block(CONFIG)), random(1, 5, 8)
    asked = []
    block(x, lambda q, k, v, dropout: asked.append(q.shape) or v)
    assert asked == [(1, 2, 5, 4)]
