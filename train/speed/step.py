"""Where the time of a training step goes, and how to get it back without changing the experiment.

The plain step of `loop.py` on two CPU cores spends half its time outside the matrix products. Each
trick below has a place of its own; together they replace `plain_gradients` and `AdamW` in the loop
and give the same numbers up to rounding. Weights, moments and updates stay in float32 throughout.
"""

import ctypes
import platform
from collections.abc import Callable

import torch
import torch.nn as nn
from torch import Tensor
from torch.func import functional_call

from model.gpt2 import GPT2, Attend
from train.speed.chunked_loss import chunked_next_token_loss, head_cross_entropy
from train.speed.window_attention import window_attention


class _Transform(nn.Module):
    """The model between embedding and head as a module, so that it can be called with other weights than its own."""

    def __init__(self, model: GPT2, attend: Attend):
        super().__init__()
        self.model, self.attend = model, attend

    def forward(self, x: Tensor) -> Tensor:
        for block in self.model.h:
            x = block(x, self.attend)  # (B, T, C)
        return self.model.ln_f(x)


def bfloat16_loss(model: GPT2, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss with weights and activations rounded to bfloat16, five times as fast to multiply as float32.

    A cast that autograd knows leads from each float32 weight to its bfloat16 copy, made once here and
    used by both directions; the gradients come back through it in float32. The embeddings are no
    products: the rows looked up are rounded, and the head makes its own copy. (Autocast keeps float32
    between the products and casts forth and back around each.) A bfloat16 has the range of a float32
    and 8 significant bits, a step of 1/256: enough for a product among thousands that are summed in
    float32, far too little for the weights themselves, where a step of 1e-6 would vanish.
    """
    weights = {
        f"model.{name}": p.to(torch.bfloat16)
        for name, p in model.named_parameters()
        if name not in ("wte.weight", "wpe.weight")  # looked up in float32: a few rows to round, not a table
    }
    x = model.embed(inputs).to(torch.bfloat16)  # (B, T, C)
    # On a GPU torch's own attention is the fast one, and it alone knows dropout.
    attend = window_attention if x.device.type == "cpu" and not model.config.dropout else model.attend
    x = functional_call(_Transform(model, attend), weights, (x,))  # (B, T, C)
    return head_cross_entropy(x, model.wte.weight, targets, torch.bfloat16)


def loss_in(dtype: torch.dtype) -> Callable[[GPT2, Tensor, Tensor], Tensor]:
    """The next-token loss with its matrix products in `dtype`; never all logits at once."""
    return bfloat16_loss if dtype == torch.bfloat16 else chunked_next_token_loss


def fast_gradients(dtype: torch.dtype, micro_batch: int | None = None) -> Callable[[GPT2, Tensor, Tensor], float]:
    """A stand-in for `plain_gradients`: the same gradients, made in `dtype`, `micro_batch` windows at a time.

    Activations take memory for every window that is under way. The mean over a batch is the weighted
    sum of the means over its parts, and so are its gradients: parts one after another need the memory
    of one part.
    """
    loss_of = loss_in(dtype)

    def gradients(model: GPT2, inputs: Tensor, targets: Tensor) -> float:
        B = len(inputs)
        losses = []
        if micro_batch is not None:
            # The sums are there before the first part's activations: made between them, they would lie
            # scattered, and the memory freed around them would not fit the next part.
            for p in model.parameters():
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for start in range(0, B, micro_batch or B):
            part = slice(start, start + (micro_batch or B))
            loss = loss_of(model, inputs[part], targets[part]) * (len(inputs[part]) / B)
            loss.backward()
            losses.append(loss.detach())
        return sum(torch.stack(losses).tolist())  # all at once: each look at a GPU's numbers waits for it

    return gradients


def keep_memory() -> bool:
    """Ask the C library to keep freed memory for the next step; returns whether it was asked.

    Otherwise buffers of hundreds of MB go back to the kernel and are taken again at every step, and the kernel clears
    each page again: 4 GB a step are a million page faults. A step of GPT-2 124M in bfloat16 took 3.4 s with it and
    4.8 s without.
    """
    if platform.system() != "Linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is None:
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    # No block gets a mapping of its own, and the heap is never trimmed.
    return all(
        mallopt(option, value) for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 1 << 26))
    )
