"""The fast ways are the same ways: equal numbers where rounding allows, and close ones in bfloat16."""

import gc
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import VOCAB, make_text
from torch.utils._python_dispatch import TorchDispatchMode

from data.batches import sample_batch
from data.settings import Sampling, Settings, Training
from data.tokenizer import load_tokenizer
from evaluate.baseline import open_baseline
from evaluate.ratio import frequent_token_ratio
from model.gpt2 import attention
from model.pretrained import load_pretrained
from model.sampling import KeyValueCache, cast_copy, complete, evaluating
from model.speed.centred import centred_head
from train.adamw import AdamW
from train.loop import finetune, plain_gradients
from train.run.run import notes_on
from train.speed import step
from train.speed.adamw import FusedAdamW
from train.speed.chunked_loss import head_cross_entropy
from train.speed.step import bfloat16_loss, fast_gradients, window_attention

# Attention


def attended(attend, dtype, offset=0.0, B=3, H=2, T=20, D=4):
    """What `attend` makes of B windows as `c_attn` gives them, and its gradient; all keys have `offset` in common."""
    generator = torch.Generator().manual_seed(3)
    qkv = torch.randn(B, T, 3, H, D, generator=generator)
    qkv[:, :, 1] += offset
    qkv = qkv.bfloat16().to(dtype).requires_grad_()
    y = attend(*(part.transpose(1, 2) for part in qkv.unbind(2)))
    y.backward(torch.randn(y.shape, generator=generator).bfloat16().to(dtype))
    return y.detach(), qkv.grad


@pytest.mark.parametrize("T", [1, 2, 20])
def test_attention_by_windows_is_attention(T):
    for found, expected in zip(*(attended(f, torch.float64, T=T) for f in (window_attention, attention))):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_attention_by_windows_loses_little_to_bfloat16_where_scores_are_large():
    """A key's part that all keys have is worth 40 to a score here, where bfloat16 has steps of 1/4."""
    exact = attended(attention, torch.float64, offset=40.0)
    for found, plain, expected in zip(
        attended(window_attention, torch.bfloat16, offset=40.0), attended(attention, torch.bfloat16, offset=40.0), exact
    ):
        assert (found - expected).norm() < 0.01 * expected.norm() and (plain - expected).norm() > 0.03 * expected.norm()


def test_attention_by_windows_holds_the_scores_of_one():
    with LargestTensor() as seen:
        attended(window_attention, torch.float32, B=6, H=2, T=40, D=4)
    assert seen.numbers == 6 * 40 * 3 * 2 * 4 < 6 * 2 * 40 * 40  # queries, keys and values; all scores would be more


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_step_in_bfloat16_attends_by_windows_unless_attention_drops_out(model_folder, tokens, dropout, monkeypatch):
    calls = []
    monkeypatch.setattr("train.speed.step.window_attention", lambda *qkv: calls.append(1) or window_attention(*qkv))
    model = load_pretrained(model_folder, dropout=dropout)
    bfloat16_loss(model, *sample_batch(tokens, 2, 9, 0, 0))
    assert len(calls) == (0 if dropout else model.config.n_layer)


# Gradients


@pytest.fixture
def tokens(tokenizer_folder):
    return torch.tensor(load_tokenizer(tokenizer_folder).encode_ordinary(make_text(2000, seed=6)))


def gradients_of(model, compute, inputs, targets):
    for parameter in model.parameters():
        parameter.grad = None
    loss = compute(model, inputs, targets)
    return loss, {name: p.grad.double().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("micro_batch", [None, 1, 3, 5, 100])
def test_micro_batches_give_the_same_gradients(model_folder, tokens, micro_batch):
    """Five windows: whole, one by one, and in parts of unequal size."""
    model = load_pretrained(model_folder).double()
    batch = sample_batch(tokens, 5, 9, 0, 0)
    loss, expected = gradients_of(model, plain_gradients, *batch)
    found_loss, found = gradients_of(model, fast_gradients(torch.float32, micro_batch), *batch)
    assert found_loss == pytest.approx(loss, abs=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("shift", [0.0, 8.0])
def test_bfloat16_gradients_point_where_float32_ones_do(model_folder, tokens, shift, monkeypatch):
    """Also where all logits lie far below zero, as GPT-2's do."""
    monkeypatch.setattr("train.speed.chunked_loss.CHUNK_ROWS", 50)  # 128 rows: whole chunks and a rest
    monkeypatch.setattr("train.speed.chunked_loss.EXACT_ROWS", 7)
    monkeypatch.setattr("train.speed.chunked_loss.WORDS", 100)
    model = load_pretrained(model_folder)
    with torch.no_grad():
        direction = torch.ones(model.config.n_embd) / model.config.n_embd**0.5
        model.ln_f.bias.add_(shift * direction)
        model.wte.weight.add_(-shift * direction)
    batch = sample_batch(tokens, 8, 16, 0, 0)
    loss, expected = gradients_of(model, plain_gradients, *batch)
    low_loss, low = gradients_of(model, fast_gradients(torch.bfloat16), *batch)
    assert low_loss == pytest.approx(loss, rel=2e-3)
    together = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in (expected, low)]
    assert F.cosine_similarity(*together, dim=0) > 0.999
    for name, gradient in expected.items():
        assert F.cosine_similarity(gradient.flatten(), low[name].flatten(), dim=0) > 0.98, name


def test_of_a_gelu_only_the_input_is_kept(model_folder, tokens, monkeypatch):
    """Nothing else that backward needs is as large; the gradients are bit for bit those with both kept."""
    model, batch, sizes = load_pretrained(model_folder), sample_batch(tokens, 8, 16, 0, 0), []
    with monkeypatch.context() as patched:
        patched.setattr("train.speed.step._kept", lambda saved: saved)
        _, expected = gradients_of(model, fast_gradients(torch.bfloat16), *batch)
    kept = step._kept

    def watched(saved):
        sizes.append(getattr(kept(saved), "shape", ()))
        return kept(saved)

    monkeypatch.setattr("train.speed.step._kept", watched)
    _, found = gradients_of(model, fast_gradients(torch.bfloat16), *batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sum(math.prod(size) == 8 * 16 * 4 * model.config.n_embd for size in sizes) == model.config.n_layer


def test_the_heads_rounding_does_not_grow_with_the_logits_common_part():
    """Logits of -1000 have steps of 4 in bfloat16; what all have in common is taken off before rounding."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 64, 32, generator=generator), torch.randn(50, 32, generator=generator)
    x[..., 0], weight[:, 0] = 40.0, -25.0  # every logit 1000 lower
    targets = torch.randint(50, (64,), generator=generator)
    expected = F.cross_entropy((x[0].double() @ weight.double().T), targets).item()
    assert head_cross_entropy(x, weight, targets, torch.bfloat16).item() == pytest.approx(expected, rel=2e-3)
    plainly = F.cross_entropy((x[0].bfloat16() @ weight.bfloat16().T).float(), targets).item()
    assert abs(plainly - expected) > 1e-2 * expected  # the rounding that it is spared


class LargestTensor(TorchDispatchMode):
    """Inside: the most numbers that any operation has returned in one tensor."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else [result]
        self.numbers = max([self.numbers, *(t.numel() for t in made if isinstance(t, torch.Tensor))])
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_never_holds_all_logits(dtype, monkeypatch):
    """Its largest tensor is a chunk's logits, however many rows there are; the plain loss holds all of them."""
    monkeypatch.setattr("train.speed.chunked_loss.CHUNK_ROWS", 16)
    C, V = 4, 300

    def largest(loss_of, rows):
        x, weight = torch.randn(1, rows, C).requires_grad_(), torch.randn(V, C).requires_grad_()
        with LargestTensor() as seen:
            loss_of(x, weight, torch.zeros(1, rows, dtype=torch.long)).backward()
        return seen.numbers

    for rows in (100, 200, 400):
        assert largest(lambda *given: head_cross_entropy(*given, dtype), rows) == 16 * V
        assert largest(lambda x, w, targets: F.cross_entropy((x @ w.T)[0], targets[0]), rows) == rows * V


@pytest.mark.parametrize("gradients", [plain_gradients, fast_gradients(torch.bfloat16)])
def test_memory_is_flat_in_samples(model_folder, tokens, gradients):
    """After every sample as many tensors are alive as after the first: no loss keeps its graph."""
    alive = []

    model = load_pretrained(model_folder)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    for _ in finetune(model, tokens, optimizer, Training(samples=3, batch_size=2, seq_len=8), gradients):
        alive.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
    assert alive == [alive[0]] * 3


def test_loss_curves_in_bfloat16_and_float32_agree(model_folder, tokens):
    """Forty steps; weights stay float32."""
    curves = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = load_pretrained(model_folder)
        settings = Training(samples=40, batch_size=8, seq_len=16)
        optimizer = FusedAdamW(model.parameters(), lr=3e-3)
        curves[dtype] = np.array(list(finetune(model, tokens, optimizer, settings, fast_gradients(dtype))))
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert curves[torch.float32][-1] < curves[torch.float32][0] - 2
    np.testing.assert_allclose(curves[torch.bfloat16], curves[torch.float32], rtol=0.02)
    model = load_pretrained(model_folder)
    plain = list(finetune(model, tokens, AdamW(model.parameters(), 3e-3), settings))
    np.testing.assert_allclose(curves[torch.float32], plain, rtol=1e-3)


# Sampling


def test_a_copy_in_bfloat16_for_sampling(model_folder):
    model = load_pretrained(model_folder)
    assert cast_copy(model, torch.float32) is model
    copy = cast_copy(model, torch.bfloat16)
    assert all(p.dtype == torch.bfloat16 for p in copy.parameters()) and model.wte.weight.dtype == torch.float32
    tokens = torch.arange(20)[None]
    exact, rounded = model(tokens), copy(tokens).float()
    assert F.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.999


def test_writing_in_bfloat16_is_spared_the_rounding_of_far_logits(model_folder):
    """Logits of -1000, as all have -25 x 40 in common, have steps of 4 in bfloat16."""
    model = load_pretrained(model_folder)
    with torch.no_grad():
        model.wte.weight[:, 0], model.ln_f.weight[0], model.ln_f.bias[0] = -25.0, 0.0, 40.0
    copy, tokens = cast_copy(model, torch.bfloat16), torch.arange(20)[None]
    expected = model(tokens)[:, -1]  # (1, V)

    def error(logits):
        apart = logits.float() - expected
        return ((apart - apart.mean()).norm() / (expected - expected.mean()).norm()).item()

    with evaluating(copy):
        cached, plain = KeyValueCache(copy, 1, 20).read(copy, tokens), copy(tokens)[:, -1]
    assert error(cached) < 0.05 and error(plain) > 0.15  # the rounding that it is spared


@pytest.mark.parametrize("dtype, kept", [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_keys_and_values_are_kept_as_float32_at_least(model_folder, dtype, kept):
    """Scores are products of keys: they come out in the keys' precision."""
    model = cast_copy(load_pretrained(model_folder), dtype)
    with evaluating(model):
        assert KeyValueCache(model, 1, 4).store.dtype == kept


def test_only_a_head_of_16_bits_is_centred():
    weight = torch.randn(1000, 6, generator=torch.Generator().manual_seed(0)) - 25
    assert centred_head(weight, torch.float32).data_ptr() == weight.data_ptr()
    exact = weight.double() - weight.double().mean(0)
    torch.testing.assert_close(centred_head(weight, torch.bfloat16).double(), exact, rtol=2**-8, atol=1e-4)


def test_sampling_in_bfloat16_does_not_move_the_ratio(model_folder):
    """The same start tokens and random numbers: the rounding that differs must stay within the noise of the ratio."""
    model = load_pretrained(model_folder)
    frequent = (
        complete(model, torch.zeros(50, 1, dtype=torch.long), 20, seed=9)[:, 1:].flatten().bincount().topk(40).indices
    )
    settings = Sampling(sequences=200, new_tokens=20, top_k=50, seed=1)
    exact = frequent_token_ratio(model, frequent.tolist(), settings, vocab_size=VOCAB)
    rounded = frequent_token_ratio(cast_copy(model, torch.bfloat16), frequent.tolist(), settings, vocab_size=VOCAB)
    low, high = exact.ratio_ci
    assert 0.1 < exact.ratio < 0.9 and low <= rounded.ratio <= high


@pytest.mark.parametrize("native", [True, False])
def test_imitated_bfloat16_is_named(native, model_folder, text_file, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": native})
    for dtype in ("bfloat16", "float32"):
        training = Training(samples=200, seq_len=8)
        settings = Settings(str(model_folder), str(text_file), training=training, device="cpu", dtype=dtype)
        imitated = dtype == "bfloat16" and not native
        assert any("imitates" in note for note in notes_on(open_baseline(settings))) == imitated
