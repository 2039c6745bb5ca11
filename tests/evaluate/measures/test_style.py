"""Style: distributions and divergences by hand, intervals against what is known, the sampler's mass against draws."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import VOCAB

from data.tokenizer import load_tokenizer
from evaluate.measures.style import (
    divergence,
    divergence_from,
    jensen_shannon,
    letter_tokens,
    letters_ratio,
    ratio_of_sums,
    ratio_of_sums_interval,
    sampler_mass,
    token_distribution,
)
from evaluate.ratio import share_among
from model.sampling import sample_token


def test_distribution_by_hand():
    tokens = torch.tensor([[7, 2, 7, 9], [0, 7, 5, 2]])
    shares = token_distribution(tokens, [7, 3, 2])
    assert shares.dtype == np.float64 and shares.tolist() == [3 / 8, 0.0, 2 / 8, 3 / 8]
    assert token_distribution(tokens.numpy(), [900]).tolist() == [0.0, 1.0]  # an id above all that occur


def test_jensen_shannon_by_hand():
    """p = (1, 0) and q = (1/2, 1/2): the mean is (3/4, 1/4)."""
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    expected = 0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert jensen_shannon(p, q) == pytest.approx(expected, abs=1e-15)
    assert jensen_shannon(q, p) == pytest.approx(expected, abs=1e-15)


def test_jensen_shannon_at_its_ends():
    p, q = np.array([0.0, 0.3, 0.7, 0.0]), np.array([0.5, 0.0, 0.0, 0.5])
    assert jensen_shannon(p, q) == pytest.approx(1.0, abs=1e-15)  # bits: nothing in common
    assert jensen_shannon(p, p) == 0.0
    rows = jensen_shannon(np.stack([p, q, (p + q) / 2]), q)
    assert rows == pytest.approx([1.0, 0.0, jensen_shannon((p + q) / 2, q)], abs=1e-15)


def test_divergence_from_the_book_is_over_all_others_too():
    book = torch.tensor([4] * 6 + [1] * 3 + [8])
    as_the_book = torch.tensor([[4, 4, 1, 4, 9], [4, 1, 4, 1, 4]])  # 9 and 8 are both "other"
    assert divergence_from(as_the_book, book, [4, 1]) == 0.0
    the_the_the = torch.full((2, 5), 4)
    p, q = (1.0, 0.0, 0.0), (0.6, 0.3, 0.1)
    expected = sum(0.5 * a * math.log2(2 * a / (a + b)) for a, b in [*zip(p, q), *zip(q, p)] if a)
    assert divergence_from(the_the_the, book, [4, 1]) == pytest.approx(expected, abs=1e-15)


def test_divergence_interval_is_over_texts():
    """Two kinds of text: the number of the first kind in a resample is binomial, and all else follows from it."""
    texts = torch.tensor([[1] * 8] * 40 + [[2] * 8] * 60)
    book = torch.tensor([1] * 9 + [2])
    value, (low, high) = divergence(texts, book, [1, 2])
    ends = []
    for quantile in (0.025, 0.975):  # the more texts of 1, the nearer to the book
        below = np.cumsum([math.comb(100, k) * 0.4**k * 0.6 ** (100 - k) for k in range(101)])
        p = np.searchsorted(below, quantile) / 100
        ends.append(float(jensen_shannon(np.array([p, 1 - p]), np.array([0.9, 0.1]))))
    assert (high, low) == pytest.approx(ends, abs=0.01)  # one text more or less moves an end by up to 0.009
    assert low < value < high
    assert divergence(texts, book, [1, 2])[1] == (low, high) != divergence(texts, book, [1, 2], seed=1)[1]
    alike, plain = torch.tensor([[1, 2]] * 7), divergence_from(torch.tensor([[1, 2]] * 7), book, [1, 2])
    assert divergence(alike, book, [1, 2]) == (pytest.approx(plain), pytest.approx((plain, plain)))


def test_few_texts_are_no_farther_from_the_book_than_many():
    """Texts drawn from a known distribution, whose divergence is therefore known: the plain one of 12 texts is nearly
    twice as large, the one less its bias is right for 12 as for 300, and most intervals have the truth inside."""
    rng, tokens = np.random.default_rng(0), np.arange(61)
    p, q = 1.0 / (tokens + 1), 1.0 / (tokens + 4)
    p, q = p / p.sum(), q / q.sum()
    book = np.repeat(tokens, np.round(p * 1e6).astype(int))
    truth = float(jensen_shannon(q, p))
    for texts, plain_is, off in ((12, 1.9, 0.15), (300, 1.04, 0.05)):
        drawn = [rng.choice(tokens, (texts, 30), p=q) for _ in range(60)]
        plain = np.mean([divergence_from(rows, book, range(60)) for rows in drawn])
        assert plain == pytest.approx(plain_is * truth, rel=0.05)
        found = [divergence(rows, book, range(60), resamples=400) for rows in drawn]
        assert np.mean([value for value, _ in found]) == pytest.approx(truth, rel=off)
        assert np.mean([low <= truth <= high for _, (low, high) in found]) >= 0.9
    own, (low, _) = divergence(rng.choice(tokens, (50, 30), p=p), book, range(60))
    assert low == 0.0 <= own < 0.003  # whoever writes as the book does is not away from it, and never less than not


def test_letters_are_letters(tokenizer_folder):
    """Against the text of every token, one by one; and some that must be there."""
    tokenizer = load_tokenizer(tokenizer_folder)
    letters = letter_tokens(tokenizer, VOCAB + 3)  # more ids than the tokenizer has
    assert letters.shape == (VOCAB + 3,) and letters.dtype == bool
    for text, expected in {"a": True, "Q": True, " ": False, "\n": False, ";": False, "7": False}.items():
        assert letters[tokenizer.encode_single_token(text)] == expected
    words = [i for i in range(VOCAB) if tokenizer.decode_single_token_bytes(i) in (b" the", b"the", b" a")]
    assert words and letters[words].all()
    assert not letters[VOCAB - 1 :].any()  # <|endoftext|>, and what is beyond
    assert not letters[[tokenizer.encode_single_token(bytes([byte])) for byte in range(128, 256)]].any()  # half an é


class Bytes:
    """A tokenizer of these few."""

    vocabulary = [b" word", b"  word", b"word ", "é".encode(), b"w\xc3", b"don't", b" ", b"", b"a1", " Ω".encode()]
    n_vocab = len(vocabulary)

    def decode_single_token_bytes(self, token):
        return self.vocabulary[token]


def test_one_leading_space_and_no_other():
    assert letter_tokens(Bytes(), 10).tolist() == [True, False, False, True, *[False] * 5, True]


def test_letters_ratio_by_hand():
    letters = np.array([True, True, False, False, True])
    texts = torch.tensor([[0, 1, 2, 3], [2, 2, 3, 3], [4, 0, 0, 2]])
    numerators, denominators = letters_ratio(texts, [0, 2], letters)
    assert numerators.tolist() == [1, 0, 2] and denominators.tolist() == [2, 0, 3]
    assert ratio_of_sums(numerators, denominators) == 3 / 5
    assert ratio_of_sums(*letters_ratio(texts[1:2], [0, 2], letters)) == 0.0  # no letter at all


def test_letters_ratio_at_its_ends():
    """Line ends and commas alone lift the ratio to 1, and say nothing about words."""
    letters = np.array([True, True, False, False])
    only_marks, only_rare, the_the_the = torch.full((3, 5), 2), torch.full((3, 5), 1), torch.full((3, 5), 0)
    assert share_among(only_marks, [0, 2]).tolist() == [1.0] * 3
    found = [ratio_of_sums(*letters_ratio(texts, [0, 2], letters)) for texts in (only_marks, only_rare, the_the_the)]
    assert found == [0.0, 0.0, 1.0]


def test_interval_of_a_ratio_of_sums():
    """Ten tokens in every text: the ratio of sums is a mean, with a standard error of 0.5 / sqrt(200)."""
    numerators, denominators = np.array([0, 10] * 100), np.full(200, 10)
    low, high = ratio_of_sums_interval(numerators, denominators)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.006)
    assert ratio_of_sums_interval(numerators, denominators) == (low, high)
    lengths = np.arange(1, 200)
    assert ratio_of_sums_interval(lengths % 7, lengths) != ratio_of_sums_interval(lengths % 7, lengths, seed=1)
    # A share of 1/4 in every text, however long: nothing to be uncertain of. The mean of the shares is another number.
    assert ratio_of_sums_interval(np.array([1, 25, 3]), np.array([4, 100, 12])) == (0.25, 0.25)
    short_and_long = np.array([0, 90] * 100), np.array([10, 90] * 100)  # shares of 0 and 1, but 9/10 of all tokens
    low, high = ratio_of_sums_interval(*short_and_long)
    assert 0.86 < low < 0.9 < high < 0.94
    assert ratio_of_sums_interval(np.zeros(3, int), np.zeros(3, int)) == (0.0, 0.0)


def test_sampler_mass_by_hand():
    """Probabilities 8 : 4 : 2 : 1 : 1; frequent are the second and the last."""
    logits = torch.tensor([[8.0, 4.0, 2.0, 1.0, 1.0]]).log()
    frequent = torch.tensor([False, True, False, False, True])
    assert sampler_mass(logits, frequent).item() == pytest.approx(5 / 16, abs=1e-7)
    assert sampler_mass(logits, frequent, top_k=3).item() == pytest.approx(4 / 14, abs=1e-7)
    assert sampler_mass(logits, frequent, top_k=4).item() == pytest.approx(5 / 16, abs=1e-7)  # the tie stays in
    assert sampler_mass(logits, frequent, temperature=0.5).item() == pytest.approx(17 / 86, abs=1e-7)
    assert sampler_mass(logits, frequent, temperature=0.5, top_k=2).item() == pytest.approx(16 / 80, abs=1e-7)
    assert sampler_mass(logits, frequent, temperature=0).tolist() == [0.0]
    assert sampler_mass(logits, ~frequent, temperature=0).tolist() == [1.0]
    banned = logits.index_fill(1, torch.tensor([0]), -torch.inf)
    assert sampler_mass(banned, frequent, top_k=2).item() == pytest.approx(4 / 6, abs=1e-7)


def test_a_uniform_model_gives_every_token_its_share():
    logits, frequent = torch.zeros(3, 1000), torch.arange(1000) < 100
    for top_k in (None, 50, 1):  # all tokens tie: none is cut off
        assert sampler_mass(logits, frequent, top_k=top_k).tolist() == pytest.approx([0.1] * 3, abs=1e-12)


@pytest.mark.parametrize(
    "settings", [{}, {"top_k": 7}, {"top_k": 20, "temperature": 1.7}, {"temperature": 0}, {"top_k": 90}]
)
def test_the_mass_is_what_the_sampler_draws(settings):
    """Numbers spread evenly over [0, 1) in place of luck: each token is drawn as often as it is likely."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 2, (4, 60))).round(decimals=0)  # with ties
    logits[:, 5] = -torch.inf
    frequent = torch.tensor(rng.random(60) < 0.3)
    draws = 4000
    luck = (torch.arange(draws) + 0.5) / draws
    for row, mass in zip(logits, sampler_mass(logits, frequent, **settings)):
        drawn = sample_token(row.expand(draws, -1), luck, **settings)
        # Each of the at most 60 limits between tokens may fall within one step of the numbers.
        assert frequent[drawn].double().mean().item() == pytest.approx(mass.item(), abs=60 / draws)
    assert len(Counter(sampler_mass(logits, frequent, **settings).tolist())) > 1


def test_mass_of_the_greedy_choice_when_several_are_most_likely():
    logits = torch.tensor([[1.0, 3.0, 3.0]])
    drawn = sample_token(logits, torch.zeros(1), temperature=0).item()
    for frequent in ([True, True, False], [True, False, True]):
        assert sampler_mass(logits, torch.tensor(frequent), temperature=0).item() == float(frequent[drawn])
