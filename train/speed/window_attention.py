"""Attention window by window, for bfloat16 on the CPU: the same numbers as `attention` in gpt2.py, and their gradients.

PyTorch's own kernel (`F.scaled_dot_product_attention`) walks over each window in small blocks and never holds its
T x T scores. In bfloat16 its products are then too small for a CPU to be fast at: on two cores with AVX-512 it takes
0.8 s of a step of 5 s, this 0.4. Here a window's heads are multiplied together, and as only one window at a time is
under way its scores, 1.5 MB for GPT-2 124M, stay in the cache from one operation to the next. Nothing of them is
kept: backward makes them again, as the kernel does too. In float32 the kernel is as fast, and holds less.

Shape legend: B windows, H heads, T tokens, D width of a head.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def _windows(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Of (B, H, T, D) each the B windows, (H, T, D) each, in one piece: products copy what is not, every time."""
    for window in zip(*tensors):
        yield [part.contiguous() for part in window]


def _future(x: Tensor) -> Tensor:
    """(T, T): what is added to a window's scores, -inf where a position would see the future."""
    T = x.shape[-2]
    return x.new_full((T, T), -math.inf).triu(1)


def _centred(k: Tensor) -> Tensor:
    """Keys (H, T, D) without what all of them have in common.

    It shifts all scores of a query alike, which softmax does not see, and so gets no gradient. But the further a score
    lies from zero, the more it loses to a bfloat16: without it the gradients are about as exact as the kernel's.
    """
    return k - k.mean(-2, keepdim=True)


def _weights(q: Tensor, k: Tensor, future: Tensor) -> Tensor:
    """(H, T, T): how much of each value every position of a window gets, softmax(q k^T / sqrt(D) + future)."""
    return torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(q.shape[-1])).softmax(-1)


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        future = _future(q)
        return torch.stack([_weights(q, _centred(k), future) @ v for q, k, v in _windows(q, k, v)])  # (B, H, T, D)

    @staticmethod
    def backward(ctx, y_grad: Tensor) -> tuple[Tensor, ...]:
        future, gradients = _future(y_grad), []
        for q, k, v, dy in _windows(*ctx.saved_tensors, y_grad):  # (H, T, D) each
            k = _centred(k)
            p = _weights(q, k, future)  # (H, T, T)
            dp = dy @ v.mT  # (H, T, T)
            # Through the softmax,  p (dp - sum over s of p dp),  and the root that scores are divided by.
            ds = (dp - (p * dp).sum(-1, keepdim=True)) * p / math.sqrt(q.shape[-1])  # (H, T, T)
            gradients.append((ds @ k, ds.mT @ q, p.mT @ dy))
        return tuple(torch.stack(part) for part in zip(*gradients))  # (B, H, T, D) each


def window_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries, keys and values (B, H, T, D) each to what each position gets, (B, H, T, D)."""
    return _WindowAttention.apply(q, k, v)
