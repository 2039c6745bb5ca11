"""GPT-2, written out: token ids in, next-token logits out.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Every module has the name
that it has in OpenAI's checkpoint, so the file of weights can be read beside this one.

Shape legend
    B  batch: sequences computed together      C  n_embd, the width of the residual stream
    T  time: tokens in a sequence              V  vocab_size
    H  n_head                                  D  C / H, the width of one head
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # a way to compute `attention`, with its arguments


@dataclass(frozen=True)
class GPT2Config:
    """Sizes and settings of a GPT-2. The defaults are GPT-2 124M."""

    vocab_size: int = 50257
    block_size: int = 1024  # longest sequence, in tokens: one learned position each
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    layer_norm_epsilon: float = 1e-5
    dropout: float = 0.0  # probability; 0 switches it off


def attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(D)) v with a causal mask (Vaswani et al. 2017, "Attention Is All You Need").

    Each position asks with its query; the better a key matches, the larger the weight of that position's value.
    Queries, keys, values and the output are (B, H, T, D) each. `dropout` is the probability that a weight is dropped.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, T): row t asks, column s answers
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)  # (B, H, T, T): s > t
    weights = scores.masked_fill(future, -math.inf).softmax(-1)  # (B, H, T, T): every row sums to 1
    return F.dropout(weights, dropout) @ v  # (B, H, T, D)


class CausalSelfAttention(nn.Module):
    """Every position attends to itself and to earlier positions, with H heads of width D in parallel."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one matrix
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, attend: Attend = attention) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=-1)  # (B, T, C) each
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, H, T, D)
        y = attend(q, k, v, self.dropout if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).flatten(2)  # (B, T, C), the heads side by side
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide in the middle; each position separately."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        # OpenAI trained with the tanh approximation. The exact (erf) GELU, PyTorch's default, raises no
        # error and differs by up to 5e-4 per unit in every layer.
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream; the norms come first (pre-norm)."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, attend: Attend = attention) -> Tensor:
        x = x + self.attn(self.ln_1(x), attend)
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """`GPT2(config)(tokens)` maps token ids (B, T) to next-token logits (B, T, V).

    The weights are initialised as for GPT-2's own training, from torch's global generator: call
    `torch.manual_seed` first to make them repeatable. `attend` may be a faster way to compute `attention`.
    """

    def __init__(self, config: GPT2Config, attend: Attend = attention):
        super().__init__()
        self.config = config
        self.attend = attend
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self._init_weights()

    def _init_weights(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Each block adds twice to the residual stream; without the second factor the
                # stream's variance would grow with depth (Radford et al. 2019, section 2.3).
                scale = 1 / math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                # Positions start at half the size of everything else, as in OpenAI's released code.
                nn.init.normal_(parameter, std=0.01 if name == "wpe.weight" else 0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Token plus position embeddings (B, T, C) of `tokens` (B, T), the first at position `start`."""
        end = start + tokens.shape[1]
        if end > self.config.block_size:
            raise ValueError(
                f"{end} tokens are more than the model's context of {self.config.block_size}; use shorter sequences"
            )
        return self.drop(self.wte(tokens) + self.wpe(torch.arange(start, end, device=tokens.device)))

    def unembed(self, x: Tensor) -> Tensor:
        """Logits (..., V) of the residual stream `x` (..., C) after `ln_f`."""
        # The head is the transposed token embedding (tied): one matrix of V x C, not two. Its gradient
        # is the sum of both uses. With a second, untied matrix there would be 163,037,184 parameters.
        return F.linear(x, self.wte.weight)

    def transform(self, x: Tensor) -> Tensor:
        """The residual stream `x` (B, T, C) after all blocks and the last norm, (B, T, C)."""
        for block in self.h:
            x = block(x, self.attend)
        return self.ln_f(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.unembed(self.transform(self.embed(tokens)))  # (B, T, V)
