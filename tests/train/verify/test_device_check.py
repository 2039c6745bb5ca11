"""A device is accepted as long as it errs by rounding alone: devices that err otherwise, imitated on the CPU."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import BLOCK, VOCAB

from model.gpt2 import GPT2, GPT2Config
from model.pretrained import load_pretrained
from train.verify import device_check
from train.verify.device_check import compare_with_cpu, logits_on, relative_error

BOUNDS = {torch.float32: 5e-3, torch.bfloat16: 5e-2}
DTYPES = list(BOUNDS)


@pytest.fixture
def model(model_folder):
    return load_pretrained(model_folder)


@pytest.fixture
def run(monkeypatch):
    """Compares a model with a device that this machine does not have; `forward` plays it."""

    def call(model, forward, dtype=torch.float32, seed=0):
        def played(asked, device, asked_dtype):
            assert (device.type, asked_dtype) in {("cpu", torch.float32), ("cuda", dtype)}
            return logits_on(asked, device, asked_dtype) if device.type == "cpu" else forward

        monkeypatch.setattr(device_check, "logits_on", played)
        compare_with_cpu(model, torch.device("cuda:1"), dtype, seed)

    return call


def on_cpu(model, dtype):
    return logits_on(model, torch.device("cpu"), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_sides_of_the_bound(run, model, dtype):
    """An error of known size: every logit, less the common part of its position, too large by a share."""

    def forward_with(share):
        def forward(tokens):
            logits = model(tokens)
            return logits + share * (logits - logits.mean(-1, keepdim=True))

        return forward

    for sign in (1, -1):
        run(model, forward_with(0.95 * sign * BOUNDS[dtype]), dtype)
        with pytest.raises(ValueError, match="the logits differ by"):
            run(model, forward_with(1.05 * sign * BOUNDS[dtype]), dtype)


def test_the_message_is_one_line_with_numbers_and_advice(run, model):
    with pytest.raises(ValueError) as error:
        run(model, lambda tokens: 2 * model(tokens))
    assert str(error.value) == (
        "cuda:1 in float32 does not compute what the CPU does: the logits differ by 1e+02 %, rounding explains 0.5 %; "
        "use --device cpu"
    )


def test_a_shift_of_all_logits_is_no_error(run, model):
    run(model, lambda tokens: model(tokens) + torch.arange(tokens.shape[1])[:, None])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_number_is_an_error(run, model, value):
    with pytest.raises(ValueError, match="differ by nan"):
        run(model, lambda tokens: model(tokens).index_fill(2, torch.tensor([7]), value), torch.bfloat16)


def test_the_error_is_the_mean_of_the_positions():
    """By hand: (2, 0, -2) for (1, 0, -1) is 100 % off, (6, 0, 0) for (6, 0, 0) is right, whatever is added."""
    reference = torch.tensor([[[1.0, 0.0, -1.0], [6.0, 0.0, 0.0]]])
    found = torch.tensor([[[7.0, 5.0, 3.0], [5.0, -1.0, -1.0]]])
    assert relative_error(found, reference) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rounding_of_the_dtype_is_accepted(run, model, dtype):
    run(model, on_cpu(model, dtype), dtype)


def test_bfloat16_where_float32_was_asked_for_is_not(run, model):
    with pytest.raises(ValueError, match="in float32 does not"):
        run(model, on_cpu(model, torch.bfloat16), torch.float32)


def test_logits_far_from_zero_lose_their_common_part_before_they_are_rounded(run, model):
    """GPT-2's logits lie around -30 to -100, where a bfloat16 has steps of 1/8 to 1/2; these lie around -100."""
    with torch.no_grad():
        model.wte.weight[:, 0] = 0.5
        model.ln_f.bias[0] = -200
        naive = copy.deepcopy(model).bfloat16()
        with pytest.raises(ValueError, match="in bfloat16 does not"):
            run(model, naive, torch.bfloat16)
    run(model, on_cpu(model, torch.bfloat16), torch.bfloat16)


# Devices that compute something else


def skips_a_block(model):
    del model.h[1]


def sees_the_future(model):
    model.attend = lambda q, k, v, dropout: F.scaled_dot_product_attention(q, k, v)


def mixes_the_heads_wrongly(model):
    model.h[0].attn.c_proj.weight.data = model.h[0].attn.c_proj.weight.data.T.contiguous()


def loses_a_bias(model):
    model.h[0].mlp.c_proj.bias.data.zero_()


def reads_the_wrong_positions(model):
    model.wpe.weight.data = model.wpe.weight.data.roll(1, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "fault", [skips_a_block, sees_the_future, mixes_the_heads_wrongly, loses_a_bias, reads_the_wrong_positions]
)
def test_a_device_that_is_wrong_in_one_place(run, model, dtype, fault):
    wrong = copy.deepcopy(model)
    fault(wrong)
    with pytest.raises(ValueError, match="use --device cpu"):
        run(model, wrong, dtype)


def test_the_erf_gelu_is_too_small_to_be_seen(run, monkeypatch):
    """What it cannot catch, on a model with GPT-2's own initial weights."""
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=VOCAB, block_size=BLOCK, n_layer=4, n_head=3, n_embd=48)).eval()

    def with_erf(tokens):
        gelu = F.gelu
        with monkeypatch.context() as patch:
            patch.setattr(F, "gelu", lambda x, approximate: gelu(x))
            return model(tokens)

    tokens = torch.arange(BLOCK)[None]
    assert not torch.equal(with_erf(tokens), model(tokens))
    for dtype in DTYPES:
        run(model, with_erf, dtype)


# What is asked of whom


def test_the_tokens_are_random_and_the_seeds_own(run, model):
    seen = []
    for seed in (0, 0, 3):
        run(model, lambda tokens: seen.append(tokens) or model(tokens), seed=seed)
    for seed, tokens in zip((0, 0, 3), seen):
        np.testing.assert_array_equal(tokens, np.random.default_rng([8, seed]).integers(VOCAB, size=(2, BLOCK)))


def test_a_long_context_is_not_filled(run, model):
    model = GPT2(GPT2Config(vocab_size=VOCAB, block_size=500, n_layer=1, n_head=1, n_embd=4)).eval()
    shapes = []
    run(model, lambda tokens: shapes.append(tuple(tokens.shape)) or model(tokens))
    assert shapes == [(2, 128)]


def test_the_cpu_needs_no_comparison(model, monkeypatch):
    monkeypatch.setattr(device_check, "logits_on", None)  # would raise if it were called
    for dtype in DTYPES:
        compare_with_cpu(model, torch.device("cpu"), dtype)


def test_the_model_is_left_as_it_was(run, model_folder):
    model = load_pretrained(model_folder, dropout=0.5).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, on_cpu(model, torch.bfloat16), torch.bfloat16)  # and the dropout changes nothing
    assert model.training
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None and p.dtype == torch.float32
