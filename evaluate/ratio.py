"""The exercise's measure: which share of the tokens a model writes are among the book's most frequent?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.generators import BOOTSTRAP, START_TOKENS, generator
from data.settings import Sampling
from model.sampling import generate

# Sequences that are generated together. It changes the speed, not the numbers: see `generate`.
GROUP = 64


def most_frequent_tokens(tokens: Tensor, count: int = 100) -> list[int]:
    """The `count` most frequent ids in `tokens` (N,), most frequent first; of equals the smaller id comes first."""
    ids, counts = np.unique(tokens.cpu().numpy(), return_counts=True)  # ids ascend
    return ids[np.argsort(-counts, kind="stable")][:count].tolist()


def share_among(tokens: Tensor, frequent: Sequence[int]) -> Tensor:
    """The share of each row of `tokens` (..., T) that is in `frequent`: (...) float64."""
    return torch.isin(tokens, torch.tensor(frequent, device=tokens.device)).double().mean(-1)


@dataclass(frozen=True)
class Ratio:
    ratio: float  # share of all new tokens that are among the frequent ones
    ratio_ci: tuple[float, float]  # its 95 % interval
    shares: list[float]  # the same share, sequence by sequence
    tokens: Tensor  # (sequences, 1 + new_tokens) the texts themselves, start tokens first


def write_groups(
    model: Callable[[Tensor], Tensor],
    sampling: Sampling = Sampling(),
    *,
    vocab_size: int,
    banned: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Iterator[tuple[Tensor, Tensor]]]]:
    """Let `model` write from random tokens, up to GROUP sequences together.

    Each sequence starts from one token drawn uniformly from the vocabulary. Start tokens and draws depend
    on `sampling.seed` alone, so every model is asked the same.

    Args:
        model: maps token ids (B, T) to logits (B, T, V).
        vocab_size: of the tokenizer; a model may have rows beyond it that stand for no text.
        banned: ids that are never sampled: `<|endoftext|>`, after which another text would begin.

    Yields:
        for each group, its start tokens (B, 1) and the steps of `generate` that continue them.
    """
    starts = generator(START_TOKENS, sampling.seed).integers(vocab_size, size=(sampling.sequences, 1))
    starts = torch.from_numpy(starts).to(device)
    for first in range(0, sampling.sequences, GROUP):
        group = starts[first : first + GROUP]
        yield group, generate(
            model,
            group,
            sampling.new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k or None,
            seed=sampling.seed,
            first_row=first,
            banned=banned,
        )


def frequent_token_ratio(
    model: Callable[[Tensor], Tensor], frequent: Sequence[int], sampling: Sampling = Sampling(), **options
) -> Ratio:
    """Let `model` write from random tokens, and count; the start tokens are not counted.

    Args:
        frequent: ids of the book's most frequent tokens.
        options: of `write_groups`.
    """
    texts = [
        torch.cat([starts, *(drawn[:, None] for drawn, _ in steps)], dim=1).cpu()  # (B, 1 + new_tokens)
        for starts, steps in write_groups(model, sampling, **options)
    ]
    return ratio_of(torch.cat(texts), frequent, sampling.seed)


def ratio_of(tokens: Tensor, frequent: Sequence[int], seed: int) -> Ratio:
    """The ratio of the texts `tokens` (sequences, 1 + new_tokens), whose start tokens are not counted."""
    shares = share_among(tokens[:, 1:], frequent)  # (sequences,)
    return Ratio(shares.mean().item(), bootstrap_interval(shares.numpy(), seed), shares.tolist(), tokens)


def bootstrap_interval(values: np.ndarray, seed: int = 0, resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` (n,) (Efron 1979).

    The values must be those of whole sequences. Tokens of one sequence hang together: an interval
    over single tokens would treat them as independent and come out too narrow.
    """
    picks = generator(BOOTSTRAP, seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
