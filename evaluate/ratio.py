"""The exercise's measure: which share of the tokens a model writes are among the book's most frequent?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.generators import START_TOKENS, generator
from data.settings import Sampling
from evaluate.intervals import Interval, t_interval
from model.device import exact_on
from model.sampling import generate, most_likely

# Sequences generated together on a CPU; on a GPU four times as many. It changes the numbers by rounding alone.
GROUP = 64


def most_frequent_tokens(tokens: Tensor, count: int = 100) -> list[int]:
    """The `count` most frequent ids in `tokens` (N,), most frequent first; ties are broken by the smaller id."""
    ids, counts = np.unique(tokens.cpu().numpy(), return_counts=True)  # ids ascend
    return ids[np.argsort(-counts, kind="stable")][:count].tolist()


def share_among(tokens: Tensor, frequent: Sequence[int]) -> Tensor:
    """The share of each row of `tokens` (..., T) that is in `frequent`: (...) float64."""
    return torch.isin(tokens, torch.tensor(frequent, device=tokens.device)).double().mean(-1)


def frequent_probability(logits: Tensor, frequent: Tensor, top_k: int | None = None) -> Tensor:
    """The probability that the model gives to the `frequent` ids (K,), from its `logits` (B, V): (B,) float64.

    With `top_k` it is that of a draw from the `top_k` most likely tokens. Averaged over all steps of all texts it is
    the ratio to be expected of texts drawn at temperature 1, up to chance.
    """
    logits = logits.to(exact_on(logits.device)).double()
    frequent = frequent.to(logits.device)
    if top_k is None or top_k >= logits.shape[-1]:
        return logits.softmax(-1)[:, frequent].sum(-1)
    values, ids = most_likely(logits, top_k)  # (B, K') each
    return (values.softmax(-1) * torch.isin(ids, frequent)).sum(-1)


@dataclass(frozen=True)
class Ratio:
    ratio: float  # share of all new tokens that are among the frequent ones
    ratio_ci: Interval | None  # its 95 % interval over the sequences
    shares: list[float]  # the same share, sequence by sequence
    without_top_k: np.ndarray  # (sequences,) mean `frequent_probability` over the steps of each sequence
    with_top_k: np.ndarray  # (sequences,) the same with the exercise's top-k
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
    starts, ids = torch.from_numpy(starts).to(device), torch.tensor(frequent, device=device)
    texts, probabilities, group = [], [], GROUP if starts.device.type == "cpu" else 4 * GROUP
    total = sampling.sequences * sampling.new_tokens
    with tqdm(total=total, desc=title, unit="token", leave=False, disable=None) as progress:
        for first in range(0, sampling.sequences, group):
            columns, of_steps = [starts[first : first + group, 0]], []
            for drawn, logits in generate(
                model,
                starts[first : first + group],
                sampling.new_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k or None,
                seed=sampling.seed,
                first_row=first,
                banned=banned,
            ):
                columns.append(drawn)  # (B,)
                both = [frequent_probability(logits, ids, top_k) for top_k in (None, Sampling.top_k)]
                of_steps.append(torch.stack(both))  # (2, B)
                progress.update(len(drawn))
            texts.append(torch.stack(columns, 1).cpu())  # (B, 1 + new_tokens)
            probabilities.append(torch.stack(of_steps).mean(0).cpu())  # (2, B)
    tokens = torch.cat(texts)  # (sequences, 1 + new_tokens)
    shares = share_among(tokens[:, 1:], frequent)  # (sequences,)
    expected = torch.cat(probabilities, 1).numpy()  # (2, sequences)
    return Ratio(shares.mean().item(), t_interval(shares.numpy()), shares.tolist(), *expected, tokens)
