"""Linear layers whose weights lie ready for the product: for sampling, where they meet a few rows again and again.

A fast product x W^T reads W in blocks of an order of its own, and `F.linear` first copies W into that order, every
time. Beside the 4,096 rows of a training step that is little. But ten sequences that each get one more token
make ten rows: then the copy costs as much as the product. As the weights stay what they are while a text is
written, they can be put into that order once. With the weights of GPT-2 124M, two CPU cores and ten rows, that
makes `c_attn` 170 microseconds instead of 270 in bfloat16 and 380 instead of 700 in float32, and the head 3.1 ms
instead of 4.8 and 7.1 instead of 21, close to what reading W from memory takes. The price is a second copy of the
weights for as long as the text is written.

PyTorch hands products on the CPU to the library oneDNN. The operations used here are those that PyTorch's own
compiler puts into a frozen model; they have no public name, so `can_pack` asks whether they are there.

Shape legend: I inputs, O outputs.
"""

from copy import copy

import torch
import torch.nn as nn
from torch import Tensor

from model.gpt2 import MLP


def can_pack(weight: Tensor) -> bool:
    """Whether `PackedLinear` works for a `weight` of this dtype, where it is."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if weight.device.type != "cpu" or not there:
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


class PackedLinear(nn.Module):
    """`F.linear` with a `weight` (O, I) put in order once, and a `bias` (O,), for `rows` rows or about as many."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, gelu: bool = False):
        super().__init__()
        # In bfloat16 the order that oneDNN has for one row is the fastest up to 16, which is what the CPU's
        # matrix unit takes at once: 3 % of the time of writing ten sequences. In float32 it is the slower one.
        for_rows = 1 if weight.dtype == torch.bfloat16 and rows <= 16 else None
        # No parameters: nobody can train or save them, their order is known to oneDNN alone.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), for_rows)
        self.bias = None if bias is None else bias.detach()
        self.afterwards = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.afterwards)  # (..., O)


class PackedMLP(nn.Module):
    """`MLP` without dropout. The first product applies the GELU to its sums while it has them in hand.

    As an operation of its own the GELU takes 6 % of the time of writing 64 sequences in bfloat16; so it is free.
    """

    def __init__(self, mlp: MLP, rows: int):
        super().__init__()
        self.c_fc = PackedLinear(mlp.c_fc.weight, mlp.c_fc.bias, rows, gelu=True)
        self.c_proj = PackedLinear(mlp.c_proj.weight, mlp.c_proj.bias, rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.c_fc(x))


def pack(module: nn.Module, rows: int) -> nn.Module:
    """A copy of `module`, which must be in eval mode, with its linear layers packed; the rest is shared with it.

    Args:
        rows: how many the layers will mostly be given. It changes the speed and nothing else.
    """
    if isinstance(module, MLP):
        return PackedMLP(module, rows)
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, module.bias, rows)
    packed = copy(module)
    packed._modules = {name: pack(part, rows) for name, part in module.named_children()}
    return packed
