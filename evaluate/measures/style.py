"""Does it sound like the book? How often its favourite tokens come, told more finely than by one ratio.

Shape legend: S texts, N tokens in each, K frequent tokens, B rows of logits, V vocabulary, R resamples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.generators import BOOTSTRAP, generator
from model.sampling import most_likely


def token_counts(texts: Tensor, frequent: Sequence[int]) -> np.ndarray:
    """How often each of the K `frequent` ids, and last any other, stands in each of `texts` (S, N): (S, K + 1)."""
    texts, K = np.asarray(texts), len(frequent)
    place = np.full(max(texts.max(), *frequent) + 1, K)
    place[list(frequent)] = np.arange(K)
    cells = np.arange(len(texts))[:, None] * (K + 1) + place[texts]  # (S, N)
    return np.bincount(cells.ravel(), minlength=len(texts) * (K + 1)).reshape(len(texts), K + 1)


def token_distribution(tokens: Tensor, frequent: Sequence[int]) -> np.ndarray:
    """The share of each of the K `frequent` ids in `tokens` (any shape), and last of all others: (K + 1,) float64."""
    counts = token_counts(np.asarray(tokens).reshape(1, -1), frequent)[0]  # (K + 1,)
    return counts / counts.sum()


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of the distributions `p` and `q` (..., K), in bits: (...).

    Half the divergence (Kullback-Leibler) of each from their mean (Lin 1991, "Divergence Measures Based on the
    Shannon Entropy"): 0 if they are equal, 1 if they have no token in common, finite wherever one of them is zero.
    """
    mean = (p + q) / 2

    def from_mean(a: np.ndarray) -> np.ndarray:
        ratio = np.divide(a, mean, out=np.ones_like(mean), where=a > 0)  # 0 log 0 is 0, and so is 0 log 1
        return (a * np.log2(ratio)).sum(-1)

    return (from_mean(p) + from_mean(q)) / 2


def divergence_from(texts: Tensor, book_tokens: Tensor, frequent: Sequence[int]) -> float:
    """Jensen-Shannon divergence, in bits, of the tokens of `texts` (S, N) from those of the book (M,).

    Over the K `frequent` tokens and one place for all others. Unlike the ratio it cannot be met by writing
    "the the the": every one of the tokens must come as often as in the book. Chance alone adds about
    0.18 K / (S N) bits if the tokens were independent, and more as they are not: `divergence` takes it off.
    """
    return float(jensen_shannon(token_distribution(texts, frequent), token_distribution(book_tokens, frequent)))


def times_drawn(texts: int, seed: int, resamples: int) -> np.ndarray:
    """How often each of S `texts` comes in each bootstrap resample: (R, S), every row sums to S."""
    return generator(BOOTSTRAP, seed).multinomial(texts, np.full(texts, 1 / texts), size=resamples)


def divergence(
    texts: Tensor, book_tokens: Tensor, frequent: Sequence[int], seed: int = 0, resamples: int = 10_000
) -> tuple[float, tuple[float, float]]:
    """The divergence of whoever wrote `texts` (S, N) from the book, and its 95 % interval, in bits.

    Few texts lie farther from the book than many by the same hand, by chance alone. How much farther, a bootstrap
    over whole texts tells: a resample lies as much farther off than `texts`, as these than all that the hand could
    write (Efron and Tibshirani 1993, chapter 10). This bias is taken off once from the divergence, twice from the
    percentiles of the resamples, which have the chance of two drawings in them. What falls below 0 becomes 0. The
    book is taken as it is.
    """
    counts = token_counts(texts, frequent).astype(float)  # (S, K + 1); whole numbers have no fast matrix product
    resampled = times_drawn(len(counts), seed, resamples).astype(float) @ counts  # (R, K + 1)
    resampled /= resampled.sum(-1, keepdims=True)
    divergences = jensen_shannon(resampled, token_distribution(book_tokens, frequent))  # (R,)
    plain = divergence_from(texts, book_tokens, frequent)
    bias = divergences.mean() - plain
    low, high = np.quantile(divergences, [0.025, 0.975]) - 2 * bias
    return max(0.0, float(plain - bias)), (max(0.0, float(low)), max(0.0, float(high)))


def letter_tokens(tokenizer, vocab_size: int) -> np.ndarray:
    """Which ids are made of letters only, with or without one leading space: (V,) bool.

    Letters of any script (`str.isalpha`); bytes that are only a part of a character are none.

    Args:
        tokenizer: a tiktoken Encoding. Ids from its `n_vocab` on have no bytes and are no letters.
    """
    letters = np.zeros(vocab_size, dtype=bool)
    for token in range(min(vocab_size, tokenizer.n_vocab)):
        # U+FFFD, which stands for what is not UTF-8, is no letter.
        text = tokenizer.decode_single_token_bytes(token).decode("utf-8", errors="replace")
        letters[token] = text.removeprefix(" ").isalpha()
    return letters


def letters_ratio(texts: Tensor, frequent: Sequence[int], letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratio among words and parts of words: commas and line ends, the most frequent of all, are left out.

    Args:
        letters: (V,) bool, from `letter_tokens`.

    Returns:
        for each of `texts` (S, N), how many of its tokens are letters and frequent, and how many are letters:
        (S,) each. The ratio is that of their sums, `ratio_of_sums`: a text with few letters weighs little.
    """
    are_letters = letters[np.asarray(texts)]  # (S, N)
    return (are_letters & np.isin(texts, list(frequent))).sum(1), are_letters.sum(1)


def ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray) -> float:
    """The sum of `numerators` (S,) as a share of that of `denominators` (S,); 0 if there is nothing to share."""
    return float(numerators.sum() / max(denominators.sum(), 1))


def ratio_of_sums_interval(
    numerators: np.ndarray, denominators: np.ndarray, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """95 % percentile interval of `ratio_of_sums`, two whole numbers a text: a bootstrap over whole texts."""
    times = times_drawn(len(numerators), seed, resamples)  # (R, S)
    low, high = np.quantile((times @ numerators) / np.maximum(times @ denominators, 1), [0.025, 0.975])
    return float(low), float(high)


def sampler_mass(logits: Tensor, frequent_mask: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """The probability with which `sample_token` would draw a frequent token from each row of `logits` (B, V).

    Its mean over all steps of all texts is the *expected ratio*. It has the same mean as the ratio but not the
    chance of the last draw in it, only that of what was drawn before (Rao and Blackwell).

    Args:
        logits: what the sampler draws from: banned tokens are at -inf.
        frequent_mask: (V,) bool, on the device of the logits.

    Returns:
        (B,) float64.
    """
    if temperature == 0:
        return frequent_mask[logits.argmax(-1)].double()  # (B,)
    frequent = frequent_mask.expand_as(logits)  # (B, V)
    if top_k is not None and top_k < logits.shape[-1]:
        logits, ids = most_likely(logits, top_k)  # (B, K) each
        frequent = frequent_mask[ids]  # (B, K)
    probabilities = (logits.double() / temperature).softmax(-1)  # (B, V) or (B, K)
    return torch.where(frequent, probabilities, 0.0).sum(-1)  # (B,)
