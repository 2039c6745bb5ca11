"""The loss on a whole text: how well a model predicts a text that it did not write."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from model.sampling import evaluating


def text_loss(model: Callable[[Tensor], Tensor], tokens: Tensor, seq_len: int, batch_size: int = 4) -> float:
    """Mean next-token cross-entropy of `model` over all of `tokens`, in nats per token.

    The text is cut into windows of `seq_len` inputs that do not overlap, each read from a fresh
    start, so every token but the first is predicted once. The losses are summed and divided once: a
    mean of the batches' means would weigh the tokens of a short last window more than the others.

    Args:
        model: maps token ids (B, T) to logits (B, T, V).
        tokens: a row of N >= 2 token ids, on the model's device.
        batch_size: windows computed together; the logits of 4 x 256 tokens are 0.2 GB for GPT-2.
    """
    sums = []  # () each, looked at only in the end: each look at a GPU's numbers waits for it
    starts = range(0, len(tokens) - 1, seq_len)
    whole = [start for start in starts if start + seq_len < len(tokens)]
    groups = [whole[i : i + batch_size] for i in range(0, len(whole), batch_size)]
    if len(whole) < len(starts):
        groups.append([starts[-1]])  # the last window is shorter than the others
    for group in groups:
        windows = torch.stack([tokens[start : start + seq_len + 1] for start in group]).long()  # (B, T + 1)
        with evaluating(model):
            logits = model(windows[:, :-1])  # (B, T, V)
        sums.append(F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten(), reduction="sum"))
    return sum(torch.stack(sums).tolist()) / (len(tokens) - 1)
