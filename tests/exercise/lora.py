"""LoRA: train two thin matrices beside each linear layer (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language
Models").

A linear layer  y = W x + b  becomes

    y = W x + b + (alpha / r) B A x

where W and b are frozen, and only A and B are trained: A takes x to r numbers, B takes these to the layer's outputs.
B A has the shape of W, but its rank is at most r. B is zero at first, so the model begins as the base model.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from model.gpt2 import GPT2


class LoRALinear(nn.Module):
    """The frozen layer `linear` with A (r, inputs) and B (outputs, r) beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        """Draw A from torch's global generator, with a variance of 1 / inputs; B is zero."""
        super().__init__()
        self.linear, self.scale = linear, alpha / rank
        self.A = nn.Parameter(torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features))
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        low = F.linear(x, self.A)  # (..., r)
        return self.linear(x) + self.scale * F.linear(low, self.B)  # (..., outputs)


def add_lora(model: GPT2, rank: int = 8, alpha: float = 8) -> list[Tensor]:
    """Freeze `model` and replace the linear layers of its blocks; returns every A and B, for the optimizer."""
    model.requires_grad_(False)
    for block in model.h:
        for part in (block.attn, block.mlp):
            for name in ("c_attn", "c_fc", "c_proj"):
                if hasattr(part, name):
                    setattr(part, name, LoRALinear(getattr(part, name), rank, alpha))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@torch.no_grad()
def merge(model: GPT2) -> None:
    """Add  (alpha / r) B A  to each W and put the linear layers back: a GPT-2 as before, which can be saved."""
    for block in model.h:
        for part in (block.attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, LoRALinear):
                    layer.linear.weight += layer.scale * layer.B @ layer.A  # (outputs, inputs)
                    setattr(part, name, layer.linear)
    model.requires_grad_(True)
