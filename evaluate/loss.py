"""The loss on a whole text: how well a model predicts a text that it did not write."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.sampling import evaluating


def text_loss(model: Callable[[Tensor], Tensor], tokens: Tensor, seq_len: int, batch_size: int = 4) -> float:
    """Mean next-token cross-entropy of `model` over all of `tokens`, in nats per token; see `window_losses`."""
    return float(window_losses(model, tokens, seq_len, batch_size).mean())


def window_losses(model: Callable[[Tensor], Tensor], tokens: Tensor, seq_len: int, batch_size: int = 4) -> np.ndarray:
    """The loss of `model` on each window of `tokens`, in nats per token: (W,) float64.

    The text is cut into windows of `seq_len` inputs that do not overlap, each read from a fresh start, so every token
    but the first is predicted once. The losses of a window are summed and divided by the mean number of tokens in a
    window: a short last window weighs less, and the mean of all is the loss of the whole text.

    Args:
        model: maps token ids (B, T) to logits (B, T, V).
        tokens: a row of N >= 2 token ids, on the model's device.
        batch_size: windows computed together; the logits of 4 x 256 tokens are 0.2 GB for GPT-2.
    """
    sums = []  # (B,) each, looked at only in the end: each look at a GPU's numbers waits for it
    starts = range(0, len(tokens) - 1, seq_len)
    whole = [start for start in starts if start + seq_len < len(tokens)]
    groups = [whole[i : i + batch_size] for i in range(0, len(whole), batch_size)]
    if len(whole) < len(starts):
        groups.append([starts[-1]])  # the last window is shorter than the others
    for group in groups:
        windows = torch.stack([tokens[start : start + seq_len + 1] for start in group]).long()  # (B, T + 1)
        with evaluating(model):
            logits = model(windows[:, :-1])  # (B, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten(), reduction="none")  # (B * T,)
        sums.append(losses.view(len(group), -1).sum(1))  # (B,)
    return torch.cat(sums).cpu().double().numpy() * len(starts) / (len(tokens) - 1)
