"""Batches: windows at random places in one long row of tokens.

Shape legend: B windows a batch, T input tokens a window.
"""

import torch
from torch import Tensor

from data.generators import BATCHES, generator


def sample_batch(tokens: Tensor, batch_size: int, seq_len: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Batch number `step`: B windows that start anywhere in `tokens` with equal chance.

    A pure function of its arguments: every learning rate sees the same batches in the same order, a
    resumed run goes on with the batch it would have had, and nothing that is evaluated in between
    can shift them.

    Args:
        tokens: the text, a row of N > seq_len token ids.
        seed, step: non-negative integers; together they seed the generator.

    Returns:
        inputs and targets, (B, T) int64 each; a target is the token after its input.

    Raises:
        ValueError: the text is too short for one window and its last target.
    """
    if len(tokens) <= seq_len:
        raise ValueError(f"a window needs {seq_len + 1} tokens, the text has {len(tokens)}; use a smaller seq_len")
    starts = generator(BATCHES, seed, step).integers(len(tokens) - seq_len, size=batch_size)  # (B,)
    # The last start is N - seq_len - 1: its last target is the very last token.
    windows = torch.stack([tokens[start : start + seq_len + 1] for start in starts]).long()  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]
