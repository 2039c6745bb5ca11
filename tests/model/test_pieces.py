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
    same(model.embed(torch.tensor([[5, 6]]), start=7)[0], model.wte.weight[5:7] + model.wpe.weight[7:9])
    with pytest.raises(ValueError, match="10 tokens"):
        model.embed(torch.tensor([[5, 6]]), start=8)


def test_the_head_is_the_embedding_backwards():
    model, x = perturbed(GPT2(CONFIG)), random(2, 3, 8)
    logits = model.unembed(x)
    same(logits[1, 2, 10], (x[1, 2] * model.wte.weight[10]).sum())
    logits[0, 0, 4].backward()
    same(model.wte.weight.grad[4], x[0, 0])  # and its gradient reaches the embedding


# Attention


def test_attention_divides_by_the_root_of_the_width():
    """Two tokens, D = 4: the second asks with (2, 0, 0, 0), and the keys answer with 4 and 0, halved to 2 and 0."""
    q = k = torch.tensor([[[[2.0, 0, 0, 0], [2.0, 0, 0, 0]]]]).double()
    k = k * torch.tensor([1.0, 0.0])[:, None]
    found = attention(q, k, torch.tensor([[[[1.0], [0.0]]]]).double())[0, 0, 1, 0]
    assert found.item() == pytest.approx(np.exp(2) / (np.exp(2) + 1), abs=1e-12)


def test_attention_weights_sum_to_one():
    """Then values that are all the same come out as they went in."""
    sevens = torch.full((2, 3, 5, 4), 7.0).double()
    same(attention(random(2, 3, 5, 4), random(2, 3, 5, 4, seed=1), sevens), sevens)


def test_attention_hides_what_comes_later():
    q, k, v = (random(1, 2, 6, 4, seed=seed) for seed in range(3))
    before = attention(q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 9.0, -9.0
    same(attention(q, k, v)[:, :, :4], before[:, :, :4])


def test_attention_lets_a_token_see_itself():
    v = random(1, 2, 6, 4)
    same(attention(random(1, 2, 6, 4, seed=1), random(1, 2, 6, 4, seed=2), v)[:, :, 0], v[:, :, 0])


# Heads


def test_each_head_looks_by_itself():
    """The second half of the queries belongs to the second head, and moves only the second half of what comes out."""
    attn, x = perturbed(CausalSelfAttention(CONFIG)), random(1, 5, 8)
    with torch.no_grad():
        attn.c_proj.weight.copy_(torch.eye(8))
        before = attn(x)
        attn.c_attn.weight[4:8] += 1.0
        moved = (attn(x) - before).abs().amax((0, 1))
    assert moved[:4].max() < 1e-12 < moved[4:].min()


def test_texts_of_a_batch_do_not_mix():
    attn, x = perturbed(CausalSelfAttention(CONFIG)), random(3, 5, 8)
    same(attn(x), torch.cat([attn(row[None]) for row in x]))


def test_queries_keys_and_values_in_this_order():
    """With queries of zero all keys fit alike, and with keys of zero too: each gets the mean of the values so far."""
    attn, x = perturbed(CausalSelfAttention(CONFIG)), random(1, 5, 8)
    counts = torch.arange(1, 6).double()[:, None]
    for part in (slice(0, 8), slice(8, 16)):
        with torch.no_grad():
            attn = perturbed(CausalSelfAttention(CONFIG))
            attn.c_attn.weight[part], attn.c_attn.bias[part] = 0.0, 0.0
        values = attn.c_attn(x)[..., 16:].cumsum(1) / counts
        same(attn(x), attn.c_proj(values))


# MLP


def test_the_mlp_is_its_equation():
    mlp, x = perturbed(MLP(CONFIG)), random(2, 3, 8)
    w = {name: p.detach().numpy() for name, p in mlp.named_parameters()}
    inner = gelu_tanh(x.numpy() @ w["c_fc.weight"].T + w["c_fc.bias"])
    np.testing.assert_allclose(
        mlp(x).detach().numpy(), inner @ w["c_proj.weight"].T + w["c_proj.bias"], rtol=0, atol=1e-10
    )


def test_the_mlps_gelu_is_nearly_the_exact_one():
    """The two differ by less than 1e-3: who finds more has another function, or none."""
    mlp, x = perturbed(MLP(CONFIG)), random(2, 3, 8)
    exact = mlp.c_proj(torch.nn.functional.gelu(mlp.c_fc(x)))
    assert (mlp(x) - exact).abs().max() < 1e-2 * exact.abs().max()


def test_the_mlp_takes_each_position_by_itself():
    mlp, x = perturbed(MLP(CONFIG)), random(1, 4, 8)
    same(mlp(x), torch.cat([mlp(x[:, t : t + 1]) for t in range(4)], dim=1))


# Block


def test_what_comes_in_is_passed_on():
    block, x = perturbed(Block(CONFIG)), random(2, 5, 8)
    silence(block.attn.c_proj, block.mlp.c_proj)
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
