"""Batches: windows at random places in a text.

Shape legend: B windows a batch, T input tokens a window.
"""

import torch
from torch import Tensor

from data.generators import BATCHES, generator


def sample_batch(tokens: Tensor, batch_size: int, seq_len: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Batch number `step`: B windows of `tokens`, whose starts are drawn uniformly.

    A pure function of its arguments: every learning rate sees the same batches in the same order, a resumed run
    continues with the next batch, and evaluations during training do not change the batches.

    Args:
        tokens: (N,) the token ids of the text, with N > seq_len. The batch is on their device.
        seed, step: non-negative integers; together they seed the generator.

    Returns:
        inputs and targets, (B, T) int64 each; a target is the token after its input.
    """
    if len(tokens) <= seq_len:
        raise ValueError(f"a window needs {seq_len + 1} tokens, the text has {len(tokens)}; use a smaller seq_len")
    starts = generator(BATCHES, seed, step).integers(len(tokens) - seq_len, size=batch_size)  # (B,)
    # The largest start is N - seq_len - 1; the last target of its window is the last token.
    windows = torch.stack([tokens[start : start + seq_len + 1] for start in starts]).long()  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]
