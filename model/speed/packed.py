"""Linear layers with packed weights, for sampling, where the same weights are multiplied by a few rows many times.

A fast product x W^T reads W in blocks that have their own order, and `F.linear` copies W into that order every
time. For the 4,096 rows of a training step the copy is cheap. But ten sequences that each get one more token
are ten rows, and then the copy costs as much as the product. The weights do not change while a text is
written, so they can be put into that order once. With the weights of GPT-2 124M, two CPU cores and ten rows,
`c_attn` takes 170 microseconds instead of 270 in bfloat16 and 380 instead of 700 in float32, and the head 3.1 ms
instead of 4.8 and 7.1 instead of 21, close to the time for reading W from memory. The price is a second copy of
the weights while the text is written.

PyTorch computes products on the CPU with the library oneDNN. The operations used here are those that PyTorch's
compiler puts into a frozen model; they have no public name, so `can_pack` checks whether they exist.

Shape legend: I inputs, O outputs.
"""

from copy import copy

import torch
import torch.nn as nn
from torch import Tensor

from model.gpt2 import MLP


def can_pack(weight: Tensor) -> bool:
    """Whether `PackedLinear` works for the dtype and device of `weight`."""
    exists = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if weight.device.type != "cpu" or not exists:
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32


class PackedLinear(nn.Module):
    """`F.linear` with a packed `weight` (O, I) and a `bias` (O,), for about `rows` rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int, gelu: bool = False):
        super().__init__()
        # In bfloat16 oneDNN's order for one row is the fastest up to 16 rows, which the CPU's matrix unit
        # processes at once: it saves 3 % of the time of writing ten sequences. In float32 it is slower.
        for_rows = 1 if weight.dtype == torch.bfloat16 and rows <= 16 else None
        # No parameters: they cannot be trained or saved, since only oneDNN knows their order.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), for_rows)
        self.bias = None if bias is None else bias.detach()
        self.afterwards = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.afterwards)  # (..., O)


class PackedMLP(nn.Module):
    """`MLP` without dropout, with the GELU fused into the first product.

    As a separate operation the GELU takes 6 % of the time of writing 64 sequences in bfloat16; fused it takes none.
    """

    def __init__(self, mlp: MLP, rows: int):
        super().__init__()
        self.c_fc = PackedLinear(mlp.c_fc.weight, mlp.c_fc.bias, rows, gelu=True)
        self.c_proj = PackedLinear(mlp.c_proj.weight, mlp.c_proj.bias, rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.c_fc(x))


def pack(module: nn.Module, rows: int) -> nn.Module:
    """Return a copy of `module`, which must be in eval mode, with its linear layers packed and the rest shared.

    Args:
        rows: the usual number of input rows. It changes only the speed.
    """
    if isinstance(module, MLP):
        return PackedMLP(module, rows)
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, module.bias, rows)
    packed = copy(module)
    packed._modules = {name: pack(part, rows) for name, part in module.named_children()}
    return packed
