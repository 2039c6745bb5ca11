"""Variety and fluency: counted by hand and in plain Python, and at both ends."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluate.measures import forgetting
from evaluate.measures.variety import distinct, perplexity_under, repeated
from model.gpt2 import GPT2, GPT2Config
from model.sampling import cast_copy


@pytest.fixture
def texts():
    return torch.tensor(np.random.default_rng(2).integers(4, size=(5, 30)))


def grams_of(text, n):
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def test_distinct_by_hand():
    texts = torch.tensor([[1, 2, 1, 2], [1, 2, 3, 3]])
    assert distinct(texts, 1) == 3 / 8
    assert distinct(texts, 2) == 4 / 6  # 12 21 12, 12 23 33; no run from the first text into the second
    assert distinct(texts, 3) == 4 / 4
    assert distinct(texts, 4) == 1.0


def test_repeated_by_hand():
    #                      123 has been, 231 too; the second text repeats nothing of its own
    texts = torch.tensor([[1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 4, 5, 6, 7]])
    assert repeated(texts, 3) == pytest.approx((2 / 5 + 0) / 2, abs=1e-15)
    assert repeated(texts) == pytest.approx((1 / 4 + 0) / 2, abs=1e-15)  # 1231 has been


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_against_plain_counting(texts, n):
    every = [gram for text in texts.tolist() for gram in grams_of(text, n)]
    assert distinct(texts, n) == pytest.approx(len(set(every)) / len(every), abs=1e-15)
    shares = []
    for text in texts.tolist():
        grams = grams_of(text, n)
        shares.append(sum(gram in grams[:i] for i, gram in enumerate(grams)) / len(grams))
    assert repeated(texts, n) == pytest.approx(np.mean(shares), abs=1e-15)
    assert repeated(texts.numpy(), n) > 0


def test_the_same_again_and_again_and_never_the_same():
    again = torch.full((4, 20), 7)
    assert distinct(again, 2) == 1 / 76 and repeated(again) == pytest.approx(16 / 17)
    never = torch.arange(80).view(4, 20)
    assert distinct(never, 1) == distinct(never, 3) == 1.0 and repeated(never) == 0.0


def test_texts_shorter_than_n_repeat_nothing():
    texts = torch.zeros(3, 2, dtype=torch.long)
    assert distinct(texts, 3) == 1.0 and repeated(texts, 3) == 0.0 and repeated(texts, 2) == 0.0


def test_perplexity_by_hand():
    """A model that gives token t the probability proportional to t + 1: the first token of a text is not asked for."""
    weights = torch.arange(1.0, 9.0)
    model = lambda tokens: weights.log().expand(*tokens.shape, 8)  # noqa: E731
    texts = torch.tensor([[0, 7, 3], [5, 0, 1], [2, 6, 6]])
    product = math.prod((t + 1) / 36 for t in (7, 3, 0, 1, 6, 6))
    for batch_size in (1, 2, 8):
        assert perplexity_under(model, texts, batch_size) == pytest.approx(product ** (-1 / 6), rel=1e-6)


def test_perplexity_at_its_ends():
    texts = torch.arange(12).view(2, 6)
    assert perplexity_under(lambda tokens: torch.zeros(*tokens.shape, 50), texts) == pytest.approx(50, rel=1e-6)
    parrot = lambda tokens: 100.0 * F.one_hot((tokens + 1) % 50, 50).float()  # noqa: E731
    assert perplexity_under(parrot, texts) == pytest.approx(1.0, abs=1e-6)
    # Sure and always wrong: more than a float32 can hold; then more than a float64 can.
    for nats, expected in ((600.0, math.exp(600)), (1e4, math.inf)):
        wrong = lambda tokens: nats * F.one_hot(tokens, 50).float()  # noqa: B023, E731
        assert perplexity_under(wrong, texts) == pytest.approx(expected, rel=1e-6)


def test_perplexity_of_a_gpt2_of_any_kind(monkeypatch):
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=30, block_size=8, n_layer=1, n_head=2, n_embd=8, dropout=0.5)).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    texts = torch.tensor(np.random.default_rng(1).integers(30, size=(5, 14)))
    measured = perplexity_under(model, texts)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = model(texts[:, :8]).double()  # the context, and the token after it is predicted
    expected = F.cross_entropy(logits.flatten(0, 1), texts[:, 1:9].flatten()).exp().item()
    assert measured == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(forgetting, "ROWS", 16)
    assert perplexity_under(model, texts) == pytest.approx(expected, rel=1e-5)  # the last group is smaller
    assert perplexity_under(cast_copy(model, torch.bfloat16), texts) == pytest.approx(expected, rel=0.03)


def test_a_text_of_one_token_has_no_perplexity():
    with pytest.raises(ValueError, match="two tokens or more"):
        perplexity_under(lambda tokens: torch.zeros(*tokens.shape, 5), torch.zeros(3, 1, dtype=torch.long))
