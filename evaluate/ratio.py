"""The exercise's measure: which share of the tokens a model writes are among the book's most frequent?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.generators import BOOTSTRAP, START_TOKENS, generator
from data.settings import Sampling
from model.device import exact_on
from model.sampling import generate

# Sequences that are generated together. It changes the speed, not the numbers: see `generate`.
GROUP = 64


def most_frequent_tokens(tokens: Tensor, count: int = 100) -> list[int]:
    """The `count` most frequent ids in `tokens` (N,), most frequent first; ties are broken by the smaller id."""
    ids, counts = np.unique(tokens.cpu().numpy(), return_counts=True)  # ids ascend
    return ids[np.argsort(-counts, kind="stable")][:count].tolist()


def share_among(tokens: Tensor, frequent: Sequence[int]) -> Tensor:
    """The share of each row of `tokens` (..., T) that is in `frequent`: (...) float64."""
    return torch.isin(tokens, torch.tensor(frequent, device=tokens.device)).double().mean(-1)


def frequent_probability(logits: Tensor, frequent: Tensor) -> Tensor:
    """The probability that the model gives to the `frequent` ids (K,), from its `logits` (B, V): (B,) float64.

    Averaged over all steps of all texts it is the ratio of texts drawn at temperature 1 without top-k, up to chance.
    """
    logits = logits.to(exact_on(logits.device)).double()
    return logits.softmax(-1)[:, frequent.to(logits.device)].sum(-1)


@dataclass(frozen=True)
class Ratio:
    ratio: float  # share of all new tokens that are among the frequent ones
    ratio_ci: tuple[float, float]  # its 95 % interval
    shares: list[float]  # the same share, sequence by sequence
    untruncated: np.ndarray  # (sequences,) mean `frequent_probability` over the steps of each sequence
    tokens: Tensor  # (sequences, 1 + new_tokens) the texts themselves, start tokens first


def frequent_token_ratio(
    model: Callable[[Tensor], Tensor],
    frequent: Sequence[int],
    sampling: Sampling = Sampling(),
    *,
    vocab_size: int,
    banned: Sequence[int] = (),
    device: torch.device | str = "cpu",
    title: str = "writing",
) -> Ratio:
    """Let `model` write from random tokens, and count.

    Each sequence starts from one token drawn uniformly from the vocabulary; the start is not
    counted. Start tokens and draws depend on `sampling.seed` alone, so every model is asked the same.

    Args:
        model: maps token ids (B, T) to logits (B, T, V).
        frequent: ids of the book's most frequent tokens.
        vocab_size: of the tokenizer; a model may have rows beyond it that stand for no text.
        banned: ids that are never sampled: `<|endoftext|>`, after which another text would begin.
        title: of the progress bar.
    """
    starts = generator(START_TOKENS, sampling.seed).integers(vocab_size, size=(sampling.sequences, 1))
    starts, ids = torch.from_numpy(starts).to(device), torch.tensor(frequent)
    texts, probabilities = [], []
    total = sampling.sequences * sampling.new_tokens
    with tqdm(total=total, desc=title, unit="token", leave=False, disable=None) as progress:
        for first in range(0, sampling.sequences, GROUP):
            columns, of_steps = [starts[first : first + GROUP, 0]], []
            for drawn, logits in generate(
                model,
                starts[first : first + GROUP],
                sampling.new_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k or None,
                seed=sampling.seed,
                first_row=first,
                banned=banned,
            ):
                columns.append(drawn)  # (B,)
                of_steps.append(frequent_probability(logits, ids))  # (B,)
                progress.update(len(drawn))
            texts.append(torch.stack(columns, 1).cpu())  # (B, 1 + new_tokens)
            probabilities.append(torch.stack(of_steps).mean(0).cpu())  # (B,)
    tokens = torch.cat(texts)  # (sequences, 1 + new_tokens)
    shares = share_among(tokens[:, 1:], frequent)  # (sequences,)
    interval = bootstrap_interval(shares.numpy(), sampling.seed)
    return Ratio(shares.mean().item(), interval, shares.tolist(), torch.cat(probabilities).numpy(), tokens)


def bootstrap_interval(values: np.ndarray, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` (n,) (Efron 1979).

    The values must be those of whole sequences. Tokens of one sequence are not independent: an interval
    over single tokens would come out too narrow.
    """
    picks = generator(BOOTSTRAP, seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
