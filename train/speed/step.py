"""Gradients in less time than `plain_gradients` of loop.py, equal to them up to rounding.

On two CPU cores the plain step spends half its time outside the matrix products. Weights, moments and updates stay
in float32 here too.

Shape legend: B windows, T tokens, C width, H heads, D width of a head.
"""

import ctypes
import math
import platform

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from model.gpt2 import GPT2, Attend
from train.loop import Gradients
from train.speed.chunked_loss import Leash, chunked_next_token_loss, head_cross_entropy, padded_head
from train.speed.recorded import RecordedGradients


def _one_window(q: Tensor, k: Tensor, v: Tensor, future: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D) + future) v for queries, keys and values (H, T, D) each: (H, T, D)."""
    # The mean key adds the same number to all scores of a query, which softmax ignores. But bfloat16 rounds large
    # scores more coarsely: without the mean the gradients are about as exact as those of PyTorch's kernel.
    k = k - k.mean(-2, keepdim=True)
    return torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(q.shape[-1])).softmax(-1) @ v


def window_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """`attention` of gpt2.py one window at a time, for bfloat16 on the CPU: (B, H, T, D) each to (B, H, T, D).

    PyTorch's kernel (`F.scaled_dot_product_attention`) computes a window in small blocks and never holds its T x T
    scores. In bfloat16 such products are too small for a CPU to be fast. Here one product has all heads of a window,
    and the scores of the window, 1.5 MB for GPT-2 124M, stay in the cache from one operation to the next. `checkpoint`
    does not save them: backward computes them again, as the kernel does. In float32 the kernel is as fast and needs
    less memory.
    """
    T = q.shape[-2]
    future = q.new_full((T, T), -math.inf).triu(1)  # (T, T), added to the scores
    windows = zip(*(tensor.contiguous() for tensor in (q, k, v)))  # products would copy what is not contiguous
    # No random numbers are drawn, so their state need not be saved.
    options = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.stack([checkpoint(_one_window, *window, future, **options) for window in windows])  # (B, H, T, D)


class _Transform(nn.Module):
    """The model between embedding and head as a module, which `functional_call` can give other weights."""

    def __init__(self, model: GPT2, attend: Attend):
        super().__init__()
        self.model, self.attend = model, attend

    def forward(self, x: Tensor) -> Tensor:
        for block in self.model.h:
            x = block(x, self.attend)  # (B, T, C)
        return self.model.ln_f(x)


def _kept(saved: Tensor) -> Tensor | tuple:
    """What autograd keeps of a tensor that backward needs. Of a GELU's output, 4 C wide, only the operation that made
    it, which holds its input: 0.3 GB of GPT-2 124M's activations, for the time of one more GELU."""
    made = saved.grad_fn
    while type(made).__name__ == "ViewBackward0":
        made = made.next_functions[0][0]
    return (made, saved.shape) if type(made).__name__ == "GeluBackward0" else saved


def _made_again(kept: Tensor | tuple) -> Tensor:
    return kept if isinstance(kept, Tensor) else F.gelu(kept[0]._saved_self, approximate="tanh").view(kept[1])


def bfloat16_loss(model: GPT2, inputs: Tensor, targets: Tensor, leash: Leash = None) -> Tensor:
    """The loss with weights and activations in bfloat16, whose products are five times as fast as float32's.

    Each weight is cast once, by an operation that autograd records: forward and backward use the same bfloat16 copy,
    and the gradient returns as float32. The embeddings need no products: the rows that are looked up are rounded, and
    the head casts its own copy. (Autocast would keep float32 between the products and cast around each.) A bfloat16
    has the range of a float32 and 8 significant bits, a step of 1/256. That is enough for one product among thousands
    that are summed in float32, and too little for the weights: an update of 1e-6 would be lost.
    """
    weights = {
        f"model.{name}": p.to(torch.bfloat16)
        for name, p in model.named_parameters()
        if name not in ("wte.weight", "wpe.weight")  # looked up in float32: a few rows to round, not a table
    }
    x = model.embed(inputs).to(torch.bfloat16)  # (B, T, C)
    with saved_tensors_hooks(_kept, _made_again):
        x = functional_call(_Transform(model, fastest_attention(model)), weights, (x,))  # (B, T, C)
    return head_cross_entropy(x, model.wte.weight, targets, torch.bfloat16, leash)


def fastest_attention(model: GPT2) -> Attend:
    """The attention to use in bfloat16. On a GPU torch's own is faster; with dropout only torch's works."""
    on_cpu = model.wte.weight.device.type == "cpu"
    return window_attention if on_cpu and not model.config.dropout else model.attend


def fast_gradients(
    dtype: torch.dtype, micro_batch: int | None = None, base: GPT2 | None = None, beta: float = 0.0
) -> Gradients:
    """A replacement for `plain_gradients`: products in `dtype`, `micro_batch` windows at a time.

    The mean over a batch is the weighted sum of the means over its parts, and so are the gradients. Parts computed one
    after another need memory for the activations of one part only.

    Args:
        base: with a `beta` above 0 the gradients are those of `leashed` in train/levers.py, up to rounding. Its weights
            are in `dtype`.
    """
    loss_of = bfloat16_loss if dtype == torch.bfloat16 else chunked_next_token_loss
    recorded = RecordedGradients(loss_of)
    head = padded_head(base.wte.weight, base.wte.weight.dtype) if beta else None

    def leash_on(inputs: Tensor) -> Leash:
        if not beta:
            return None
        attend = fastest_attention(base) if dtype == torch.bfloat16 else base.attend
        with torch.no_grad():
            return _Transform(base, attend)(base.embed(inputs)).flatten(0, 1), head, beta

    def gradients(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        several = micro_batch or beta or model.config.dropout or dist.is_initialized()
        if inputs.device.type == "cuda" and not several:
            return recorded(model, inputs, targets)
        B = len(inputs)
        losses = []
        if micro_batch is not None:
            # Allocated before the activations of the first part: between them they would fragment the memory, and
            # what is freed around them would not fit the next part.
            for p in filter(lambda p: p.requires_grad, model.parameters()):
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for start in range(0, B, micro_batch or B):
            part = slice(start, start + (micro_batch or B))
            loss = loss_of(model, inputs[part], targets[part], leash_on(inputs[part])) * (len(inputs[part]) / B)
            loss.backward()
            losses.append(loss.detach())
        return sum(torch.stack(losses).tolist())  # one copy: reading a number waits for the GPU

    return gradients


def keep_memory() -> bool:
    """Ask the C library to keep freed memory for the next step; returns whether it agreed.

    By default buffers of hundreds of MB go back to the kernel and are allocated again in every step, and the kernel
    clears each page: 4 GB a step are a million page faults. A step of GPT-2 124M in bfloat16 took 3.4 s with this and
    4.8 s without.
    """
    if platform.system() != "Linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is None:
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    # No block is mapped separately, and the heap is never trimmed.
    return all(
        mallopt(option, value) for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 1 << 26))
    )
