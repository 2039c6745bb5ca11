"""Attention window by window, for bfloat16 on the CPU: the same numbers as `attention` in gpt2.py, and their gradients.

PyTorch's own kernel (`F.scaled_dot_product_attention`) goes through each window in small blocks and never holds its
T x T scores. In bfloat16 its products are then too small for a CPU to be fast. Here the heads of one window are multiplied
together, and as only one window at a time is computed, its scores, 1.5 MB for GPT-2 124M, stay in the cache from one
operation to the next. `checkpoint` keeps none of them: backward computes them again, as the kernel does too. In float32
the kernel is as fast, and needs less memory.

Shape legend: B windows, H heads, T tokens, D width of a head.
"""

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def _one_window(q: Tensor, k: Tensor, v: Tensor, future: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D) + future) v for queries, keys and values (H, T, D) each: (H, T, D)."""
    # What all keys have in common shifts all scores of a query alike, which softmax does not see. But the further a
    # score lies from zero, the more it loses to bfloat16: without it, gradients are about as exact as the kernel's.
    k = k - k.mean(-2, keepdim=True)
    return torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(q.shape[-1])).softmax(-1) @ v


def window_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Queries, keys and values (B, H, T, D) each to the output of attention, (B, H, T, D); `dropout` must be 0."""
    T = q.shape[-2]
    future = q.new_full((T, T), -math.inf).triu(1)  # (T, T), added to the scores
    windows = zip(*(tensor.contiguous() for tensor in (q, k, v)))  # products would copy what is not contiguous
    outputs = [checkpoint(_one_window, *window, future, use_reentrant=False, preserve_rng_state=False) for window in windows]
    return torch.stack(outputs)  # (B, H, T, D)
